"""Runs a model on many samples, a batch at a time: memory depends on the batch, never on the data set."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from stages.lib.core.progress import progress
from stages.lib.model.deployed import outputs


def batches(x: np.ndarray, batch_size: int, doing: str) -> Iterator[np.ndarray]:
    """Copies of consecutive samples of a (memory-mapped) array, (B, C, *size) each; shows progress."""
    for start in progress(range(0, len(x), batch_size), doing, "batch"):
        yield np.array(x[start : start + batch_size])


def predict(model: Callable[..., Any], x: np.ndarray, batch_size: int, doing: str = "predict") -> np.ndarray:
    """The output of a model that has one, for each sample: (N, K) float64.

    Args:
        model: A classifier (gives logits) or a deployed one (gives probabilities).
        x: (N, C, H, W) or (N, C, D, H, W), the dataset's own integers; may be memory-mapped.
    """
    return predict_all(model, x, batch_size, doing)[0]


@torch.inference_mode()
def predict_all(
    model: Callable[..., Any], x: np.ndarray, batch_size: int, doing: str = "predict"
) -> tuple[np.ndarray, ...]:
    """As `predict`, but all outputs of a model, one or several."""
    placeholder = np.zeros((1, *x.shape[1:]), x.dtype)  # so that an empty split's output has a column for each class
    results = [
        [output.double().numpy() for output in outputs(model(torch.from_numpy(batch)))]
        for batch in (batches(x, batch_size, doing) if len(x) else [placeholder])
    ]
    return tuple(np.concatenate(output)[: len(x)] for output in zip(*results, strict=True))
