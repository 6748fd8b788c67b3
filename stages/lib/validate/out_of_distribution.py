"""Out-of-distribution samples, unlike the training data: the threshold, and how many corrupted samples it detects.

A classifier gives every input a class, an upside-down or blank scan too, and may be sure of it.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from stages.lib.model.classifier import Classifier
from stages.lib.model.deployed import Settings, strangeness
from stages.lib.tensors import Asked
from stages.lib.validate import scores
from stages.lib.validate.answers import CLASSES, measure

BELOW_THRESHOLD = 0.95  # fraction of the cases like those of the validation split
MAX_CORRUPTED_CASES = 500  # of the test split, by each corruption

Rng = np.random.Generator
IntensityRange = tuple[np.ndarray, np.ndarray]  # minimum and maximum of each channel, (C, 1, ...) each


def noise(x: np.ndarray, limits: IntensityRange, rng: Rng) -> np.ndarray:
    return rng.uniform(limits[0], limits[1], x.shape)


def inverted(x: np.ndarray, limits: IntensityRange, rng: Rng) -> np.ndarray:
    return limits[0] + limits[1] - x


def blank(x: np.ndarray, limits: IntensityRange, rng: Rng) -> np.ndarray:
    return np.broadcast_to(x.mean(axis=tuple(range(2, x.ndim)), keepdims=True), x.shape)


def shuffled(x: np.ndarray, limits: IntensityRange, rng: Rng) -> np.ndarray:
    """The same pixels in another order: mean, deviation and histogram stay."""
    flat = x.reshape(*x.shape[:2], -1)
    return flat[:, :, rng.permutation(flat.shape[2])].reshape(x.shape)


def blurred(x: np.ndarray, limits: IntensityRange, rng: Rng) -> np.ndarray:
    return gaussian_filter(x, (0, 0, *[1.5] * (x.ndim - 2)))


CORRUPTIONS: dict[str, Callable[[np.ndarray, IntensityRange, Rng], np.ndarray]] = {
    "noise": noise,
    "inverted": inverted,
    "blank": blank,
    "shuffled": shuffled,
    "blurred": blurred,
}


def with_threshold(measured: np.ndarray, settings: Settings) -> Settings:
    """The settings with the validation split's measures, and a threshold with `BELOW_THRESHOLD` of such cases below it.

    Args:
        measured: (N, 4) of the validation split.

    Of n cases, the threshold is the one of rank (n + 1) * BELOW_THRESHOLD, as in conformal prediction: of a few cases,
    their own quantile would be too low for new ones.
    """
    if not len(measured):
        return settings
    settings = replace(
        settings,
        unlike_means=[_rounded(mean) for mean in measured.mean(0)],
        unlike_deviations=[_rounded(deviation) for deviation in np.maximum(measured.std(0), 1e-6)],
    )
    ordered = np.sort(_strangeness(measured, settings))
    rank = min(len(ordered), math.ceil((len(ordered) + 1) * BELOW_THRESHOLD))
    return replace(settings, unlike_threshold=_rounded(ordered[rank - 1]))


def distances(measured: np.ndarray, settings: Settings) -> np.ndarray | None:
    """How unlike the training data each case is, (N,), from its measures, (N, 4); None where that is not known."""
    return None if settings.unlike_threshold is None else _strangeness(measured, settings)


def _strangeness(measured: np.ndarray, settings: Settings) -> np.ndarray:  # (N, 4) -> (N,)
    return strangeness(torch.from_numpy(measured), settings).numpy()


def _rounded(value: float) -> float:
    """As validate.json has it."""
    return float(f"{value:.6g}")


def detection(
    classifier: Classifier,
    x: np.ndarray,
    measured: np.ndarray,
    limits: IntensityRange,
    settings: Settings,
    batch_size: int,
    asked: Asked = CLASSES,
) -> dict[str, dict[str, float]]:
    """How much of the test split the threshold flags, as it is and corrupted in each way.

    Args:
        measured: (N, 4) of the test split as it is.
        asked: What the model is to answer.

    Returns:
        By name of the corruption ("none" is the test split itself): `flagged`, the fraction beyond the threshold, and
        `auroc`, how well the strangeness separates the corrupted samples from the others.
    """
    if not len(x) or settings.unlike_threshold is None:
        return {}
    original = np.array(x[:MAX_CORRUPTED_CASES])
    uncorrupted = _strangeness(measured[:MAX_CORRUPTED_CASES], settings)
    report = {"none": {"flagged": float((uncorrupted > settings.unlike_threshold).mean())}}
    for name, corrupt in CORRUPTIONS.items():
        corrupted = corrupt(original.astype(np.float64), limits, np.random.default_rng(0))
        corrupted = corrupted if original.dtype.kind == "f" else corrupted.round()
        changed = corrupted.astype(original.dtype)
        found = _strangeness(measure(classifier, changed, batch_size, f"unlike: {name}", asked), settings)
        is_corrupted = np.repeat([False, True], [len(uncorrupted), len(found)])
        counts = scores.ranked(is_corrupted, np.concatenate([uncorrupted, found]), np.ones((1, len(is_corrupted))))
        area = float(scores.auroc(*counts[:2])[0])
        report[name] = {"flagged": float((found > settings.unlike_threshold).mean()), "auroc": area}
    return report
