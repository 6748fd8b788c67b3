"""Figures of docs/performance.md: one per table."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogFormatter  # noqa: E402

from tools.bench.results import Group, Growth  # noqa: E402
from tools.bench.timing import Comparison  # noqa: E402

AHEAD, BEHIND = "#2b6ca3", "#c2602c"
DPI = 110
MOST_CHARACTERS = 90  # of a bar's label


def draw(group: Group, folder: Path) -> list[str]:
    """Draws the group's figures into the folder; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    if any(of.ratio is not None for of in group.measured.comparisons):
        figures[f"{group.name}.png"] = bars(group.measured.comparisons)
    if group.measured.growth:
        figures[f"{group.name}_growth.png"] = lines(group.measured.growth)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
    return list(figures)


def bars(comparisons: Sequence[Comparison]) -> Figure:
    """A horizontal bar per comparison: what the peer takes divided by what ours takes, on a logarithmic axis."""
    rows = [(f"{of.work} | {of.peer}, {of.unit}", of.ratio) for of in comparisons if of.ratio is not None]
    names, ratios = [name[:MOST_CHARACTERS] for name, _ in rows], [ratio for _, ratio in rows]
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.28 * len(rows)))
    colours = [AHEAD if ratio >= 1 else BEHIND for ratio in ratios]
    # Widths from 1 on, as bars from 0 have no place on a logarithmic axis.
    axes.barh(range(len(rows)), [ratio - 1 for ratio in ratios], left=1, color=colours)
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("theirs / ours (above 1 ours is ahead)")
    return figure


def lines(growth: Sequence[Growth]) -> Figure:
    """A line per stage: seconds over cases, both axes logarithmic."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for of in growth:
        axes.loglog(of.cases, of.seconds, marker="o", label=f"{of.stage} (slope {of.slope:.2f})")
    axes.set_xlabel("cases")
    axes.set_ylabel("seconds")
    axes.legend()
    return figure
