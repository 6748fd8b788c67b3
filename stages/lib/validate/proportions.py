"""Exact bounds of proportions, and of scores without a mistake, from groups of cases that are not independent."""

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv, stdtrit


def interval(right: np.ndarray, counted: np.ndarray, groups: np.ndarray, level: float) -> np.ndarray:
    """The interval of Clopper and Pearson (1934) for the proportion that is right among the cases that count.

    It is computed for as many independent cases as the groups are worth (Korn and Graubard 1998, Survey Methodology 24,
    193-201): fewer than the cases, where those of a group are right or wrong together. If all are right, or none, the
    cases can't tell how much they go together, and a group counts as one.

    Args:
        right: (N,) bool.
        counted: (N,) bool.
        groups: (N,) index of each case's group.

    Returns:
        (2,) low and high: they hold the proportion, and are never equal; nan if no case counts.
    """
    cases = np.bincount(groups, counted)
    hits = np.bincount(groups, counted & right)[cases > 0]
    cases = cases[cases > 0]
    number, among = cases.sum(), len(cases)
    if not number:
        return np.full(2, np.nan)
    proportion = hits.sum() / number
    worth = float(among)
    if 0 < proportion < 1 and among > 1:
        variance = np.square(hits - proportion * cases).sum() / number**2 * among / (among - 1)
        independent = proportion * (1 - proportion) / (number - 1)  # the variance, were the cases
        quantile = (1 + level) / 2
        worth = number * min(1.0, independent / max(variance, independent / number))
        worth *= (stdtrit(number - 1, quantile) / stdtrit(among - 1, quantile)) ** 2  # few groups know it badly
    hit, missed = proportion * worth, (1 - proportion) * worth
    low = betaincinv(hit, missed + 1, (1 - level) / 2) if hit > 0 else 0.0
    high = betaincinv(hit + 1, missed, (1 + level) / 2) if missed > 0 else 1.0
    return np.array([low, high])


def least_mean(trials: Sequence[int], level: float) -> float:
    """The lower bound of the mean of proportions, one a class, when all of each class's trials succeeded.

    Hanley and Lippman-Hand (1983, JAMA 249, 1743-1745), "If nothing goes wrong, is everything all right?", for several
    classes: the least mean of proportions p under which nothing goes wrong, the product of p ** trials, has still a
    probability of (1 - level) / 2. For one class that is the lower bound of `interval`.

    Args:
        trials: How many independent ones each class has; a class without one is left out.
    """
    counts = np.sort(np.array([n for n in trials if n > 0], float))
    surprise = -np.log((1 - level) / 2)
    least = 1.0 if len(counts) else np.nan
    for some in (counts[: i + 1] for i in range(len(counts))):  # where the least is, only the rarest classes go wrong
        proportions = some * np.exp(-(surprise + (some * np.log(some)).sum()) / some.sum())
        if (proportions <= 1).all():
            least = min(least, 1 - (1 - proportions).sum() / len(counts))
    return float(least)
