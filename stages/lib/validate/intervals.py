"""An interval around every score that a split's groups can give one.

Accuracy, precision and recall are proportions, and have exact intervals; the other scores have those of the bootstrap.
Where all resamples are alike because nothing went wrong (or everything), the bound is exact again: a score of 1 from 50
cases is not known to be 1.
"""

from collections.abc import Sequence

import numpy as np

from stages.lib.validate import bootstrap, proportions, scores

LEVEL = 0.95
HIGHEST = {"log_loss": np.inf, "brier": 2.0}  # of the others 1; the lowest is 0
NO_MISTAKES = frozenset(scores.OVERALL) - {"log_loss", "brier", "calibration_error"} | frozenset(scores.PER_CLASS)
"""1 if nothing went wrong, 0 if everything did."""

RANKED = ("auroc", "average_precision")
Intervals = dict[str, np.ndarray]


def intervals(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[str], resamples: int, seed: int
) -> tuple[Intervals, Intervals]:
    """The bounds between which a score lies at `LEVEL`; they hold the score's value.

    Args:
        labels: (N,) index of the true class.
        probabilities: (N, K).
        groups: (N,) the group of each case.

    Returns:
        Low and high of the overall scores, (2,) each, and of the scores per class, (2, K) each. A score that has no
        value, or of which the cases say nothing, has nan.
    """
    of_all, of_classes = scores.weighted(labels, probabilities, np.ones((1, len(labels))))
    blocks = [scores.weighted(labels, probabilities, block) for block in bootstrap.weights(groups, resamples, seed)]
    overall = {k: _bootstrapped(k, of_all[k], np.concatenate([b[0][k] for b in blocks])[:, None])[:, 0] for k in of_all}
    per_class = {k: _bootstrapped(k, of_classes[k][0], np.concatenate([b[1][k] for b in blocks])) for k in of_classes}

    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    answer, everything = probabilities.argmax(1), np.ones(len(labels), bool)
    overall["accuracy"] = proportions.interval(answer == labels, everything, index, LEVEL)
    for k in range(probabilities.shape[1]):
        for name, counted in (("precision", answer == k), ("recall", labels == k)):
            per_class[name][:, k] = proportions.interval(answer == labels, counted, index, LEVEL)

    trials = _trials(labels, index, probabilities.shape[1])
    for name in NO_MISTAKES & overall.keys() - {"accuracy"}:
        overall[name] = _unanimous(of_all[name][0], overall[name], trials[name in RANKED])
    for name in NO_MISTAKES & per_class.keys() - {"precision", "recall"}:
        for k, number in enumerate(trials[name in RANKED]):
            per_class[name][:, k] = _unanimous(of_classes[name][0, k], per_class[name][:, k], [number])
    return overall, per_class


def _bootstrapped(name: str, value: np.ndarray, resampled: np.ndarray) -> np.ndarray:  # (K,), (R, K) -> (2, K)
    return bootstrap.bounds(value, resampled, LEVEL).clip(0, HIGHEST.get(name, 1.0))


def _unanimous(value: float, bounds: np.ndarray, trials: Sequence[int]) -> np.ndarray:
    """The bounds, (2,), of a score of which all resamples are alike, if it is 1 or 0; else those that it has."""
    unknown = 1 - proportions.least_mean(trials, LEVEL)
    if not np.isnan(bounds).any() or not np.isfinite(unknown) or not (value < 1e-12 or value > 1 - 1e-12):
        return bounds
    return np.array([0.0, unknown] if value < 0.5 else [1 - unknown, 1.0])


def _trials(labels: np.ndarray, groups: np.ndarray, classes: int) -> tuple[list[int], list[int]]:
    """How many independent trials each class has: its groups; and of ranking, pairs of a group of it and another."""
    of_class = [len(np.unique(groups[labels == k])) for k in range(classes)]
    of_others = [len(np.unique(groups[labels != k])) for k in range(classes)]
    most = len(np.unique(groups)) // 2  # no group is in two pairs
    return of_class, [min(*pair, most) for pair in zip(of_class, of_others, strict=True)]
