"""Writes every dataset's curves and figures as one page that needs no network and no other file.

    python -m tools.plots                 # this working tree
    python -m tools.plots main            # main beside it, in the same charts

`dvc plots` gives the charts' specifications and the figures. Whatever a class or a branch is called stays text: it is
data of the page, never part of its HTML or code, and the page's policy runs no code but vega's and `DRAW`.
"""

import argparse
import base64
import html
import json
import mimetypes
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import vl_convert

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from tools.policy import hash_of

TEMPLATE = Path(__file__).with_name("plots.html")
VEGA_LITE = "v5.20"  # the major version that dvc's charts are written for
STYLE = """
  body { font-family: system-ui, sans-serif; margin: 1.5rem; }
  section { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
  figure, #charts > div { margin: 0; max-width: 100%; }
  svg.marks { max-width: 100%; height: auto; }
  img { max-width: 100%; }
  #vg-tooltip-element { visibility: hidden; position: fixed; padding: .5rem; background: #fff; border: 1px solid #888; }
  #vg-tooltip-element.visible { visibility: visible; }
"""
# `ast` lets vega interpret its expressions; to compile them, the policy would have to allow eval. A chart's menu would
# show the data as HTML, or send it to an editor in the network.
DRAW = """
  const options = { ast: true, actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  for (const specification of JSON.parse(document.getElementById("specifications").textContent)) {
    const place = document.getElementById("charts").appendChild(document.createElement("div"));
    vegaEmbed(place, specification, options).catch((error) => { place.textContent = String(error); });
  }
"""


@terminal.program()
def main(revisions: list[str], page: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outs.write_bytes(page, fill(*_drawn(revisions, Path(folder))).encode())
    print(f"{page}: open it in a browser")


def fill(specifications: list[dict[str, Any]], figures: list[tuple[str, Path]]) -> str:
    """The page.

    Args:
        specifications: Of vega-lite, each with its data.
        figures: Captions and files of pictures.
    """
    page = TEMPLATE.read_text(encoding="utf-8")
    vega = _vega()
    parts = {"style": STYLE, "vega": vega, "draw": DRAW, "specifications": as_data(specifications)}
    parts |= {"scripts": f"{hash_of(vega)} {hash_of(DRAW)}", "styles": hash_of(STYLE)}
    parts |= {"figures": "\n".join(_figure(*figure) for figure in figures)}
    before, *others = page.split("{")  # at once, as a class may be called "{vega}", too
    return before + "".join(parts[name] + text for name, _, text in (other.partition("}") for other in others))


def as_data(value: Any) -> str:
    """JSON that can end no element of HTML: `<`, `>` and `&` as JSON spells them, and nothing but ASCII."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _drawn(revisions: list[str], folder: Path) -> tuple[list[dict[str, Any]], list[tuple[str, Path]]]:
    """The charts and the figures, as dvc has them.

    Raises:
        UserError: There are none.
    """
    verb = ["diff", *revisions] if revisions else ["show"]
    command = [sys.executable, "-m", "dvc", "plots", *verb, "--json", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    try:
        # Metrics may be undefined: JSON has no word for that, and Python's is none for a browser.
        plots = json.loads(done.stdout, parse_constant=lambda word: None)["data"]
    except (ValueError, KeyError, TypeError):
        plots = {}
    drawn = [(name, one) for name, of_name in plots.items() for one in of_name]
    if done.returncode or not drawn:
        raise UserError(f"dvc has no plots to show: run dvc repro first\n{done.stderr}".strip())
    names = {name for name, _ in drawn}
    pictures = [
        (_caption(name, one["revisions"]), Path(one["url"]))
        for name, one in drawn
        if "url" in one and str(PurePosixPath(name).with_suffix(".svg")) not in names - {name}  # as good at any size
    ]
    return [one["content"] for _, one in drawn if one["type"] == "vega"], pictures


def _caption(name: str, revisions: list[str]) -> str:
    """ "digits: worst" of metrics/digits/figures/worst.png, "digits, external, clinic: worst" of
    metrics/digits/external/clinic/figures/worst.png; the revision, where it is not what lies here.
    """
    path = PurePosixPath(name)
    of = [part for part in path.parts[1:-1] if part != "figures"] if path.parts[0] == "metrics" else []
    revision = ", ".join(revision for revision in revisions if revision != "workspace")
    return f"{', '.join(of) or path.parent.name}: {path.stem}" + (f" ({revision})" if revision else "")


def _figure(caption: str, file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "image/png"
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<figure><figcaption>{html.escape(caption)}</figcaption><img src="data:{kind};base64,{data}"></figure>'


def _vega() -> str:
    """The code of vega, vega-lite and vega-embed, fit to stand inside a script element."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE).replace("</script", "<\\/script")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.plots", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("revisions", nargs="*", help="revisions to draw beside the working tree")
    parser.add_argument("--page", type=Path, default=Path("plots.html"))
    options = parser.parse_args()
    main(options.revisions, options.page)
