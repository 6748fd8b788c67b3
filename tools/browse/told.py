"""What a model said of the cases, by what it was asked: classes, labels or a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.lib.targets import NUMBERS, OF_ONE_CLASS, Target

NO_CHOICE = 0.5  # from this probability on a label is taken to hold where no threshold was chosen
BETWEEN = " | "  # labels that hold, in one text
NONE = "no label"
SHOWN = 4  # of a number, for people

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Truth:
    """What is true of some cases, N of them."""

    labels: Sequence[str]  # the class of each, or the text that stands for what is true
    target: Target | None = None  # None: the class alone
    values: np.ndarray | None = None  # (N, K) float64, of the target; nan: not known

    def of(self, i: int) -> dict[str, float | None]:
        """What is true of a case, by name of the target; {} where that is the class alone."""
        if self.target is None or self.values is None:
            return {}
        return {name: plain(v) for name, v in zip(self.target.names, self.values[i], strict=True)}

    @property
    def parts(self) -> list[list[str]]:
        """By which of them each case can be found: its class; each label, with or without; a quarter of the numbers."""
        if self.target is None or self.values is None or self.target.of_one_class:
            return [[label] for label in self.labels]
        if self.target.of_number:
            return quarters(self.values[:, 0], self.cuts, self.target.unit)
        return [_with_and_without(self.target.names, row) for row in self.values]

    @property
    def cuts(self) -> np.ndarray:
        """The quartiles of the numbers."""
        assert self.values is not None
        known = self.values[np.isfinite(self.values[:, 0]), 0]
        return np.unique(np.quantile(known, [0.25, 0.5, 0.75])) if len(known) else np.zeros(0)


@dataclass(frozen=True)
class Predictions:
    """One revision's predictions.csv: nothing of the training split."""

    revision: str
    kind: str  # of the target, as of `targets.Target`
    names: Sequence[str]  # of the K classes or labels, or of the one number
    row_of: dict[str, int]  # by case
    predicted: Sequence[str]  # the class; of labels and a number, `said` tells
    said: np.ndarray  # (N, K) probabilities, or (N, 3): a number and its bounds
    thresholds: Sequence[float] = ()  # of labels: the probability from which on each is taken to hold
    unit: str = ""  # of a number

    def of(self, case: str) -> dict[str, float] | None:
        """A case's probability of each class or label, or its number and bounds; None where it was not predicted."""
        if (row := self.row_of.get(case)) is None:
            return None
        names = [f"{self.names[0]}{bound}" for bound in ("", " low", " high")] if self.of_number else self.names
        return {name: float(p) for name, p in zip(names, self.said[row], strict=True)}

    @property
    def of_number(self) -> bool:
        return self.kind in NUMBERS

    def answers(self, cases: Sequence[str], truth: Truth) -> Columns:
        """For each case what the page shows and sorts by, a list for each property, None where nothing is known:

        predicted, parts     the answer as text, and as of `Truth.parts`
        right                whether it is: of a number, whether what is true lies within the bounds
        error                how wrong: the probability that the true class did not get, of ordered ones with the grades
                             between; of labels, how sure the most wrong one was; of a number, the distance, in its unit
        p, p_label, lead     of classes: the probability of the answer, of the true class, and by how much the first
                             leads; `lead` of labels: how far the least certain one is from its threshold, 0 to 1
        """
        names = ("predicted", "parts", "right", "error", "p", "p_label", "lead")
        columns: Columns = {name: [None] * len(cases) for name in names}
        cuts = truth.cuts if self.of_number and _is_number(truth) else np.zeros(0)
        for i, case in enumerate(cases):
            if (row := self.row_of.get(case)) is None:
                continue
            if self.of_number:
                found = self._number(self.said[row], truth, i)
                found["parts"] = quarters(self.said[row, :1], cuts, self.unit)[0]
            elif self.kind == "multilabel":
                found = self._labels(self.said[row], truth, i)
            else:
                found = self._classes(self.said[row], self.predicted[row], truth.labels[i])
            if not self._answers(truth.target):  # trained when something else was asked
                found |= dict.fromkeys(("right", "error", "p_label"))
            for name, value in found.items():
                columns[name][i] = value
        return columns

    def _answers(self, target: Target | None) -> bool:
        """Whether this is an answer to what is asked now."""
        if target is None or target.of_one_class:
            return self.kind in OF_ONE_CLASS
        return self.of_number if target.of_number else self.kind == target.kind

    def _classes(self, chances: np.ndarray, predicted: str, label: str) -> dict[str, Any]:
        names = list(self.names)
        first, *others = sorted(chances.tolist(), reverse=True)
        found: dict[str, Any] = {"predicted": predicted, "parts": [predicted], "right": predicted == label}
        found |= {"p": first, "lead": first - (others[0] if others else 0.0)}
        if label in names:
            found["p_label"] = float(chances[names.index(label)])
            grades = abs(names.index(predicted) - names.index(label)) if self.kind == "ordinal" else 0
            found["error"] = grades + 1 - found["p_label"]
        return found

    def _labels(self, chances: np.ndarray, truth: Truth, i: int) -> dict[str, Any]:
        """What is not known of a case, or was not asked, is not wrong."""
        thresholds = np.array(list(self.thresholds) or [NO_CHOICE] * len(self.names))
        holds = chances >= thresholds
        beyond = np.where(
            holds, (chances - thresholds) / (1 - thresholds).clip(1e-9), 1 - chances / thresholds.clip(1e-9)
        )
        known = truth.of(i)
        true = np.array([np.nan if (v := known.get(name)) is None else v for name in self.names])
        wrong = ~np.isnan(true) & (holds != (true == 1))
        return {
            "predicted": BETWEEN.join(name for name, there in zip(self.names, holds, strict=True) if there)
            or "no label",
            "parts": _with_and_without(self.names, holds.astype(float)),
            "right": None if np.isnan(true).all() else not bool(wrong.any()),
            "error": None if np.isnan(true).all() else float(np.where(wrong, beyond, 0.0).max()),
            "lead": float(beyond.min()),
        }

    def _number(self, said: np.ndarray, truth: Truth, i: int) -> dict[str, Any]:
        """Without a validation case there are no bounds, and nothing is right or wrong."""
        value, low, high = said.tolist()
        text = with_unit(value, self.unit)
        found: dict[str, Any] = {"predicted": f"{text} ({low:.{SHOWN}g} to {high:.{SHOWN}g})" if low < high else text}
        true = truth.values[i, 0] if _is_number(truth) and truth.values is not None else np.nan
        if np.isfinite(true):
            found["error"] = abs(value - float(true))
            found["right"] = bool(low <= true <= high) if low < high else None
        return found


