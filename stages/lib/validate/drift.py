"""How far intensities differ between the histograms of two statistics.json, or of training and another dataset."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import kolmogorov


@dataclass(frozen=True)
class Drift:
    """How much one channel's histogram moved."""

    distance: float  # the largest difference of the two cumulative distributions, 0 to 1
    p: float  # probability of such a distance or more, if both were drawn from one distribution


def drift(old: dict[str, Any], new: dict[str, Any], old_groups: int, new_groups: int) -> Drift:
    """The Kolmogorov-Smirnov test of two histograms, whose edges may differ.

    Pixels are not independent: those of a scan resemble each other, and a test that counts each of them calls any two
    data sets different. Here each group (patient) counts as one draw, which finds too little rather than too much.

    Args:
        old: One of statistics.json's `channels`: its `edges` (bins + 1) and `counts` (bins).
        new: The same.
        old_groups: Number of groups of the training split.
        new_groups: The same.
    """
    at = np.union1d(old["edges"], new["edges"])
    (old_low, old_high), (new_low, new_high) = _cumulative(old, at), _cumulative(new, at)
    distance = max(0.0, float((old_low - new_high).max()), float((new_low - old_high).max()))
    effective = old_groups * new_groups / (old_groups + new_groups)
    return Drift(distance, float(kolmogorov(math.sqrt(effective) * distance)))


def _cumulative(channel: dict[str, Any], at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of the fraction of pixels below each value: where in its bin a pixel lies is unknown."""
    counts = np.asarray(channel["counts"], float)
    fractions = np.r_[0, np.cumsum(counts) / counts.sum()]
    below = np.searchsorted(channel["edges"], at, side="right") - 1
    above = np.searchsorted(channel["edges"], at, side="left")
    return fractions[np.clip(below, 0, len(counts))], fractions[np.clip(above, 0, len(counts))]
