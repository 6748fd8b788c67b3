"""Writes the report of a change, from git-tracked files alone; exit 0: it passes, 3: a gate refuses it, 1: an error.

python -m tools.report main                   # the working tree against main
python -m tools.report main topic             # one branch against the other
python -m tools.report main...topic           # what topic did since it left main
python -m tools.report brisk-newt wavy-dove   # two experiments of dvc exp show
"""

import argparse
import sys
from pathlib import Path

from stages.lib.core import outs, terminal
from tools.report import contents, page, revisions

REFUSED = 3


@terminal.program()
def main() -> int:
    options = _parser().parse_args()
    root = revisions.find_root(Path.cwd())
    base, head = revisions.resolve_pair(root, options.base, options.head)
    report = contents.gather(base, head)
    text = page.render(report, options.links)
    if options.markdown:
        outs.write_bytes(options.markdown, text.encode())
        print(page.verdict(report))
    else:
        sys.stdout.write(text)
    if options.json:
        outs.write_json(options.json, report)
    return 0 if report["passed"] else REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "base", help="branch, tag, commit or experiment to compare with; main... is where HEAD left main"
    )
    parser.add_argument("head", nargs="?", help="the same; left out: the working tree")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page here, not to the terminal")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    parser.add_argument(
        "--links", default="", metavar="URL", help="show pictures from here: URL + path in the repository"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
