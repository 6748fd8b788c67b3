"""Bootstrap intervals of every score, resampling groups (patients), not cases.

Two scans of one patient are not independent, so a patient's cases are drawn together. A resample is a row of weights,
and all rows are scored at once.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from stages.lib.validate import scores

LEVEL = 0.95
BLOCK_WEIGHTS = 5_000_000  # computed at once: memory depends on this, not on the number of resamples


def intervals(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[str], resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The bounds between which `LEVEL` of the resamples lie.

    Args:
        labels: (N,) index of the true class.
        probabilities: (N, K).
        groups: (N,) the group of each case.

    Returns:
        Low and high of the overall scores, (2,) each, and of the scores per class, (2, K) each. A score that no
        resample has is nan.
    """
    blocks = [scores.weighted(labels, probabilities, block) for block in weights(groups, resamples, seed)]
    overall, per_class = ({k: np.concatenate([b[i][k] for b in blocks]) for k in blocks[0][i]} for i in (0, 1))
    return {k: _bounds(v) for k, v in overall.items()}, {k: _bounds(v) for k, v in per_class.items()}


def weights(groups: Sequence[str], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each case occurs in each resample: blocks of (R, N) float64, with `resamples` rows together."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_WEIGHTS // max(1, len(index)))
    for start in range(0, resamples, rows):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), min(rows, resamples - start))
        yield drawn[:, index].astype(np.float64)


def _bounds(values: np.ndarray) -> np.ndarray:  # (R,) or (R, K) -> (2,) or (2, K)
    measured = np.isfinite(values).any(0)
    filled = np.where(measured, values, 0.0)  # numpy warns of columns that are nan throughout
    low, high = np.nanpercentile(filled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return np.where(measured, [low, high], np.nan)
