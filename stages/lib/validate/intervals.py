"""An interval around every score that a split's groups can give one.

Accuracy, precision and recall are proportions, and have exact intervals unless cases have weights; the other scores
have those of the bootstrap. Where all resamples are alike because nothing went wrong (or everything), the bound is
exact again: a score of 1 from 50 cases is not known to be 1.
"""

from collections.abc import Sequence

import numpy as np

from stages.lib.tensors import Split
from stages.lib.validate import bootstrap, proportions
from stages.lib.validate.kinds.kind import Kind

LEVEL = 0.95
Intervals = dict[str, np.ndarray]


def intervals(kind: Kind, split: Split, said: np.ndarray, resamples: int, seed: int) -> tuple[Intervals, Intervals]:
    """The bounds between which a score lies at `LEVEL`; they hold the score's value.

    Args:
        said: As of `Kind`.

    Returns:
        Low and high of the overall scores, (2,) each, and of the scores per class or label, (2, K) each. A score that
        has no value, or of which the cases say nothing, has nan.
    """
    of_all, of_names = kind.weighted(split, said, np.ones((1, len(split.y))))
    blocks = [kind.weighted(split, said, block) for block in bootstrap.weights(split.groups, resamples, seed)]
    overall, per_name = (
        {name: _bounds(kind, name, own[name], np.concatenate([block[part][name] for block in blocks])) for name in own}
        for part, own in enumerate((of_all, of_names))
    )
    if _count_alike(split):
        _make_exact(kind, split, said, overall, per_name)
        for name, bounds in overall.items():
            overall[name] = _unanimous(of_all[name][0], bounds, kind.overall_trials(split, name))
        for name, bounds in per_name.items():
            for k, trials in enumerate(kind.trials(split, name)):
                bounds[:, k] = _unanimous(of_names[name][0, k], bounds[:, k], trials)
    return overall, per_name


def _count_alike(split: Split) -> bool:
    return split.weight is None or bool((split.weight == split.weight.max(initial=0.0)).all() and split.weight.any())


def _bounds(kind: Kind, name: str, value: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """(1,) and (R,) -> (2,); of each class or label, (1, K) and (R, K) -> (2, K)."""
    found = bootstrap.bounds(value[0].reshape(-1), resampled.reshape(len(resampled), -1), LEVEL)
    return found.clip(*kind.limits(name)).reshape(2, *value.shape[1:])


def _make_exact(kind: Kind, split: Split, said: np.ndarray, overall: Intervals, per_name: Intervals) -> None:
    index = np.unique(np.asarray(split.groups), return_inverse=True)[1]
    of_all, of_names = kind.proportions(split, said)
    for name, (right, counted) in of_all.items():
        overall[name] = proportions.interval(right, counted, index, LEVEL)
    for name, of_each in of_names.items():
        for k, (right, counted) in enumerate(of_each):
            per_name[name][:, k] = proportions.interval(right, counted, index, LEVEL)


def _unanimous(value: float, bounds: np.ndarray, trials: Sequence[int]) -> np.ndarray:
    """The bounds, (2,), of a score of which all resamples are alike, if it is 1 or 0; else those that it has."""
    unknown = 1 - proportions.least_mean(trials, LEVEL)
    if not np.isnan(bounds).any() or not np.isfinite(unknown) or not (value < 1e-12 or value > 1 - 1e-12):
        return bounds
    return np.array([0.0, unknown] if value < 0.5 else [1 - unknown, 1.0])
