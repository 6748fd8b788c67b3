"""One class at a wanted sensitivity, by a threshold fixed on the validation split and reported on the test split."""

import math

import numpy as np


def threshold(positive: np.ndarray, chance: np.ndarray, sensitivity: float) -> float:
    """The largest probability at which the wanted share of the positive cases is found; nan without positive cases.

    Args:
        positive: (N,) bool.
        chance: (N,) the probability of the positive class.
    """
    if not positive.any():
        return math.nan
    found = np.sort(chance[positive])[::-1]
    exact = float(found[max(1, math.ceil(sensitivity * len(found) - 1e-9)) - 1])
    written = float(f"{exact:.6g}")
    return written if written <= exact else float(f"{exact * (1 - 1e-6):.6g}")  # as written, it must find the case, too


def report(positive: np.ndarray, chance: np.ndarray, threshold: float) -> dict[str, float]:
    """What a threshold finds in a split, each a share from 0 to 1; nan where there is nothing to have a share of."""
    alarm = chance >= threshold
    return {
        "sensitivity": _share(alarm, positive),
        "specificity": _share(~alarm, ~positive),
        "positive_predictive_value": _share(positive, alarm),
        "negative_predictive_value": _share(~positive, ~alarm),
    }


def _share(of: np.ndarray, among: np.ndarray) -> float:
    return float(of[among].mean()) if among.any() else math.nan
