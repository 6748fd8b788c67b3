"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599): one number that makes confidence match accuracy."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LOWEST, HIGHEST = 0.05, 20.0


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What the logits must be divided by for the least log loss; 1.0 where there is nothing to fit on.

    A split without a mistake would ask for temperature 0, which makes certainties. So the targets are Platt's (1999):
    N cases without a mistake are evidence for a probability of (N + 1) / (N + K), not of 1.

    Args:
        logits: (N, K) of the validation split, never of the test split.

    Returns:
        Between `LOWEST` and `HIGHEST`, 6 significant digits, as validate.json keeps it.
    """
    count, classes = logits.shape
    if count == 0 or classes < 2:
        return 1.0
    targets = (count * np.eye(classes)[labels] + 1) / (count + classes)  # (N, K)

    def log_loss(log_temperature: float) -> float:
        return -float((targets * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(1).mean())

    best = minimize_scalar(log_loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(f"{np.exp(best.x):.6g}")
