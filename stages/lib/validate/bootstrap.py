"""Bootstrap resamples of groups (patients), not cases: two scans of one patient are not independent.

A patient's cases are drawn together. A resample is a row of weights, and all rows are scored at once.
"""

from collections.abc import Iterator, Sequence

import numpy as np

BLOCK_WEIGHTS = 5_000_000  # computed at once: memory depends on this, not on the number of resamples


def weights(groups: Sequence[str], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each case occurs in each resample: blocks of (R, N) float64, with `resamples` rows together."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_WEIGHTS // max(1, len(index)))
    for start in range(0, resamples, rows):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), min(rows, resamples - start))
        yield drawn[:, index].astype(np.float64)


def bounds(value: np.ndarray, resampled: np.ndarray, level: float) -> np.ndarray:
    """The percentiles between which `level` of the resamples lie, moved by the resamples' bias.

    A resample has a case several times, and so looks less calibrated than the cases themselves: of 50 cases with a
    calibration error of 0.04, nearly all resamples may have more. What the mean of the resamples has too much, the
    bootstrap's estimate of a bias (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 10), is taken
    from them, so that the value lies between.

    Args:
        value: (K,), of the cases themselves.
        resampled: (R, K); nan where a resample has none.

    Returns:
        (2, K) low and high; nan where there is no value, and where all resamples are alike: they say nothing then.
    """
    varied = np.isfinite(resampled).any(0) & np.isfinite(value)
    filled = np.where(varied, resampled, 0.0)  # numpy warns of columns that are nan throughout
    low, high = np.nanpercentile(filled, [50 * (1 - level), 50 * (1 + level)], axis=0)
    middle = np.nanmean(filled, axis=0)
    varied &= np.nanmax(filled, 0) - np.nanmin(filled, 0) > 1e-12
    moved = [value + np.minimum(low - middle, 0), value + np.maximum(high - middle, 0)]
    return np.where(varied, moved, np.nan)
