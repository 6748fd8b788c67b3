"""Mini-batches from the memory-mapped dataset.h5: one read per batch, no Python loop over samples."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.lib.tensors import Split
from stages.lib.train.parallel.batch_parts import dealt_whole
from stages.lib.train.parallel.distributed import World


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int, parts: int = 1) -> list[np.ndarray]:
    """An epoch's shuffled positions, cut into mini-batches; they depend on nothing but the arguments.

    A last batch of a single sample joins the one before, since batch normalisation needs two; so does one of fewer
    samples than parts.
    """
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    cuts = list(range(batch_size, samples, batch_size))
    least = max(parts, min(2, batch_size))
    if cuts and samples - cuts[-1] < least:
        cuts.pop()
    return np.split(order, cuts)


def chunk(rows: np.ndarray, index: int, chunks: int) -> np.ndarray:
    """One of several contiguous chunks of nearly equal length."""
    return rows[len(rows) * index // chunks : len(rows) * (index + 1) // chunks]


@dataclass(frozen=True)
class BatchPart:
    """What one process sends through the network at once: a whole part of a batch, or a chunk of one."""

    index: int  # of the part in the batch
    rows: np.ndarray  # positions in the batch that this process computes
    start: int  # where they begin in the part
    total: int  # samples of the part, over all processes


def own_parts(samples: int, parts: int, world: World) -> list[BatchPart]:
    """What this process computes of a batch: whole parts where they can be dealt evenly, else a chunk of each part."""
    rows_of = [chunk(np.arange(samples), index, parts) for index in range(parts)]
    if dealt_whole(parts, world):
        own = chunk(np.arange(parts), world.rank, world.size)
        return [BatchPart(int(index), rows_of[index], 0, len(rows_of[index])) for index in own]
    return [
        BatchPart(index, chunk(rows, world.rank, world.size), len(rows) * world.rank // world.size, len(rows))
        for index, rows in enumerate(rows_of)
    ]


def gather(split: Split, rows: np.ndarray, device: torch.device) -> Tensor:
    """Samples in their own dtype (n, C, ...), copied to the device."""
    return torch.from_numpy(split.x[rows]).to(device, non_blocking=True)
