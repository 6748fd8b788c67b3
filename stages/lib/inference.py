"""Asks a model about many samples, a batch at a time: memory depends on the batch, never on the data set."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from stages.lib.progress import progress


def batches(x: np.ndarray, batch_size: int, doing: str) -> Iterator[np.ndarray]:
    """Copies of consecutive parts of a (memory-mapped) array, with progress shown: (B, C, *size) each."""
    for start in progress(range(0, len(x), batch_size), doing, "batch"):
        yield np.array(x[start : start + batch_size])


@torch.inference_mode()
def predict(model: Callable[[Tensor], Tensor], x: np.ndarray, batch_size: int, doing: str = "predict") -> np.ndarray:
    """What the model says of each sample, (N, K) float64.

    Args:
        model: Any module of one output: a classifier (then these are logits) or a deployed one (probabilities).
        x: (N, C, H, W) or (N, C, D, H, W), the dataset's own integers; may be memory-mapped.
    """
    parts = [model(torch.from_numpy(batch)).double().numpy() for batch in batches(x, batch_size, doing)]
    return np.concatenate(parts) if parts else np.empty((0, 0))
