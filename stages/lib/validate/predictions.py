"""predictions.csv: one row per case, so that two revisions can be compared case by case."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.lib.tensors import Split

COLUMNS = ("case", "group", "split", "label", "predicted")


def table(name: str, split: Split, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One split's predictions: `COLUMNS`, then one probability per class, in the order of the classes.

    Args:
        name: The split's.
        probabilities: (N, K) in the order of the split's cases.
    """
    names = np.array(classes, object)
    about = {
        "case": split.cases,
        "group": split.groups,
        "split": name,
        "label": names[split.y],
        "predicted": names[probabilities.argmax(1)] if len(split.y) else [],
    }
    chances = pd.DataFrame(probabilities.reshape(len(split.y), len(classes)), columns=list(classes))
    # Side by side, not by name: a class may be called "case", too. Readers take the columns after the first five.
    return pd.concat([pd.DataFrame(about, columns=list(COLUMNS)), chances], axis="columns")


def mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The cases that are wrong, the most wrong first: those whose true class got the least probability."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(of_truth, kind="stable")
    return order[probabilities.argmax(1)[order] != labels[order]] if len(labels) else order


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """The cases, the least certain first: those whose two most probable classes are closest."""
    ordered = np.sort(probabilities, axis=1)
    return np.argsort(ordered[:, -1] - ordered[:, -2:-1].sum(1), kind="stable")
