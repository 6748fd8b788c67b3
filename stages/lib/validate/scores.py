"""The scores of predicted probabilities, by scikit-learn; a score that a split does not define is nan."""

import math
from typing import get_args

import numpy as np
from sklearn import metrics

from stages.lib.params.validate import Score

OVERALL = get_args(Score)
PER_CLASS = ("precision", "recall", "f1", "auroc", "average_precision")
BINS = 15  # of confidence, for the calibration error


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
    table = per_class(labels, probabilities)
    predicted = probabilities.argmax(1)
    present = np.unique(labels)
    occurring = np.union1d(labels, predicted)
    indicator = np.eye(probabilities.shape[1])[labels]  # (N, K)
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": _mean(table["recall"], present),
        "macro_precision": _mean(table["precision"], occurring),
        "macro_f1": _mean(table["f1"], occurring),
        "auroc": _mean(table["auroc"], present),
        "average_precision": _mean(table["average_precision"], present),
        "log_loss": _log_loss(labels, probabilities),
        "brier": float(np.square(probabilities - indicator).sum(1).mean()),  # 0 to 2, as in Brier's paper
        "calibration_error": calibration_error(labels, probabilities),
    }


def per_class(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of each class against the rest, (K,) each; nan where the class would need a case and has none."""
    classes = np.arange(probabilities.shape[1])
    if not len(labels):
        return {name: np.full(len(classes), math.nan) for name in PER_CLASS} | {"cases": np.zeros(len(classes), int)}
    precision, recall, f1, cases = metrics.precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=classes, zero_division=0.0
    )
    absent = cases == 0
    table = {"precision": precision, "recall": np.where(absent, math.nan, recall), "f1": f1}
    for name, score in (("auroc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score)):
        table[name] = np.array(
            [
                score(labels == k, probabilities[:, k]) if 0 < cases[k] < len(labels) else math.nan  # one class only
                for k in classes
            ]
        )
    return table | {"cases": cases}


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: how far confidence is from accuracy, averaged over bins of confidence, 0 to 1."""
    table = reliability(labels, probabilities)
    return float((table["cases"] * np.abs(table["accuracy"] - table["confidence"])).sum() / len(labels))


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


def _mean(values: np.ndarray, present: np.ndarray) -> float:
    finite = values[present][np.isfinite(values[present])]
    return float(finite.mean()) if len(finite) else math.nan


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    if probabilities.shape[1] == 1:
        return 0.0
    rows = probabilities / probabilities.sum(
        1, keepdims=True
    )  # scikit-learn warns of sums that are off by float32's last bits
    return float(metrics.log_loss(labels, rows, labels=np.arange(probabilities.shape[1])))
