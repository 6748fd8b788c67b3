"""Times the pipeline against other libraries and against itself, and writes docs/performance.md.

    python -m tools.bench                                              # all groups that need no data from outside
    python -m tools.bench --groups ingest --pictures cifar/ --series chest/
    python -m tools.bench --groups training --images cifar10.zip       # five seeds: about half an hour
    python -m tools.bench --render                                     # the page anew, from what was measured

`make bench` does so with the other libraries installed. A group's results replace its former ones in
docs/performance.json; the page shows all of them. Run it on a machine that does nothing else.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.lib.core import terminal
from stages.lib.core.progress import say
from tools.bench import groups, results
from tools.bench.groups import Missing, Options

PAGE = Path("docs/performance.md")


@terminal.program()
def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    kept = given.output.with_suffix(".json")
    names = groups.named(given.groups)
    if not given.render:
        options = Options(**{name: value for name, value in vars(given).items() if name in Options._fields})
        for name in names:
            measure(name, options, kept, asked=bool(given.groups))
    render(given.output, kept)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=(__doc__ or "").partition("\n")[0])
    default = Options()
    known = ", ".join(groups.GROUPS)
    parser.add_argument("--groups", nargs="+", default=[], metavar="NAME", help=f"some of {known}; all by default")
    parser.add_argument("--rounds", type=int, default=default.rounds, help="turns of each work; seeds of trainings")
    parser.add_argument("--threads", type=int, default=default.threads, help="of torch; 0 is what torch chooses")
    pictures = "ingest, end_to_end: a folder with one folder of JPEG files per class"
    parser.add_argument("--pictures", type=Path, help=pictures)
    parser.add_argument("--tasks", type=Path, help="defaults: a folder of folders, each with a folder per class")
    parser.add_argument("--series", type=Path, help="ingest, decoding: a folder with one CT series, else one is made")
    parser.add_argument("--images", type=Path, help="training: a folder or zip file with a folder of images per class")
    parser.add_argument("--models", type=Path, default=default.models, help="export: a folder with exported files")
    parser.add_argument("--cases", type=int, nargs="+", default=default.cases, help="growth: numbers of pictures")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page; its JSON file and figures lie beside it")
    parser.add_argument("--render", action="store_true", help="measure nothing, only write the page")
    return parser


def measure(name: str, options: Options, kept: Path, asked: bool) -> None:
    """Runs a group and keeps its results.

    Args:
        asked: Whether it was asked for by name.

    Raises:
        Missing: It was, and lacks what it needs.
    """
    say(f"measuring {name}", sys.stderr)
    try:
        group = groups.run(name, options)
    except Missing as missing:
        if asked:
            raise
        say(f"{name} is left out: {missing}", sys.stderr)
        return
    results.save(kept, results.load(kept) | {name: group})


def render(output: Path, kept: Path) -> None:
    """Writes the page of all groups that have been measured, in their order."""
    from tools.bench import page  # here, as matplotlib takes half a second in every process that a group starts

    found = results.load(kept)
    page.write(output, [found[name] for name in groups.GROUPS if name in found])
    say(f"{output}: {', '.join(name for name in groups.GROUPS if name in found)}")


if __name__ == "__main__":
    main()
