"""Tables of points for `dvc plots`: ROC, one class against the rest."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn import metrics


def roc(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """class, false_positive_rate, true_positive_rate, threshold; a class that is absent, or alone, has no curve."""
    parts = [pd.DataFrame(columns=["class", "false_positive_rate", "true_positive_rate", "threshold"])]
    for k, name in enumerate(classes):
        positive = labels == k
        if positive.any() and not positive.all():
            false, true, threshold = metrics.roc_curve(positive, probabilities[:, k])
            columns = {"false_positive_rate": false, "true_positive_rate": true, "threshold": threshold}
            parts.append(pd.DataFrame({"class": name} | columns))
    return pd.concat(parts[1:] or parts, ignore_index=True)
