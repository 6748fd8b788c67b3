"""Samples unlike anything seen in training: the threshold, and what it catches of samples that were spoilt on purpose.

A classifier has a class for everything it is shown, an upside-down scan or a blank one included, and may be sure of it.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn import metrics
from torch import Tensor, nn

from stages.lib.inference import predict
from stages.lib.model.classifier import Classifier
from stages.lib.model.deployed import Settings, measures, strangeness

KEPT = 0.95  # share of the cases like those of the validation split that stay below the threshold
AT_MOST = 500  # test cases are spoilt, in each way

Rng = np.random.Generator
Range = tuple[np.ndarray, np.ndarray]  # lowest and highest number a channel, (C, 1, ...) each


def noise(x: np.ndarray, span: Range, rng: Rng) -> np.ndarray:
    return rng.uniform(span[0], span[1], x.shape)


def inverted(x: np.ndarray, span: Range, rng: Rng) -> np.ndarray:
    return span[0] + span[1] - x


def blank(x: np.ndarray, span: Range, rng: Rng) -> np.ndarray:
    return np.broadcast_to(x.mean(axis=tuple(range(2, x.ndim)), keepdims=True), x.shape)


def shuffled(x: np.ndarray, span: Range, rng: Rng) -> np.ndarray:
    """The same pixels in another order: every statistic of the whole picture stays."""
    flat = x.reshape(*x.shape[:2], -1)
    return flat[:, :, rng.permutation(flat.shape[2])].reshape(x.shape)


def blurred(x: np.ndarray, span: Range, rng: Rng) -> np.ndarray:
    return gaussian_filter(x, (0, 0, *[1.5] * (x.ndim - 2)))


CORRUPTIONS: dict[str, Callable[[np.ndarray, Range, Rng], np.ndarray]] = {
    "noise": noise,
    "inverted": inverted,
    "blank": blank,
    "shuffled": shuffled,
    "blurred": blurred,
}


class _Measures(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:  # -> (N, 4)
        return measures(self.classifier(x), self.classifier.normalise(x))


def with_threshold(classifier: Classifier, x: np.ndarray, settings: Settings, batch_size: int) -> Settings:
    """The settings with what validation samples are like, and the threshold that `KEPT` of others like them stay below.

    Of n cases, the threshold is that of rank (n + 1) * KEPT, as in conformal prediction: the share of n cases that lie
    below it would promise less of others, when n is small.
    """
    if not len(x):
        return settings
    measured = predict(_Measures(classifier), x, batch_size, "unlike: validation")  # (N, 4)
    settings = replace(
        settings,
        unlike_means=[_written(mean) for mean in measured.mean(0)],
        unlike_deviations=[_written(deviation) for deviation in np.maximum(measured.std(0), 1e-6)],
    )
    known = np.sort(_strangeness(measured, settings))
    rank = min(len(known), math.ceil((len(known) + 1) * KEPT))
    return replace(settings, unlike_threshold=_written(known[rank - 1]))


def _strangeness(measured: np.ndarray, settings: Settings) -> np.ndarray:  # (N, 4) -> (N,)
    return strangeness(torch.from_numpy(measured), settings).numpy()


def _written(value: float) -> float:
    """As validate.json keeps it."""
    return float(f"{value:.6g}")


def detection(
    classifier: Classifier, x: np.ndarray, span: Range, settings: Settings, batch_size: int
) -> dict[str, dict[str, float]]:
    """What the threshold catches of the test split, and of the test split spoilt in each way.

    Returns:
        By name of the corruption ("none" is the test split itself): `flagged`, the share beyond the threshold, and
        `auroc`, how well strangeness tells the spoilt from the others.
    """
    if not len(x) or settings.unlike_threshold is None:
        return {}
    original = np.array(x[:AT_MOST])
    model = _Measures(classifier)
    known = _strangeness(predict(model, original, batch_size, "unlike: none"), settings)
    report = {"none": {"flagged": float((known > settings.unlike_threshold).mean())}}
    for name, corrupt in CORRUPTIONS.items():
        spoilt = corrupt(original.astype(np.float64), span, np.random.default_rng(0))
        spoilt = spoilt if original.dtype.kind == "f" else spoilt.round()
        measured = predict(model, spoilt.astype(original.dtype), batch_size, f"unlike: {name}")
        found = _strangeness(measured, settings)
        is_spoilt = np.repeat([False, True], [len(known), len(found)])
        area = metrics.roc_auc_score(is_spoilt, np.concatenate([known, found]))
        report[name] = {"flagged": float((found > settings.unlike_threshold).mean()), "auroc": float(area)}
    return report
