"""Samples unlike anything seen in training: the threshold, and what it catches of samples that were spoilt on purpose.

A classifier has a class for everything it is shown, an upside-down scan or a blank one included, and may be sure of it.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn import metrics

from stages.lib.classifier import Classifier
from stages.lib.deployed import energy
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


def energies(logits: np.ndarray) -> np.ndarray:  # (N, K) -> (N,)
    return energy(torch.from_numpy(logits)).numpy()


def threshold(logits: np.ndarray) -> float:
    """The energy that `KEPT` of the validation cases stay below; 0.0 without cases."""
    return float(f"{np.quantile(energies(logits), KEPT):.6g}") if len(logits) else 0.0


def caught(
    classifier: Classifier, x: np.ndarray, span: Range, threshold: float, batch_size: int
) -> dict[str, dict[str, float]]:
    """What the threshold catches of the test split, and of the test split spoilt in each way.

    Returns:
        By name of the corruption ("none" is the test split itself): `flagged`, the share beyond the threshold, and
        `auroc`, how well the energy tells the spoilt from the others.
    """
    if not len(x):
        return {}
    original = np.array(x[:AT_MOST])
    known = energies(predict(classifier, original, batch_size, "unlike: none"))
    report = {"none": {"flagged": float((known > threshold).mean())}}
    for name, corrupt in CORRUPTIONS.items():
        spoilt = corrupt(original.astype(np.float64), span, np.random.default_rng(0))
        spoilt = spoilt if original.dtype.kind == "f" else spoilt.round()
        found = energies(predict(classifier, spoilt.astype(original.dtype), batch_size, f"unlike: {name}"))
        is_spoilt = np.repeat([False, True], [len(known), len(found)])
        area = metrics.roc_auc_score(is_spoilt, np.concatenate([known, found]))
        report[name] = {"flagged": float((found > threshold).mean()), "auroc": float(area)}
    return report
