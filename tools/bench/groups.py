"""The groups of works, what they may be given, and how one is run."""

import importlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from tools.bench import machine
from tools.bench.results import Group, Measured

GROUPS = (
    "defaults", "end_to_end", "ingest", "data", "training", "steps", "export", "loading", "decoding", "starting",
    "store", "growth",
)  # fmt: skip
"""Modules of this package, in the order of the page."""


class Options(NamedTuple):
    """The command's arguments, as far as they concern the groups."""

    rounds: int = 5
    threads: int = 0  # of torch; 0 leaves it as it is
    pictures: Path | None = None  # a folder with one folder of JPEG files per class
    series: Path | None = None  # a folder with one CT series
    tasks: Path | None = None  # a folder of folders, each with a folder of pictures per class
    images: Path | None = None  # a folder or zip file with a folder of images per class, airplane and bird among them
    models: Path = Path("models/digits")
    cases: tuple[int, ...] = (1_000, 10_000, 100_000)


class Missing(UserError):
    """A group was not given what it needs: it is left out, unless it was asked for by name."""


def named(names: Sequence[str]) -> list[str]:
    """The groups of these names, in the order of the page; all for none.

    Raises:
        UserError: A name is none of theirs.
    """
    if unknown := sorted(set(names) - set(GROUPS)):
        raise UserError(f"there is no group {', '.join(unknown)}: expected {', '.join(GROUPS)}")
    return [name for name in GROUPS if name in names or not names]


def run(name: str, options: Options) -> Group:
    """Measures a group now, on this machine.

    Raises:
        Missing: It was not given what it needs.
        UserError: A peer does other work than ours, or what was given is not as expected.
    """
    module = importlib.import_module(f"tools.bench.{name}")
    measured: Measured = module.run(options)
    about = (module.__doc__ or "").strip()
    return Group(name, about, date.today().isoformat(), machine.facts(), machine.versions(), measured)
