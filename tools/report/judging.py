"""The scores of one split of predictions.csv, by what the model was asked: classes, labels or a number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from stages.lib.params.validate import Described
from stages.lib.validate import label_scores, number_scores, scores
from tools.report.snapshot import KEYS, PROBABILITY_OF

Judge = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From how often each case occurs, (R, N), to the scores by name, (R,)."""


@dataclass(frozen=True)
class Asked:
    """What a revision's model was asked; `target` of validate.json."""

    kind: str = "classes"
    names: tuple[str, ...] = ()  # of classes or labels; none where the columns of predictions.csv say it
    weighted: bool = False  # whether the last column is the cases' weight
    thresholds: tuple[float, ...] = ()  # of labels

    @staticmethod
    def of(validate: Mapping[str, Any]) -> "Asked":
        """Args: validate: validate.json."""
        target = validate.get("target")
        if target is None:
            return Asked()
        thresholds = validate.get("deployed", {}).get("thresholds", ())
        return Asked(target["kind"], tuple(target["names"]), target["weighted"], tuple(thresholds))

    @property
    def is_plain(self) -> bool:
        """Whether each case is of one class, all count alike, and nothing else is known."""
        return self == Asked()

    def judge(self, table: pd.DataFrame) -> Judge:
        """Args: table: Rows of predictions.csv."""
        numbers = table.iloc[:, len(KEYS) :].to_numpy(np.float64)
        weight = numbers[:, -1] if self.weighted else 1.0
        if self.kind == "multilabel":
            k = len(self.names)
            thresholds = np.array(self.thresholds or [0.5] * k)
            return lambda times: label_scores.weighted(
                numbers[:, k : 2 * k], numbers[:, :k], thresholds, times * weight
            )[0]
        if self.kind in ("regression", "log_regression"):
            truth = table["label"].to_numpy(np.float64)
            return lambda times: _ranked(number_scores.weighted(truth, numbers[:, :3], times * weight))
        labels, probabilities, shares = self._classes(table, numbers)
        return lambda times: self._of_classes(labels, probabilities, shares, times * weight)

    def _of_classes(
        self, labels: np.ndarray, probabilities: np.ndarray, shares: np.ndarray | None, weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        found = scores.weighted(labels, probabilities, weight, shares)[0]
        if self.kind == "ordinal":
            found |= scores.in_grades(labels, probabilities.argmax(1), probabilities.shape[1], weight)
        return found

    def _classes(self, table: pd.DataFrame, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Labels as indices (N,), probabilities (N, K), and how much of each class a case is, (N, K), if that is known.

        A label that is no class of the model has probability 0.
        """
        columns = [str(name).removeprefix(PROBABILITY_OF) for name in table.columns[len(KEYS) :]]
        classes = list(self.names) or columns
        shares = numbers[:, len(classes) : 2 * len(classes)] if len(columns) >= 2 * len(classes) else None
        unknown = sorted(set(table["label"]) - set(classes))
        probabilities = np.pad(numbers[:, : len(classes)], ((0, 0), (0, len(unknown))))
        shares = None if shares is None else np.pad(shares, ((0, 0), (0, len(unknown))))
        index = {name: k for k, name in enumerate([*classes, *unknown])}
        return table["label"].map(index).to_numpy(np.int64), probabilities, shares


def _ranked(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without what is described, of which neither direction is better."""
    return {name: value for name, value in found.items() if name not in get_args(Described)}
