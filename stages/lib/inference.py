"""Asks a model about many samples, a batch at a time: memory depends on the batch, never on the data set."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from stages.lib.core.progress import progress
from stages.lib.model.deployed import outputs


def batches(x: np.ndarray, batch_size: int, doing: str) -> Iterator[np.ndarray]:
    """Copies of consecutive parts of a (memory-mapped) array, with progress shown: (B, C, *size) each."""
    for start in progress(range(0, len(x), batch_size), doing, "batch"):
        yield np.array(x[start : start + batch_size])


def predict(model: Callable[..., Any], x: np.ndarray, batch_size: int, doing: str = "predict") -> np.ndarray:
    """What a model of one output says of each sample, (N, K) float64.

    Args:
        model: A classifier (then these are logits) or a deployed one (probabilities).
        x: (N, C, H, W) or (N, C, D, H, W), the dataset's own integers; may be memory-mapped.
    """
    return predict_all(model, x, batch_size, doing)[0]


@torch.inference_mode()
def predict_all(
    model: Callable[..., Any], x: np.ndarray, batch_size: int, doing: str = "predict"
) -> tuple[np.ndarray, ...]:
    """As `predict`, all outputs of a model of one or several."""
    nobody = np.zeros((1, *x.shape[1:]), x.dtype)  # an empty split still tells how many classes there are
    parts = [
        [output.double().numpy() for output in outputs(model(torch.from_numpy(batch)))]
        for batch in (batches(x, batch_size, doing) if len(x) else [nobody])
    ]
    return tuple(np.concatenate(part)[: len(x)] for part in zip(*parts, strict=True))
