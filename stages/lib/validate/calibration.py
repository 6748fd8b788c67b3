"""Temperature scaling (Guo et al. 2017, arXiv:1706.04599): one number that makes confidence match accuracy."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from stages.lib.validate import bootstrap

LOWEST, HIGHEST = 0.05, 20.0
RESAMPLES = 1000
AGREEMENT = 0.99  # fraction of the resamples that must agree


def temperature(
    views: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str],
    seed: int = 0,
    shares: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> float:
    """What the logits must be divided by for the least log loss; 1.0 unless the split shows that another is better.

    A temperature fitted on a few dozen cases is mostly chance, and does harm on others. So it is used only if nearly
    all bootstrap resamples of the groups agree that the model is too sure, or that it is too unsure.

    Args:
        views: Logits (N, K) of the validation split, never of the test split, and of each of its mirror images that
            the deployed model averages over: it is their mean probability that has to be right.
        labels: (N,) index of the true class.
        groups: (N,) the group of each case.
        shares: (N, K) how much of each class a case is; None: all of its label.
        weight: (N,) how much each case counts; None: all alike.

    Returns:
        Between `LOWEST` and `HIGHEST`, 6 significant digits, as validate.json has it.
    """
    count, classes = views[0].shape
    counts = np.ones(count) if weight is None else np.asarray(weight, np.float64)
    if not counts.any() or classes < 2:
        return 1.0
    counts = counts / counts[counts > 0].mean()
    targets = np.eye(classes)[labels] if shares is None else shares
    found = float(f"{_fitted(views, targets, counts):.6g}")
    slope = counts * _slopes(views, targets)
    slopes = np.concatenate([weight @ slope for weight in bootstrap.weights(groups, RESAMPLES, seed)])
    low, high = np.quantile(slopes, [(1 - AGREEMENT) / 2, (1 + AGREEMENT) / 2])
    unsure, too_sure = low > 0, high < 0
    return found if (unsure and found < 1) or (too_sure and found > 1) else 1.0


def _fitted(views: Sequence[np.ndarray], targets: np.ndarray, counts: np.ndarray) -> float:
    """The temperature of the least log loss, with one imagined case added that belongs to all classes equally.

    Without it, the best temperature of a split without a mistake would be 0, which gives probabilities of 1. With it, N
    cases without a mistake allow a mean confidence of (N + 1 / K) / (N + 1).

    Args:
        targets: (N, K) of which the rows add up to 1.
        counts: (N,) how much each case counts, 1 on average over those that do.
    """
    number = counts.sum()
    targets = (number * targets + 1 / targets.shape[1]) / (number + 1)  # (N, K)

    def log_loss(log_temperature: float) -> float:
        logs = [log_softmax(logits / np.exp(log_temperature), axis=1) for logits in views]
        log = logs[0] if len(logs) == 1 else logsumexp(logs, axis=0) - np.log(len(logs))
        losses = (targets * log).sum(1)
        return -float((losses * counts).sum() / number)

    best = minimize_scalar(log_loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(np.exp(best.x))


def _slopes(views: Sequence[np.ndarray], targets: np.ndarray) -> np.ndarray:  # (N, K) of each view -> (N,)
    """The slope of each case's log loss over the logarithm of the temperature, at temperature 1."""
    if len(views) == 1:
        return ((targets - softmax(views[0], axis=1)) * views[0]).sum(1)
    of_views = [softmax(logits, axis=1) for logits in views]
    moved = [p * (z - (p * z).sum(1, keepdims=True)) for p, z in zip(of_views, views, strict=True)]  # of less sure ones
    return (targets * np.mean(moved, axis=0) / np.maximum(np.mean(of_views, axis=0), np.finfo(float).tiny)).sum(1)
