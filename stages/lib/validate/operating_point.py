"""One class at a wanted sensitivity, by a threshold fixed on the validation split and reported on the test split."""

import math

import numpy as np


def threshold(
    positive: np.ndarray, probability: np.ndarray, sensitivity: float, weight: np.ndarray | None = None
) -> float:
    """The largest threshold with at least the wanted sensitivity; nan without positive cases.

    Args:
        positive: (N,) bool, whether the case is of the positive class.
        probability: (N,) of the positive class.
        sensitivity: Fraction of the positive cases, 0 to 1.
        weight: (N,) how much each case counts; None: all alike.
    """
    if not positive.any():
        return math.nan
    order = np.argsort(-probability[positive], kind="stable")
    counts = np.ones(len(order)) if weight is None else weight[positive][order]
    found = np.cumsum(counts)
    last = int(np.searchsorted(found, sensitivity * found[-1] - 1e-9))
    return rounded_down(float(probability[positive][order][last]))


def rounded_down(exact: float) -> float:
    """A threshold as validate.json has it: rounded, it must not lose the case that it is the probability of."""
    written = float(f"{exact:.6g}")
    return written if written <= exact else float(f"{exact * (1 - 1e-6):.6g}")


def rates(
    positive: np.ndarray, probability: np.ndarray, threshold: float, weight: np.ndarray | None = None
) -> dict[str, float]:
    """The rates of a threshold in a split, each a fraction from 0 to 1; nan where it would be a fraction of nothing."""
    alarm = probability >= threshold
    counts = np.ones(len(alarm)) if weight is None else weight
    return {
        "sensitivity": _fraction(alarm, positive, counts),
        "specificity": _fraction(~alarm, ~positive, counts),
        "positive_predictive_value": _fraction(positive, alarm, counts),
        "negative_predictive_value": _fraction(~positive, ~alarm, counts),
    }


def _fraction(of: np.ndarray, among: np.ndarray, counts: np.ndarray) -> float:
    return float(counts[of & among].sum() / counts[among].sum()) if among.any() else math.nan
