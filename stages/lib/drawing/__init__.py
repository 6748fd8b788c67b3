"""What figures are drawn with: the same bytes for the same numbers and pictures."""

from pathlib import Path

from stages.lib.core import outs

LOCAL = "figures"
"""The folder beside cases.csv for figures that show cases where `ingest.pictures` keeps them out of metrics/: no out,
so neither git nor dvc takes them."""


def place(metrics: Path, local: Path, may_show: bool) -> Path:
    """The folder for figures that show cases: that in metrics/, or the local one, which is its owner's alone.

    Where the one in metrics/ may have them, the local one is removed: it may hold those of another run.
    """
    if may_show:
        outs.remove(local)
        return metrics
    local.mkdir(mode=0o700, parents=True, exist_ok=True)
    return local
