"""The scores of numbers; a score that a split does not define is nan. As in `scores`, many weightings at once."""

import numpy as np

from stages.lib.validate.scores import Scores

OVERALL = ("r2", "spearman", "mae", "rmse", "median_error", "bias", "coverage")


def weighted(truth: np.ndarray, said: np.ndarray, weight: np.ndarray) -> Scores:
    """The scores with each row of weights, (R, N): (R,) each, in the number's unit where they have one.

    Args:
        truth: (N,)
        said: (N, 3) the number, and its bounds.
    """
    value = said[:, 0]
    error, total = value - truth, weight.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = weight @ np.square(error)
        return {
            "r2": 1 - squares / _spread(truth, weight),
            "spearman": _correlation(_ranks(truth, weight), _ranks(value, weight), weight),
            "mae": weight @ np.abs(error) / total,
            "rmse": np.sqrt(squares / total),
            "median_error": _median(np.abs(error), weight),
            "bias": weight @ error / total,
            "coverage": weight @ inside(truth, said) / total,
        }


def inside(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Whether each number lies between its bounds, (N,), but for the last bits of float32."""
    slack = 1e-6 * np.abs(said).max(1, initial=0.0)
    return (truth >= said[:, 1] - slack) & (truth <= said[:, 2] + slack)


def _spread(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The sum of squares around each row's mean, (R,); nan where all values are one number."""
    values = values - values.mean()
    mean = weight @ values / weight.sum(1)
    squares = weight @ np.square(values)
    around = squares - weight.sum(1) * np.square(mean)
    return np.where(around > 1e-12 * squares, around, np.nan)


def _ranks(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The middle rank of each value, (R, N), where a case of weight 2 is there twice."""
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)  # of each run of equal values
    run = np.cumsum(np.append(False, last[:-1]))
    upto = np.cumsum(weight[:, order], axis=1)[:, last]
    below = np.concatenate([np.zeros((len(weight), 1)), upto[:, :-1]], 1)
    ranks = np.empty(weight.shape)
    ranks[:, order] = ((below + upto) / 2)[:, run]
    return ranks


def _correlation(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Pearson's, of each row, (R,): x, y and weight are (R, N)."""
    total = weight.sum(1, keepdims=True)
    x, y = (values - (weight * values).sum(1, keepdims=True) / total for values in (x, y))
    shared = (weight * x * y).sum(1)
    own = [(weight * np.square(values)).sum(1) for values in (x, y)]
    least = 1e-12 * total[:, 0] ** 3  # of ranks that are all one, whose differences are rounding
    return np.where((own[0] > least) & (own[1] > least), shared / np.sqrt(own[0] * own[1]), np.nan).clip(-1, 1)


def _median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of each row, (R,), where a case of weight 2 is there twice."""
    order = np.argsort(values, kind="stable")
    upto, ordered = np.cumsum(weight[:, order], axis=1), values[order]
    half, slack = upto[:, -1:] / 2, 1e-9 * upto[:, -1:]
    low, high = ordered[(upto >= half - slack).argmax(1)], ordered[(upto > half + slack).argmax(1)]
    return np.where(upto[:, -1] > 0, (low + high) / 2, np.nan)
