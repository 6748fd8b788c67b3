"""Writes every dataset's curves and figures as one page that needs no network and no other file.

    python -m tools.plots                 # this working tree
    python -m tools.plots main            # main beside it, in the same charts

`dvc plots` draws the charts; here vega's code and the figures are put into its page.
"""

import argparse
import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import vl_convert

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError

TEMPLATE = Path(__file__).with_name("plots.html")
VEGA_LITE = "v5.20"  # the major version that dvc's charts are written for


@terminal.program()
def main(revisions: list[str], page: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        drawn = _draw(revisions, Path(folder))
        outs.write_bytes(page, _with_figures(drawn).replace("{vega}", _vega()).encode())
    print(f"{page}: open it in a browser")


def _draw(revisions: list[str], folder: Path) -> Path:
    verb = ["diff", *revisions] if revisions else ["show"]
    command = [sys.executable, "-m", "dvc", "plots", *verb, "--html-template", str(TEMPLATE), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    page = folder / "index.html"
    if done.returncode or not page.exists() or not re.search(r"spec = {[^}]|<img", page.read_text()):
        raise UserError(f"dvc has no plots to show: run dvc repro first\n{done.stderr}".strip())
    return page


def _with_figures(page: Path) -> str:
    def embedded(match: re.Match[str]) -> str:
        figure = (page.parent / match["path"]).read_bytes()
        return f'<img src="data:image/png;base64,{base64.b64encode(figure).decode()}"'

    return re.sub(r'<img src="(?P<path>[^":]+)"', embedded, page.read_text())


def _vega() -> str:
    """The code of vega, vega-lite and vega-embed, fit to stand inside a script element."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE).replace("</script", "<\\/script")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.plots", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revisions", nargs="*", help="revisions to draw beside the working tree")
    parser.add_argument("--page", type=Path, default=Path("plots.html"))
    options = parser.parse_args()
    main(options.revisions, options.page)
