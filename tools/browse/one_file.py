"""The page as one file that can be shared: small pictures and answers, and nothing to correct."""

import base64
import json
from pathlib import Path
from typing import Any

from stages.lib.core import outs
from stages.lib.core.progress import progress
from tools.browse.listing import Listing
from tools.browse.pictures import Pictures
from tools.policy import hash_of

HERE = Path(__file__).parent
SIDE = 320  # pixels of a picture, at most


def write(file: Path, dataset: str, listing: Listing, pictures: Pictures, most: int) -> str:
    """Writes the page, and gives a line to say.

    Args:
        most: Cases in it: those that are wrong first, then the least certain, then the others.
    """
    chosen = _chosen(listing, most)
    small: dict[str, str] = {}
    about: dict[str, dict[str, Any]] = {}
    for i in progress(chosen, "pictures", "case"):
        case = listing.cases[i]
        small[case] = "data:image/png;base64," + base64.b64encode(pictures.small(case, SIDE)).decode()
        about[case] = pictures.about(case) | listing.about(i)
    cases = {"dataset": dataset, "frozen": "", "marks": [], **listing.content(chosen)}
    embedded = json.dumps({"cases": cases, "small": small, "about": about}).replace("<", "\\u003c")
    script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    policy = (
        f"default-src 'none'; script-src {hash_of(script)}; style-src {hash_of(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (HERE / "page.html").read_text(encoding="utf-8")
    page = page.replace(
        '<link rel="stylesheet" href="page.css">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>',
    ).replace(
        '<script src="page.js"></script>',
        f'<script type="application/json" id="embedded">{embedded}</script>\n<script>{script}</script>',
    )
    outs.write_bytes(file, page.encode())
    left = len(listing.cases) - len(chosen)
    return f"{file}: {len(chosen)} cases" + (f"; {left} others are not in it (--most)" if left else "")


def _chosen(listing: Listing, most: int) -> list[int]:
    """The cases in the file, in the order of their names."""
    order = list(range(len(listing.cases)))
    if listing.predictions:
        now = listing.predictions[0].answers(listing.cases, listing.truth())
        right, error, lead = now["right"], now["error"], now["lead"]
        if listing.predictions[0].of_number:  # all are somewhat wrong, and none says how sure it is
            order.sort(key=lambda i: -1.0 if error[i] is None else error[i], reverse=True)
        else:
            order.sort(key=lambda i: (right[i] is None, right[i] is True, lead[i] or 0.0))
    return sorted(order[:most])