def text_of(target: Target, values: np.ndarray) -> list[str]:
    """What is true of cases, for people: the number with its unit, or the labels that hold, `mass?` if nobody knows.

    Args:
        values: (N, K) float64; nan: not known.
    """
    if target.of_number:
        return [with_unit(value, target.unit) for value in values[:, 0].tolist()]
    found = []
    for row in values:
        told = [name if v == 1 else f"{name}?" for name, v in zip(target.names, row, strict=True) if not v == 0]
        found.append(BETWEEN.join(told) or NONE)
    return found


def with_unit(value: float, unit: str) -> str:
    return f"{value:.{SHOWN}g}{f' {unit}' if unit else ''}"


def quarters(values: np.ndarray, cuts: np.ndarray, unit: str) -> list[list[str]]:
    """The part of the numbers that each lies in, as text; the part's place in their order comes first, to sort by."""
    names = [f"{cut:.{SHOWN}g}" for cut in cuts]
    parts = [f"below {names[0]}" if names else "all"]
    parts += [f"{low} to {high}" for low, high in zip(names, names[1:], strict=False)]
    parts += [f"{names[-1]} or more"] if names else []
    texts = [f"{k + 1}: {part}{f' {unit}' if unit and names else ''}" for k, part in enumerate(parts)]
    return [[texts[k]] for k in np.searchsorted(cuts, values, side="right")]


def plain(value: float) -> float | None:
    """For JSON, which has no nan."""
    return float(value) if np.isfinite(value) else None


def _with_and_without(names: Sequence[str], row: np.ndarray) -> list[str]:
    return [
        f"{'unknown: ' if np.isnan(v) else 'with ' if v == 1 else 'without '}{name}"
        for name, v in zip(names, row, strict=True)
    ]


def _is_number(truth: Truth) -> bool:
    return truth.target is not None and truth.target.of_number
