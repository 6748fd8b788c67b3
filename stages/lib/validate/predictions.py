"""predictions.csv: one row per case, so that two revisions can be compared case by case."""

import numpy as np

COLUMNS = ("case", "group", "split", "label", "predicted")


def mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The cases that are wrong, the most wrong first: those whose true class got the least probability."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(of_truth, kind="stable")
    return order[probabilities.argmax(1)[order] != labels[order]] if len(labels) else order


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """The cases, the least certain first: those whose two most probable classes are closest."""
    ordered = np.sort(probabilities, axis=1)
    return np.argsort(ordered[:, -1] - ordered[:, -2:-1].sum(1), kind="stable")
