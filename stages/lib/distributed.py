"""Several processes training one model: each sees its share of every batch, and gradients and sums are added up."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1


@torch.no_grad()
def add_up(world: World, tensors: Sequence[Tensor], figures: Tensor) -> Tensor:
    """Sums tensors over the processes, in place, in one exchange; and `figures`, whose sum is returned.

    Sums, where torch's DistributedDataParallel averages: the shares of a batch need not be of one size.
    """
    if world.size == 1:
        return figures
    flat = torch.cat([*(tensor.reshape(-1) for tensor in tensors), figures.to(tensors[0] if tensors else figures)])
    torch.distributed.all_reduce(flat)
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
    return flat[start:]
