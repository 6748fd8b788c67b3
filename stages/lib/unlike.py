"""Samples unlike anything seen in training: the threshold, and what it catches of samples that were spoilt on purpose.

A classifier has a class for everything it is shown, an upside-down scan or a blank one included, and may be sure of it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from sklearn import metrics
from torch import Tensor, nn

from stages.lib.classifier import Classifier
from stages.lib.deployed import Settings, energy, roughness, strangeness
from stages.lib.inference import predict

KEPT = 0.95  # share of the validation cases below the threshold
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


CORRUPTIONS: dict[str, Callable[[np.ndarray, Range, Rng], np.ndarray]] = {
    "noise": noise,
    "inverted": inverted,
    "blank": blank,
    "shuffled": shuffled,
}


class _Measures(nn.Module):
    """Energy and roughness of each sample, (N, 2)."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([energy(self.classifier(x)), roughness(self.classifier.normalise(x))], dim=1)


class _Strangeness(nn.Module):
    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        super().__init__()
        self.classifier, self.settings = classifier, settings

    def forward(self, x: Tensor) -> Tensor:  # -> (N,)
        return strangeness(self.classifier(x), self.classifier.normalise(x), self.settings)


def settled(classifier: Classifier, x: np.ndarray, settings: Settings, batch_size: int) -> Settings:
    """The settings with what validation samples are like, and the threshold that `KEPT` of them stay below."""
    if not len(x):
        return settings
    measures = predict(_Measures(classifier), x, batch_size, "unlike: validation")  # (N, 2)
    mean, deviation = measures.mean(0), np.maximum(measures.std(0), 1e-6)
    settings = replace(
        settings,
        energy_mean=_written(mean[0]),
        energy_deviation=_written(deviation[0]),
        roughness_mean=_written(mean[1]),
        roughness_deviation=_written(deviation[1]),
    )
    known = predict(_Strangeness(classifier, settings), x, batch_size, "unlike: validation")
    return replace(settings, unlike_threshold=_written(np.quantile(known, KEPT)))


def _written(value: float) -> float:
    """As validate.json keeps it."""
    return float(f"{value:.6g}")


def caught(
    classifier: Classifier, x: np.ndarray, span: Range, settings: Settings, batch_size: int
) -> dict[str, dict[str, float]]:
    """What the threshold catches of the test split, and of the test split spoilt in each way.

    Returns:
        By name of the corruption ("none" is the test split itself): `flagged`, the share beyond the threshold, and
        `auroc`, how well strangeness tells the spoilt from the others.
    """
    if not len(x):
        return {}
    original = np.array(x[:AT_MOST])
    model = _Strangeness(classifier, settings)
    known = predict(model, original, batch_size, "unlike: none")
    report = {"none": {"flagged": float((known > settings.unlike_threshold).mean())}}
    for name, corrupt in CORRUPTIONS.items():
        spoilt = corrupt(original.astype(np.float64), span, np.random.default_rng(0))
        spoilt = spoilt if original.dtype.kind == "f" else spoilt.round()
        found = predict(model, spoilt.astype(original.dtype), batch_size, f"unlike: {name}")
        is_spoilt = np.repeat([False, True], [len(known), len(found)])
        area = metrics.roc_auc_score(is_spoilt, np.concatenate([known, found]))
        report[name] = {"flagged": float((found > settings.unlike_threshold).mean()), "auroc": float(area)}
    return report
