"""The scores of predicted probabilities; a score that a split does not define is nan.

They are computed for many weightings of the cases at once, as the bootstrap needs them: a split's own scores are those
with every weight 1. tests/validate compares them with scikit-learn's, which takes a second to import and minutes for a
thousand resamples.
"""

import math
from typing import get_args

import numpy as np

from stages.lib.params.validate import Score

OVERALL = get_args(Score)
PER_CLASS = ("precision", "recall", "f1", "auroc", "average_precision")
BINS = 15  # of confidence, for the calibration error
Scores = dict[str, np.ndarray]  # by name, (R,) each; per class (R, K)


def overall(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The scores of a whole split, one number each.

    Averages over classes take the classes that occur: without a case there is no recall, AUROC or average precision.

    Args:
        labels: (N,) index of the true class.
        probabilities: (N, K), rows sum to 1.

    Returns:
        Scores by name; AUROC and average precision are one class against the rest, averaged over the classes.
    """
    if not len(labels):
        return dict.fromkeys(OVERALL, math.nan)
    found, _ = weighted(labels, probabilities, np.ones((1, len(labels))))
    return {name: float(found[name][0]) for name in OVERALL}


def per_class(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of each class against the rest, (K,) each; nan where the class would need a case and has none."""
    number = probabilities.shape[1]
    if not len(labels):
        return {name: np.full(number, math.nan) for name in PER_CLASS} | {"cases": np.zeros(number, int)}
    _, table = weighted(labels, probabilities, np.ones((1, len(labels))))
    found = {name: table[name][0] for name in PER_CLASS}
    found |= {name: np.nan_to_num(found[name]) for name in ("precision", "f1")}  # 0 for a class that is nowhere
    return found | {"cases": np.bincount(labels, minlength=number)}


def weighted(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> tuple[Scores, Scores]:
    """The scores with each row of weights: those of `overall`, (R,), and of `per_class`, (R, K).

    Args:
        weight: (R, N), how often each case occurs.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # a class without a case in a resample has no recall
        table = _per_class(labels, probabilities, weight)
        return _overall(labels, probabilities, weight, table), table


def ranked(truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many cases a threshold takes, for each score that occurs as threshold, the highest first.

    Args:
        truth: (N,) whether a case is of the class.
        score: (N,) taken are the cases whose score is not below the threshold.
        weight: (R, N), how often each case occurs.

    Returns:
        Those of the class and the others, (R, T) each, and the thresholds, (T,).
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of each run of ties
    true = np.cumsum(weight[:, order] * truth[order], axis=1)[:, last]
    false = np.cumsum(weight[:, order] * (1 - truth[order]), axis=1)[:, last]
    return true, false, score[order][last]


def auroc(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """The area under the ROC curve, (R,), of what `ranked` gives; nan where there is only one of the two kinds."""
    more_true, more_false = np.diff(true, prepend=0), np.diff(false, prepend=0)
    return (more_false * (true - more_true / 2)).sum(1) / (true[:, -1] * false[:, -1])


def _overall(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray, table: Scores) -> Scores:
    total = weight.sum(1)
    correct = (probabilities.argmax(1) == labels).astype(np.float64)
    of_truth = probabilities[np.arange(len(labels)), labels]
    squares = np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(1)
    present = np.where(np.isnan(table["recall"]), np.nan, 1.0)
    return {
        "accuracy": weight @ correct / total,
        "balanced_accuracy": _mean_of_classes(table["recall"]),
        "macro_precision": _mean_of_classes(table["precision"]),
        "macro_f1": _mean_of_classes(table["f1"]),
        "auroc": _mean_of_classes(table["auroc"] * present),
        "average_precision": _mean_of_classes(table["average_precision"] * present),
        "log_loss": weight @ -np.log(of_truth.clip(np.finfo(np.float64).eps)) / total,
        "brier": weight @ squares / total,
        "calibration_error": _calibration_error(probabilities, correct, weight) / total,
    }


def _per_class(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> Scores:
    truth = np.eye(probabilities.shape[1])[labels]  # (N, K)
    guess = np.eye(probabilities.shape[1])[probabilities.argmax(1)]  # (N, K)
    hits, cases, guesses = weight @ (truth * guess), weight @ truth, weight @ guess  # (R, K) each
    occurs = np.where(cases + guesses > 0, 1.0, np.nan)
    curves = [_areas(truth[:, k], probabilities[:, k], weight) for k in range(truth.shape[1])]
    return {
        "precision": np.where(guesses > 0, hits / guesses, 0.0) * occurs,
        "recall": hits / cases,
        "f1": 2 * hits / (cases + guesses),
        "auroc": np.stack([area for area, _ in curves], 1),
        "average_precision": np.stack([precision for _, precision in curves], 1),
    }


def _areas(truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision, (R,) each, of one class against the rest; nan where there is only one of the two."""
    true, false, _ = ranked(truth, score, weight)
    precision = np.where(true + false > 0, true / (true + false), 0.0)
    average_precision = (np.diff(true, prepend=0) * precision).sum(1) / true[:, -1]
    return auroc(true, false), np.where(false[:, -1] > 0, average_precision, np.nan)


def _calibration_error(probabilities: np.ndarray, correct: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How far confidence is from accuracy, summed over bins of confidence, (R,): the expected error times the cases."""
    confidence = probabilities.max(1)
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)]  # (N, BINS)
    return np.abs(weight @ (bins * (confidence - correct)[:, None])).sum(1)


def _mean_of_classes(values: np.ndarray) -> np.ndarray:  # (R, K) -> (R,), over the classes that have a value
    finite = np.isfinite(values)
    return np.where(finite, values, 0).sum(1) / finite.sum(1)


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Mean confidence, accuracy and number of cases of each bin of confidence that has a case."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    cases = np.bincount(bins, minlength=BINS)
    filled = cases > 0
    return {
        "confidence": np.bincount(bins, confidence, BINS)[filled] / cases[filled],
        "accuracy": np.bincount(bins, correct, BINS)[filled] / cases[filled],
        "cases": cases[filled],
    }
