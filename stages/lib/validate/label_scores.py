"""The scores of labels that hold each by itself, over the answers that are known, of many weightings at once.

As in `scores`, a score that these answers do not define is nan.
"""

import numpy as np

from stages.lib.validate import scores
from stages.lib.validate.scores import Scores

OVERALL = (
    "auroc",
    "average_precision",
    "macro_f1",
    "macro_sensitivity",
    "macro_specificity",
    "log_loss",
    "brier",
    "calibration_error",
)
PER_LABEL = ("precision", "recall", "specificity", "f1", "auroc", "average_precision")


def weighted(
    truth: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray, weight: np.ndarray
) -> tuple[Scores, Scores]:
    """The scores with each row of weights, (R, N): `OVERALL`, (R,), and `PER_LABEL`, (R, K).

    Macro scores and ranked ones are means over the labels that have a value; log loss, Brier score and calibration
    error are of all known answers together, each of which is one of two: it holds, or it does not.

    Args:
        truth: (N, K) 1, 0, or nan where nobody knows.
        probabilities: (N, K).
        thresholds: (K,) from which a label is taken to hold, or (N, K), where each case has its own.
    """
    holds = probabilities >= thresholds
    with np.errstate(divide="ignore", invalid="ignore"):
        labels = [
            _of_label(truth[known, k], probabilities[known, k], holds[known, k], weight[:, known])
            for k, known in enumerate(~np.isnan(truth).T)
        ]
        per_label = {name: np.stack([one[name] for one in labels], 1) for name in PER_LABEL}
        found = {name: scores.mean_of_names(per_label[of]) for name, of in _MEANS.items()}
        return found | _of_answers(truth, probabilities, weight), per_label


_MEANS = {
    "auroc": "auroc",
    "average_precision": "average_precision",
    "macro_f1": "f1",
    "macro_sensitivity": "recall",
    "macro_specificity": "specificity",
}


def _of_label(truth: np.ndarray, probability: np.ndarray, holds: np.ndarray, weight: np.ndarray) -> Scores:
    """Of one label with (n,) known answers, each of which is taken to hold or not."""
    there, absent, taken = weight @ truth, weight @ (1 - truth), weight @ holds
    hits, silences = weight @ (truth * holds), weight @ ((1 - truth) * ~holds)
    area, precision = scores.areas(truth, probability, weight) if len(truth) else (there / there, there / there)
    return {
        "precision": np.where(taken > 0, hits / taken, 0.0) * np.where(there + taken > 0, 1.0, np.nan),
        "recall": hits / there,
        "specificity": silences / absent,
        "f1": 2 * hits / (there + taken),
        "auroc": area,
        "average_precision": precision,
    }


def _of_answers(truth: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> Scores:
    """Summed over each case's known answers first, as there are more of these than cases."""
    known = ~np.isnan(truth)
    answers, chances = np.where(known, truth, 0.0), np.where(known, probabilities, 0.0)  # (N, K): wrong by 0
    sure = np.where(known, np.where(answers == 1, chances, 1 - chances), 1.0).clip(scores.SMALLEST)
    gaps = np.zeros((len(truth), scores.BINS))
    case, _ = np.nonzero(known)
    np.add.at(gaps, (case, scores.bin_of(chances[known])), chances[known] - answers[known])
    total = weight @ known.sum(1)
    return {
        "log_loss": weight @ -np.log(sure).sum(1) / total,
        "brier": weight @ np.square(chances - answers).sum(1) / total,
        "calibration_error": np.abs(weight @ gaps).sum(1) / total,
    }
