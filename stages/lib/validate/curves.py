"""Points for `dvc plots` and the figures: ROC and precision-recall, one class against the rest; reliability.

git keeps them, so the number of points does not grow with the split: those stay that the curve's shape needs most.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.lib.validate import scores

TABLE_POINTS = 2000  # divided among the classes
MIN_CLASS_POINTS = 50  # however many classes there are

Corner = tuple[float, int, int, int]  # minus the distance from the chord; indices of the corner and the chord's ends


@dataclass(frozen=True)
class Ranking:
    """Cases that are to be told from others by a number."""

    name: str
    positive: np.ndarray  # (n,) bool
    score: np.ndarray  # (n,), higher where the case is more likely one
    weight: np.ndarray  # (n,), how often each case counts; above 0

    @property
    def is_one_sided(self) -> bool:
        """Whether there is nothing to tell: no case is positive, or all are."""
        return not self.positive.any() or bool(self.positive.all())


def ranking(name: str, positive: np.ndarray, score: np.ndarray, weight: np.ndarray | None) -> Ranking:
    """Of (N,) cases; those that count nothing are left out.

    Args:
        weight: (N,); None: all alike.
    """
    if weight is None:
        return Ranking(name, positive, score, np.ones(len(score)))
    counts = np.asarray(weight, np.float64)
    return Ranking(name, positive[counts > 0], score[counts > 0], counts[counts > 0])


def one_against_the_rest(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], weight: np.ndarray | None = None
) -> list[Ranking]:
    """Each class among all of them, by its probability."""
    return [ranking(name, labels == k, probabilities[:, k], weight) for k, name in enumerate(classes)]


def roc(rankings: Sequence[Ranking]) -> pd.DataFrame:
    """class, false_positive_rate, true_positive_rate, threshold; a class that is absent, or alone, has no curve."""
    parts = [pd.DataFrame(columns=["class", "false_positive_rate", "true_positive_rate", "threshold"])]
    for one in rankings:
        if one.is_one_sided:
            continue
        true, false, threshold = _corners(one)
        true, false = np.append(0, true) / true[-1], np.append(0, false) / false[-1]
        columns = {"false_positive_rate": false, "true_positive_rate": true, "threshold": np.append(np.inf, threshold)}
        kept = thinned(false, true, _points(rankings))
        parts.append(pd.DataFrame({"class": one.name} | columns).iloc[kept])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def precision_recall(rankings: Sequence[Ranking]) -> pd.DataFrame:
    """class, recall, precision, threshold; a class that is absent, or alone, has no curve.

    One point for each recall, the lowest recall first, with the highest precision that it can be had at. It is drawn in
    steps: a point's precision holds from the recall before it to its own, so that the area below is the average
    precision. (With two points of one recall, whoever sorts them may draw a perfect model as a diagonal.)
    """
    parts = [pd.DataFrame(columns=["class", "recall", "precision", "threshold"])]
    for one in rankings:
        if one.is_one_sided:
            continue
        true, false, threshold = _taken(one)
        more = (
            np.diff(true, prepend=0) > 0
        )  # the thresholds after it take others alone: less precise, of the same recall
        true, false, threshold = true[more], false[more], threshold[more]
        recall, precision = np.append(0, true / true[-1]), np.append(1, true / (true + false))
        columns = {"recall": recall, "precision": precision, "threshold": np.append(np.nan, threshold)}
        kept = thinned_steps(precision, _points(rankings))
        parts.append(pd.DataFrame({"class": one.name} | columns).iloc[kept])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _taken(one: Ranking) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives at each threshold, the highest first, and the thresholds, (T,) each."""
    true, false, threshold = scores.ranked(one.positive, one.score, one.weight[None])
    return true.ravel(), false.ravel(), threshold


def _corners(one: Ranking) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_taken`, without those between others on one line of the ROC curve."""
    true, false, threshold = _taken(one)
    if len(true) > 2:
        kept = np.concatenate([[True], (np.diff(true, 2) != 0) | (np.diff(false, 2) != 0), [True]])
        true, false, threshold = true[kept], false[kept], threshold[kept]
    return true, false, threshold


def reliability(confidence: np.ndarray, right: np.ndarray, weight: np.ndarray | None = None) -> pd.DataFrame:
    """confidence, accuracy, cases: one row per bin of confidence that has a case.

    Args:
        confidence: (N,) from 0 to 1.
        right: (N,) whether it was justified, or how far, from 0 to 1.
        weight: (N,); None: all alike.
    """
    return pd.DataFrame(scores.reliability(confidence, right, weight))


def thinned(x: np.ndarray, y: np.ndarray, points: int) -> np.ndarray:
    """Indices of the points to keep: the ends, then one by one the point that is farthest from the curve so far.

    That is Douglas and Peucker's algorithm (1973) with a number of points given instead of a tolerance. What is left
    out lies on the curve that stays, or as near to it as so many points allow.
    """
    kept = {0, len(x) - 1}
    corners: list[Corner] = []
    _push_corner(corners, x, y, 0, len(x) - 1)
    while corners and len(kept) < points:
        _, middle, start, end = heapq.heappop(corners)
        kept.add(middle)
        _push_corner(corners, x, y, start, middle)
        _push_corner(corners, x, y, middle, end)
    return np.array(sorted(kept))


def thinned_steps(y: np.ndarray, points: int) -> np.ndarray:
    """Indices of the points to keep of a curve of steps, whose heights `y` hold from the point before to their own.

    One by one, the step that hides the largest difference of heights is cut at its middle.
    """
    kept = {0, len(y) - 1}
    steps: list[tuple[float, int, int]] = []  # minus the difference; indices of the step's ends

    def push(start: int, end: int) -> None:
        hidden = np.abs(y[start + 1 : end] - y[end]).max(initial=0)
        if hidden > 1e-9:
            heapq.heappush(steps, (-float(hidden), start, end))

    push(0, len(y) - 1)
    while steps and len(kept) < points:
        _, start, end = heapq.heappop(steps)
        middle = (start + end) // 2
        kept.add(middle)
        push(start, middle)
        push(middle, end)
    inner = sorted(kept)
    return np.array(
        [i for i, after in zip(inner, [*inner[1:], None], strict=True) if not i or after is None or y[i] != y[after]]
    )


def _push_corner(corners: list[Corner], x: np.ndarray, y: np.ndarray, start: int, end: int) -> None:
    """Adds the point between two others that is farthest from their chord, unless all lie on it."""
    if end - start < 2:
        return
    across, up = x[end] - x[start], y[end] - y[start]
    inner = slice(start + 1, end)
    area = np.abs(across * (y[inner] - y[start]) - up * (x[inner] - x[start]))
    distance = area / max(np.hypot(across, up), 1e-12)
    if distance.max() > 1e-9:
        heapq.heappush(corners, (-float(distance.max()), start + 1 + int(distance.argmax()), start, end))


def _points(rankings: Sequence[Ranking]) -> int:
    return max(MIN_CLASS_POINTS, TABLE_POINTS // len(rankings))
