"""What was measured, and its JSON file: a group that is run again replaces its own results alone."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core import outs
from stages.lib.core.errors import UserError
from tools.bench.machine import Machine
from tools.bench.timing import Comparison


class Growth(NamedTuple):
    """What a stage takes for so many cases: one number per size in each list."""

    stage: str
    cases: list[int]
    seconds: list[float]
    mebibytes: list[float]  # peak of the largest of its processes
    disk_bytes: list[int]  # of what it leaves there

    @property
    def slope(self) -> float:
        """The exponent p of seconds = constant * cases ** p, by least squares in the logarithms; nan for one size."""
        if len(self.cases) < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.cases), np.log(self.seconds), 1)[0])


class Measured(NamedTuple):
    """What a group's `run` gives."""

    comparisons: list[Comparison] = []
    growth: list[Growth] = []
    remarks: list[str] = []  # sentences about this run, such as what was left out


class Group(NamedTuple):
    """A group's results, with when and where they were measured."""

    name: str
    about: str  # a title, an empty line, and what is measured
    date: str
    machine: Machine
    versions: dict[str, str]  # of packages
    measured: Measured


def load(path: Path) -> dict[str, Group]:
    """The groups by name; none where there is no file.

    Raises:
        UserError: The file is none that `save` wrote.
    """
    if not path.exists():
        return {}
    try:
        return {name: _group(plain) for name, plain in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not as python -m tools.bench writes it ({error}): delete it") from None


def save(path: Path, groups: dict[str, Group]) -> None:
    """Writes the groups, numbers with six digits."""
    outs.write_json(path, {name: _plain(group) for name, group in groups.items()})


def _plain(group: Group) -> dict[str, Any]:
    measured = {name: [_as_dict(one) for one in of] for name, of in group.measured._asdict().items()}
    return group._asdict() | {"machine": group.machine._asdict(), "measured": measured}


def _as_dict(one: Any) -> Any:
    return one._asdict() if hasattr(one, "_asdict") else one


def _group(plain: dict[str, Any]) -> Group:
    of = plain["measured"]
    measured = Measured(
        [Comparison(**one) for one in of["comparisons"]], [Growth(**one) for one in of["growth"]], of["remarks"]
    )
    return Group(**(plain | {"machine": Machine(**plain["machine"]), "measured": measured}))
