"""What a model is to answer, where that is more than one class: numbers of each case, in columns of their own.

cases.csv and split.csv have one of these, or none where the target is the class alone:

    target.classes.cat, target.classes.dog              how much of each class a case is: a panel's votes
    target.ordinal.none, target.ordinal.mild, ...       likewise, of classes in this order
    target.multilabel.effusion, target.multilabel.mass  1 where it is there, 0 where not, empty where nobody knows
    target.regression.diameter [mm]                     a number
    target.log_regression.volume [ml]                   a number above 0, of which the model learns the logarithm

and, where cases do not count alike, the column `weight`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Kind = Literal["classes", "ordinal", "multilabel", "regression", "log_regression"]
KINDS = get_args(Kind)
OF_ONE_CLASS = ("classes", "ordinal")  # of several, a case is one
NUMBERS = ("regression", "log_regression")
BOUNDS = (" low", " high")  # of the interval of a number
PREFIX = "target."
WEIGHT = "weight"
COLUMN = re.compile(rf"target\.({'|'.join(KINDS)})\.(.*)", re.DOTALL)
WITH_UNIT = re.compile(r"(.*) \[(.*)\]", re.DOTALL)
ROUNDED = 1e-5  # how far from 1 the sum of a case's classes may be


@dataclass(frozen=True)
class Target:
    """What is asked of every case: K numbers."""

    kind: Kind
    names: tuple[str, ...]  # K: of the classes, in their order, of the labels, or of the number
    unit: str = ""  # of the number

    @property
    def of_one_class(self) -> bool:
        """Whether a case is of one class of several, so that their probabilities add up to 1."""
        return self.kind in OF_ONE_CLASS

    @property
    def of_number(self) -> bool:
        return self.kind in NUMBERS

    @property
    def columns(self) -> list[str]:
        """What the columns are called, K."""
        unit = f" [{self.unit}]" if self.unit else ""
        return [f"{PREFIX}{self.kind}.{name}{unit}" for name in self.names]

    @property
    def outputs(self) -> list[str]:
        """What the columns of a model's answers are called: a name each, or the number and its interval."""
        return [f"{self.names[0]}{bound}" for bound in ("", *BOUNDS)] if self.of_number else list(self.names)

    @property
    def outputs_with_unit(self) -> list[str]:
        """As `outputs`, for people: diameter [mm], diameter low [mm], diameter high [mm]."""
        return [f"{name} [{self.unit}]" if self.unit else name for name in self.outputs]

    @property
    def name(self) -> str:
        """What stands for a class in tables that have one, where a case is not of one class."""
        return self.names[0] if self.of_number else self.kind

    def check(self) -> None:
        """Checks that there can be such a target.

        Raises:
            ValueError: There can't.
        """
        if self.kind not in KINDS or not self.names or "" in self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"target: {self.kind} of {', '.join(self.names) or 'nothing'} is none")
        if self.of_number and len(self.names) > 1:
            raise ValueError(f"target: {self.kind} is of one number")

    def wrong(self, values: np.ndarray) -> np.ndarray:
        """Which rows are no answers to it, (N,) bool.

        Args:
            values: (N, K) float; nan is for what is not known.
        """
        with np.errstate(invalid="ignore"):
            if self.kind == "multilabel":
                return ~(np.isnan(values) | (values == 0) | (values == 1)).all(axis=1)
            if self.of_one_class:
                return ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < ROUNDED))
            lowest = 0 if self.kind == "log_regression" else -np.inf
            return ~(np.isfinite(values) & (values > lowest)).all(axis=1)


def found(header: Sequence[str]) -> Target | None:
    """The target that a table's columns are of.

    Raises:
        ValueError: They are of several, or of none that there can be.
    """
    matches = [match for name in header if (match := COLUMN.fullmatch(name))]
    if not matches:
        return None
    kinds = {match[1] for match in matches}
    names, unit = [match[2] for match in matches], ""
    if len(kinds) == 1 and kinds < set(NUMBERS) and (with_unit := WITH_UNIT.fullmatch(names[0])):
        names[0], unit = with_unit.groups()
    if len(kinds) > 1:
        raise ValueError(f"its columns are of several targets: {', '.join(sorted(kinds))}")
    target = Target(matches[0][1], tuple(names), unit)  # type: ignore[arg-type]
    target.check()
    return target
