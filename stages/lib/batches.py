"""Mini-batches out of the mapped dataset.h5: one gather a batch, no Python a sample."""

import numpy as np
import torch
from torch import Tensor

from stages.lib.tensors import Split


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """An epoch's shuffled positions, cut into mini-batches: they depend on nothing but the arguments.

    A last batch of one sample joins the one before: batch normalisation can't do with one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    cuts = list(range(batch_size, samples, batch_size))
    if cuts and samples - cuts[-1] == 1 and batch_size > 1:
        cuts.pop()
    return np.split(order, cuts)


def share(rows: np.ndarray, part: int, parts: int) -> np.ndarray:
    """The `part`-th of `parts` nearly equal, contiguous shares of a batch."""
    return rows[len(rows) * part // parts : len(rows) * (part + 1) // parts]


def gather(split: Split, rows: np.ndarray | slice, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples in their own dtype (n, C, ...) and their class indices (n,), on the device."""
    x = torch.from_numpy(np.array(split.x[rows]))  # a copy: mapped pages are read-only
    return x.to(device, non_blocking=True), torch.from_numpy(split.y[rows]).to(device, non_blocking=True)
