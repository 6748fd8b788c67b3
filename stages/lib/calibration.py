"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599): one number that makes confidence match accuracy."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from stages.lib import resampling

LOWEST, HIGHEST = 0.05, 20.0
RESAMPLES = 1000


def temperature(logits: np.ndarray, labels: np.ndarray, groups: Sequence[str], seed: int = 0) -> float:
    """What the logits must be divided by for the least log loss; 1.0 unless the split shows that another is better.

    A few dozen cases can't tell a temperature: what they ask for is mostly chance, and does harm elsewhere. So it is
    taken only if it lowers the log loss in 97.5 % of the bootstrap's resamples of the groups.

    Args:
        logits: (N, K) of the validation split, never of the test split.
        groups: (N,) what the bootstrap draws as one.

    Returns:
        Between `LOWEST` and `HIGHEST`, 6 significant digits, as validate.json keeps it.
    """
    count, classes = logits.shape
    if count == 0 or classes < 2:
        return 1.0
    found = float(f"{_fitted(logits, labels):.6g}")
    gain = _losses(logits, labels) - _losses(logits / found, labels)  # (N,)
    gains = [weight @ gain for weight in resampling.weights(groups, RESAMPLES, seed)]
    low = np.quantile(np.concatenate(gains), (1 - resampling.LEVEL) / 2)
    return found if low > 0 else 1.0


def _fitted(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least log loss, with one case added, as it were, that belongs to every class alike.

    Without it, a split without a mistake would ask for temperature 0, which makes certainties; so N cases without a
    mistake are evidence for (N + 1 / K) / (N + 1).
    """
    count, classes = logits.shape
    targets = (count * np.eye(classes)[labels] + 1 / classes) / (count + 1)  # (N, K)

    def log_loss(log_temperature: float) -> float:
        return -float((targets * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(1).mean())

    best = minimize_scalar(log_loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(np.exp(best.x))


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:  # (N, K) -> (N,)
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
