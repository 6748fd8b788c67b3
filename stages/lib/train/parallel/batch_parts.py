"""A batch in parts, whose sums do not depend, to the bit, on how many processes compute them.

Adding numbers in another order changes their last bits, and training amplifies that: with a start that differs by 1e-7,
the losses of the demo datasets differ by more than 1e-2 a few epochs later, whatever the optimizer. So the batch is cut
into `train.accumulate` parts for any number of processes. A kernel sums over one part, the parts' sums are added in
pairs, and each part has its own dropout masks and batch statistics.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.lib.train.parallel import distributed
from stages.lib.train.parallel.distributed import World

Item = TypeVar("Item")


def pairwise(items: Sequence[Item], value: Callable[[Item], list[Tensor]]) -> list[Tensor]:
    """The sums of the items' values: the sum of the first half plus that of the second half, each summed likewise.

    Where items and processes are powers of two, the tree of additions is the same whichever process sums which branch.
    """
    if len(items) == 1:
        return value(items[0])
    middle = len(items) // 2
    total, others = pairwise(items[:middle], value), pairwise(items[middle:], value)
    torch._foreach_add_(total, others)
    return total


@torch.no_grad()
def add_up(world: World, values: list[Tensor], parts: int) -> list[Tensor]:
    """Sums over the processes, in place, what `pairwise` gave each of them."""
    if world.size == 1:
        return values
    flat = torch.cat([value.reshape(-1) for value in values])
    if dealt_whole(parts, world):
        (flat,) = pairwise(distributed.gather(world, flat), lambda one: [one])
    else:
        distributed.add_up(flat)
    totals = flat.split([value.numel() for value in values])
    return [value.copy_(total.view_as(value)) for value, total in zip(values, totals, strict=True)]  # layouts stay


def dealt_whole(parts: int, world: World) -> bool:
    """Whether each process computes whole parts of a batch; else each computes a chunk of every part."""
    return parts % world.size == 0


def seed(*numbers: int) -> None:
    """Seeds torch's generator, from which dropout draws its masks, by the numbers that identify a part."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


class RunningStatistics:
    """The running statistics of a network's batch norms, updated by one part after the other in the parts' order.

    Make one before the first part of a batch, `record` after each part, and `update` after the last one.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [
            layer
            for layer in network.modules()
            if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
        ]
        self._momenta = [layer.momentum for layer in self._layers]
        self._former = [(mean.clone(), var.clone()) for mean, var, _ in map(_buffers, self._layers)]
        self._of_parts: list[Tensor] = []
        for layer in self._layers:
            layer.momentum = 1.0  # each part then leaves its own statistics in the buffers, and nothing of former ones

    def record(self) -> None:
        """Keeps the statistics of the part that has just gone through the network."""
        if self._layers:
            self._of_parts.append(torch.cat([value for layer in self._layers for value in _buffers(layer)[:2]]))

    def update(self, world: World) -> None:
        """Moves the buffers by the statistics of all parts of all processes."""
        if not self._layers:
            return
        sizes = [len(value) for layer in self._layers for value in _buffers(layer)[:2]]
        of_all = torch.cat(distributed.gather(world, torch.stack(self._of_parts)))  # (parts, all layers' statistics)
        by_buffer = of_all.split(sizes, 1)
        for i, (layer, momentum) in enumerate(zip(self._layers, self._momenta, strict=True)):
            layer.momentum = momentum
            *buffers, batches = _buffers(layer)
            batches -= len(self._of_parts)  # which the layer has counted itself
            for part in range(len(of_all)):
                batches += 1
                for value, new in zip(self._former[i], by_buffer[2 * i : 2 * i + 2], strict=True):
                    value.lerp_(new[part], momentum if momentum is not None else 1 / int(batches))
            for buffer, value in zip(buffers, self._former[i], strict=True):
                buffer.copy_(value)


def _buffers(layer: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Running mean and variance (channels,), and the number of batches that they have seen."""
    buffers = layer.running_mean, layer.running_var, layer.num_batches_tracked
    assert buffers[0] is not None and buffers[1] is not None and buffers[2] is not None
    return buffers[0], buffers[1], buffers[2]
