"""Points for `dvc plots` and the pictures: ROC and precision-recall, one class against the rest; reliability."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from sklearn import metrics

from stages.lib import scores


def roc(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """class, false_positive_rate, true_positive_rate, threshold; a class that is absent, or alone, has no curve."""
    parts = [pd.DataFrame(columns=["class", "false_positive_rate", "true_positive_rate", "threshold"])]
    for name, positive, chance in _one_against_the_rest(labels, probabilities, classes):
        false, true, threshold = metrics.roc_curve(positive, chance)
        columns = {"false_positive_rate": false, "true_positive_rate": true, "threshold": threshold}
        parts.append(pd.DataFrame({"class": name} | columns))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def precision_recall(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """class, recall, precision, threshold; a class that is absent, or alone, has no curve."""
    parts = [pd.DataFrame(columns=["class", "recall", "precision", "threshold"])]
    for name, positive, chance in _one_against_the_rest(labels, probabilities, classes):
        precision, recall, threshold = metrics.precision_recall_curve(positive, chance)
        columns = {"recall": recall, "precision": precision, "threshold": np.append(threshold, np.nan)}
        parts.append(pd.DataFrame({"class": name} | columns))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """confidence, accuracy, cases: a row a bin of confidence that holds any."""
    return pd.DataFrame(scores.reliability(labels, probabilities))


def _one_against_the_rest(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for k, name in enumerate(classes):
        positive = labels == k
        if positive.any() and not positive.all():
            yield name, positive, probabilities[:, k]
