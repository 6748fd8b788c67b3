"""Mini-batches out of the mapped dataset.h5: one gather a batch, no Python a sample."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.lib.tensors import Split
from stages.lib.train.batch_parts import whole
from stages.lib.train.distributed import World


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int, parts: int = 1) -> list[np.ndarray]:
    """An epoch's shuffled positions, cut into mini-batches: they depend on nothing but the arguments.

    A last batch of one sample joins the one before, for batch normalisation can't do with one; so does one of fewer
    samples than parts.
    """
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    cuts = list(range(batch_size, samples, batch_size))
    least = max(parts, min(2, batch_size))
    if cuts and samples - cuts[-1] < least:
        cuts.pop()
    return np.split(order, cuts)


def share(rows: np.ndarray, part: int, parts: int) -> np.ndarray:
    """The `part`-th of `parts` nearly equal, contiguous shares of a batch."""
    return rows[len(rows) * part // parts : len(rows) * (part + 1) // parts]


@dataclass(frozen=True)
class Piece:
    """What goes through the network at once."""

    part: int  # of the batch
    rows: np.ndarray  # positions in the batch: the part's, or a process's share of them
    start: int  # where they begin in the part
    total: int  # samples of the part


def pieces(samples: int, parts: int, world: World) -> list[Piece]:
    """What a process computes of a batch that is cut into parts.

    Whole parts, where they can be dealt out evenly; else its share of every part.
    """
    cut = [share(np.arange(samples), part, parts) for part in range(parts)]
    if whole(parts, world):
        mine = share(np.arange(parts), world.rank, world.size)
        return [Piece(int(part), cut[part], 0, len(cut[part])) for part in mine]
    return [
        Piece(part, share(rows, world.rank, world.size), len(rows) * world.rank // world.size, len(rows))
        for part, rows in enumerate(cut)
    ]


def gather(split: Split, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples in their own dtype (n, C, ...) and their class indices (n,), copied to the device."""
    x, y = (torch.from_numpy(array[rows]) for array in (split.x, split.y))
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)
