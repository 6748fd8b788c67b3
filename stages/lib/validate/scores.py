"""The scores of predicted probabilities of classes; a score that a split does not define is nan.

They are computed for many weightings of the cases at once, as the bootstrap needs them: a split's own scores are those
with every weight 1. tests/validate compares them with scikit-learn's, which takes a second to import and minutes for a
thousand resamples.
"""

import math

import numpy as np

OVERALL = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_f1",
    "auroc",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_error",
)
PER_CLASS = ("precision", "recall", "f1", "auroc", "average_precision")
SMALLEST = np.finfo(np.float64).eps  # probability that a log loss takes
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


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray | None = None, shares: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Scores of each class against the rest, (K,) each; nan where the class would need a case and has none.

    Args:
        labels, probabilities: As of `overall`.
        weight: (N,) how much each case counts; None: all alike.
        shares: As of `weighted`.
    """
    number = probabilities.shape[1]
    if not len(labels):
        return {name: np.full(number, math.nan) for name in PER_CLASS} | {"cases": np.zeros(number, int)}
    counts = np.ones(len(labels)) if weight is None else np.asarray(weight, np.float64)
    _, table = weighted(labels, probabilities, counts[None], shares)
    found = {name: table[name][0] for name in PER_CLASS}
    found |= {name: np.nan_to_num(found[name]) for name in ("precision", "f1")}  # 0 for a class that is nowhere
    return found | {"cases": np.bincount(labels, minlength=number)}


def weighted(
    labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray, shares: np.ndarray | None = None
) -> tuple[Scores, Scores]:
    """The scores with each row of weights: those of `overall`, (R,), and of `per_class`, (R, K).

    Args:
        weight: (R, N), how often each case occurs.
        shares: (N, K) how much of each class a case is, which log loss, Brier score and calibration error are measured
            against; None: all of its label.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # a class without a case in a resample has no recall
        table = _per_class(labels, probabilities, weight)
        return _overall(labels, probabilities, weight, table, shares), table


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


def _overall(
    labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray, table: Scores, shares: np.ndarray | None
) -> Scores:
    total = weight.sum(1)
    correct = (probabilities.argmax(1) == labels).astype(np.float64)
    truth = np.eye(probabilities.shape[1])[labels] if shares is None else shares
    losses = -(truth * np.log(probabilities.clip(SMALLEST))).sum(1)
    squares = np.square(probabilities - truth).sum(1)
    present = np.where(np.isnan(table["recall"]), np.nan, 1.0)
    return {
        "accuracy": weight @ correct / total,
        "balanced_accuracy": mean_of_names(table["recall"]),
        "macro_precision": mean_of_names(table["precision"]),
        "macro_f1": mean_of_names(table["f1"]),
        "auroc": mean_of_names(table["auroc"] * present),
        "average_precision": mean_of_names(table["average_precision"] * present),
        "log_loss": weight @ losses / total,
        "brier": weight @ squares / total,
        "calibration_error": calibration_error(probabilities.max(1), right(labels, probabilities, shares), weight),
    }


def right(labels: np.ndarray, probabilities: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """How far each answer is right, (N,) from 0 to 1: the share that the case has of the class that is answered, which
    the answer's confidence is to be. Whoever says 0.8 of a case that is 0.8 of that class is not too modest.
    """
    answered = probabilities.argmax(1)
    if shares is None:
        return (answered == labels).astype(np.float64)
    return np.take_along_axis(shares, answered[:, None], 1)[:, 0].astype(np.float64)


def _per_class(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> Scores:
    truth = np.eye(probabilities.shape[1])[labels]  # (N, K)
    guess = np.eye(probabilities.shape[1])[probabilities.argmax(1)]  # (N, K)
    hits, cases, guesses = weight @ (truth * guess), weight @ truth, weight @ guess  # (R, K) each
    occurs = np.where(cases + guesses > 0, 1.0, np.nan)
    curves = [areas(truth[:, k], probabilities[:, k], weight) for k in range(truth.shape[1])]
    return {
        "precision": np.where(guesses > 0, hits / guesses, 0.0) * occurs,
        "recall": hits / cases,
        "f1": 2 * hits / (cases + guesses),
        "auroc": np.stack([area for area, _ in curves], 1),
        "average_precision": np.stack([precision for _, precision in curves], 1),
    }


def areas(truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision, (R,) each, of one class against the rest; nan where there is only one of the two."""
    true, false, _ = ranked(truth, score, weight)
    precision = np.where(true + false > 0, true / (true + false), 0.0)
    average_precision = (np.diff(true, prepend=0) * precision).sum(1) / true[:, -1]
    return auroc(true, false), np.where(false[:, -1] > 0, average_precision, np.nan)


def calibration_error(confidence: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean over the cases of how far confidence is from the fraction right in their bin of it, (R,)."""
    bins = np.eye(BINS)[bin_of(confidence)]  # (N, BINS)
    return np.abs(weight @ (bins * (confidence - right)[:, None])).sum(1) / weight.sum(1)


def mean_of_names(values: np.ndarray) -> np.ndarray:  # (R, K) -> (R,), over those that have a value
    finite = np.isfinite(values)
    return np.where(finite, values, 0).sum(1) / finite.sum(1)


def reliability(confidence: np.ndarray, right: np.ndarray, weight: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Mean confidence, accuracy and number of cases of each bin of confidence that has a case.

    Args:
        weight: (N,) how much each case counts in both means; None: all alike.
    """
    bins = bin_of(confidence)
    counts = np.ones(len(bins)) if weight is None else np.asarray(weight, np.float64)
    total = np.bincount(bins, counts, BINS)
    filled = total > 0
    return {
        "confidence": np.bincount(bins, confidence * counts, BINS)[filled] / total[filled],
        "accuracy": np.bincount(bins, right * counts, BINS)[filled] / total[filled],
        "cases": np.bincount(bins[counts > 0], minlength=BINS)[filled],
    }


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Which of `BINS` bins each is in, (N,)."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def in_grades(labels: np.ndarray, predicted: np.ndarray, number: int, weight: np.ndarray) -> Scores:
    """How far apart classes in order are, with each row of weights (R, N): (R,) each.

    Cohen's kappa with quadratic weights (Cohen 1968), nan where chance alone would agree in full; and the mean distance
    in grades.
    """
    squared = np.square(labels - predicted)
    truth, guess = weight @ np.eye(number)[labels], weight @ np.eye(number)[predicted]  # (R, K)
    apart = np.square(np.subtract.outer(np.arange(number), np.arange(number)))
    total = weight.sum(1)
    by_chance = np.einsum("rj,jk,rk->r", truth, apart, guess) / total
    kappa = 1 - weight @ squared / np.where(by_chance > 0, by_chance, np.nan)
    return {"quadratic_kappa": kappa, "mae": weight @ np.abs(labels - predicted) / total}
