"""One class at a wanted sensitivity, by a threshold fixed on the validation split and reported on the test split."""

import math

import numpy as np


def threshold(positive: np.ndarray, probability: np.ndarray, sensitivity: float) -> float:
    """The largest threshold with at least the wanted sensitivity; nan without positive cases.

    Args:
        positive: (N,) bool, whether the case is of the positive class.
        probability: (N,) of the positive class.
        sensitivity: Fraction of the positive cases, 0 to 1.
    """
    if not positive.any():
        return math.nan
    found = np.sort(probability[positive])[::-1]
    exact = float(found[max(1, math.ceil(sensitivity * len(found) - 1e-9)) - 1])
    written = float(f"{exact:.6g}")
    return written if written <= exact else float(f"{exact * (1 - 1e-6):.6g}")  # rounded, it must not lose the case


def rates(positive: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """The rates of a threshold in a split, each a fraction from 0 to 1; nan where it would be a fraction of nothing."""
    alarm = probability >= threshold
    return {
        "sensitivity": _fraction(alarm, positive),
        "specificity": _fraction(~alarm, ~positive),
        "positive_predictive_value": _fraction(positive, alarm),
        "negative_predictive_value": _fraction(~positive, ~alarm),
    }


def _fraction(of: np.ndarray, among: np.ndarray) -> float:
    return float(of[among].mean()) if among.any() else math.nan
