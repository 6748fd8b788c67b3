"""Bootstrap intervals of every score, resampling groups (patients), not cases.

Two scans of one patient are not independent, so a patient's cases are drawn together. `scores` computes the scores by
scikit-learn, which would take minutes for a thousand resamples; here a resample is a row of weights, and all rows are
scored at once. tests/validate/test_bootstrap.py compares the two.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.lib.validate.scores import BINS

LEVEL = 0.95
BLOCK_WEIGHTS = 5_000_000  # computed at once: memory depends on this, not on the number of resamples
Scores = dict[str, np.ndarray]  # by name, (R,) each; per class (R, K)


def intervals(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[str], resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The bounds between which `LEVEL` of the resamples lie.

    Args:
        labels: (N,) index of the true class.
        probabilities: (N, K).
        groups: (N,) the group of each case.

    Returns:
        Low and high of the overall scores, (2,) each, and of the scores per class, (2, K) each. A score that no
        resample has is nan.
    """
    blocks = [replicates(labels, probabilities, block) for block in weights(groups, resamples, seed)]
    overall, per_class = ({k: np.concatenate([b[i][k] for b in blocks]) for k in blocks[0][i]} for i in (0, 1))
    return {k: _bounds(v) for k, v in overall.items()}, {k: _bounds(v) for k, v in per_class.items()}


def weights(groups: Sequence[str], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each case occurs in each resample: blocks of (R, N) float64, with `resamples` rows together."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_WEIGHTS // max(1, len(index)))
    for start in range(0, resamples, rows):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), min(rows, resamples - start))
        yield drawn[:, index].astype(np.float64)


def replicates(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> tuple[Scores, Scores]:
    """The scores of each row of weights: those of `scores.overall`, (R,), and of `scores.per_class`, (R, K).

    Args:
        weight: (R, N), how often each case occurs.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # a class without a case in a resample has no recall
        table = _per_class(labels, probabilities, weight)
        return _overall(labels, probabilities, weight, table), table


def _overall(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray, table: Scores) -> Scores:
    total = weight.sum(1)
    correct = (probabilities.argmax(1) == labels).astype(np.float64)
    of_truth = probabilities[np.arange(len(labels)), labels]
    squares = np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(1)
    present = np.where(np.isnan(table["recall"]), np.nan, 1.0)
    return {
        "accuracy": weight @ correct / total,
        "balanced_accuracy": _mean(table["recall"]),
        "macro_precision": _mean(table["precision"]),
        "macro_f1": _mean(table["f1"]),
        "auroc": _mean(table["auroc"] * present),
        "average_precision": _mean(table["average_precision"] * present),
        "log_loss": weight @ -np.log(of_truth.clip(np.finfo(np.float64).eps)) / total,
        "brier": weight @ squares / total,
        "calibration_error": _calibration_error(probabilities, correct, weight) / total,
    }


def _per_class(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> Scores:
    truth = np.eye(probabilities.shape[1])[labels]  # (N, K)
    guess = np.eye(probabilities.shape[1])[probabilities.argmax(1)]  # (N, K)
    hits, cases, guesses = weight @ (truth * guess), weight @ truth, weight @ guess  # (R, K) each
    occurs = np.where(cases + guesses > 0, 1.0, np.nan)
    curves = [_curve(truth[:, k], probabilities[:, k], weight) for k in range(truth.shape[1])]
    return {
        "precision": np.where(guesses > 0, hits / guesses, 0.0) * occurs,
        "recall": hits / cases,
        "f1": 2 * hits / (cases + guesses),
        "auroc": np.stack([area for area, _ in curves], 1),
        "average_precision": np.stack([precision for _, precision in curves], 1),
    }


def _curve(truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision, (R,) each, of one class against the rest; nan where there is only one of the two."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of each run of ties
    true = np.cumsum(weight[:, order] * truth[order], axis=1)[:, last]  # (R, thresholds)
    false = np.cumsum(weight[:, order] * (1 - truth[order]), axis=1)[:, last]
    more_true, more_false = np.diff(true, prepend=0), np.diff(false, prepend=0)
    positives, negatives = true[:, -1], false[:, -1]
    area = (more_false * (true - more_true / 2)).sum(1) / (positives * negatives)
    precision = np.where(true + false > 0, true / (true + false), 0.0)
    average_precision = (more_true * precision).sum(1) / positives
    return area, np.where(negatives > 0, average_precision, np.nan)


def _calibration_error(probabilities: np.ndarray, correct: np.ndarray, weight: np.ndarray) -> np.ndarray:
    confidence = probabilities.max(1)
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)]  # (N, BINS)
    return np.abs(weight @ (bins * (confidence - correct)[:, None])).sum(1)


def _mean(values: np.ndarray) -> np.ndarray:  # (R, K) -> (R,), over the classes that have a value
    finite = np.isfinite(values)
    return np.where(finite, values, 0).sum(1) / finite.sum(1)


def _bounds(values: np.ndarray) -> np.ndarray:  # (R,) or (R, K) -> (2,) or (2, K)
    measured = np.isfinite(values).any(0)
    filled = np.where(measured, values, 0.0)  # numpy warns of columns that are nan throughout
    low, high = np.nanpercentile(filled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return np.where(measured, [low, high], np.nan)
