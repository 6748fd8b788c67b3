"""requirements/<stage>.txt: the lines of requirements.txt, without hashes, that one stage's outs depend on.

    python -m tools.requirements          # as `make requirements` does; needs no network

A stage depends on the pinned versions of the packages that it imports, so that a new matplotlib draws the figures anew
and trains nothing.
"""

import re
from pathlib import Path

from stages.lib import params
from stages.lib.core import sources, terminal

PINNED = sources.ROOT / "requirements.txt"
FOLDER = sources.ROOT / "requirements"
NAME = re.compile(r"[A-Za-z0-9._-]+")


@terminal.program()
def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for stage in dict.fromkeys([*params.SECTIONS, *params.STUDY_STAGES]):
        (FOLDER / f"{stage}.txt").write_text(lines(stage, PINNED.read_text(encoding="utf-8")), encoding="utf-8")


def lines(stage: str, pinned: str) -> str:
    """What requirements/<stage>.txt holds.

    Args:
        pinned: The text of requirements.txt.

    Raises:
        KeyError: The stage imports a package that is not pinned.
    """
    by_name: dict[str, list[str]] = {}
    for line in pinned.splitlines():
        if found := NAME.match(line):
            by_name.setdefault(found[0].lower(), []).append(line.removesuffix(" \\"))
    wanted = sources.distributions(sources.closure(_script(stage)))
    return "".join(f"{line}\n" for name in wanted for line in by_name[name])


def _script(stage: str) -> Path:
    return sources.ROOT / "stages" / f"{stage}.py"


if __name__ == "__main__":
    main()
