"""A batch in parts, whose sums do not depend, to the bit, on how many processes compute them.

Adding numbers in another order changes their last bits, and training makes much of that: started 1e-7 off, the demo
datasets' losses differ by more than 1e-2 a few epochs later, whatever the optimizer. So `train.accumulate` cuts a batch
the same way for any number of processes: kernels sum over one part, parts are added two and two, and what a network
draws or remembers of a part is the part's own.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.lib.train import distributed
from stages.lib.train.distributed import World

Item = TypeVar("Item")


def pairwise(items: Sequence[Item], value: Callable[[Item], list[Tensor]]) -> list[Tensor]:
    """The sums of the items' values: of the first half's, plus of the second half's, and so on.

    That is one tree, whoever has summed which of its branches, for powers of two of items and of processes.
    """
    if len(items) == 1:
        return value(items[0])
    middle = len(items) // 2
    total, others = pairwise(items[:middle], value), pairwise(items[middle:], value)
    torch._foreach_add_(total, others)
    return total


@torch.no_grad()
def add_up(world: World, values: list[Tensor], parts: int) -> list[Tensor]:
    """The sums over the processes of what `pairwise` gave each, in place."""
    if world.size == 1:
        return values
    flat = torch.cat([value.reshape(-1) for value in values])
    if whole(parts, world):
        (flat,) = pairwise(distributed.gather(world, flat), lambda one: [one])
    else:
        distributed.add_up(flat)
    totals = flat.split([value.numel() for value in values])
    return [value.copy_(total.view_as(value)) for value, total in zip(values, totals, strict=True)]  # layouts stay


def whole(parts: int, world: World) -> bool:
    """Whether a process computes whole parts; else it computes its share of every part."""
    return parts % world.size == 0


def seed(*numbers: int) -> None:
    """Seeds torch for what a network draws itself, such as dropout, by whose part of which batch it is."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


class RunningStatistics:
    """Of the batch norms of a network that trains: moved by one part after the other, in the parts' order."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [
            layer
            for layer in network.modules()
            if isinstance(layer, _BatchNorm) and layer.training and layer.track_running_stats
        ]
        self._rates = [layer.momentum for layer in self._layers]
        self._former = [(mean.clone(), var.clone()) for mean, var, _ in map(_buffers, self._layers)]
        self._parts: list[Tensor] = []
        for layer in self._layers:
            layer.momentum = 1.0  # a part then leaves its own statistics, and nothing of the former ones

    def note(self) -> None:
        """After a part has gone through."""
        if self._layers:
            self._parts.append(torch.cat([value for layer in self._layers for value in _buffers(layer)[:2]]))

    def move(self, world: World) -> None:
        """After all parts have gone through, in all processes."""
        if not self._layers:
            return
        sizes = [len(value) for layer in self._layers for value in _buffers(layer)[:2]]
        of_all = torch.cat(distributed.gather(world, torch.stack(self._parts)))  # (parts, all layers' statistics)
        seen = of_all.split(sizes, 1)
        for i, (layer, rate) in enumerate(zip(self._layers, self._rates, strict=True)):
            layer.momentum = rate
            *buffers, number = _buffers(layer)
            number -= len(self._parts)  # which the layer has counted itself
            for part in range(len(of_all)):
                number += 1
                for value, new in zip(self._former[i], seen[2 * i : 2 * i + 2], strict=True):
                    value.lerp_(new[part], rate if rate is not None else 1 / int(number))
            for buffer, value in zip(buffers, self._former[i], strict=True):
                buffer.copy_(value)


def _buffers(layer: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Running mean and variance (channels,), and the number of batches they are of."""
    buffers = layer.running_mean, layer.running_var, layer.num_batches_tracked
    assert buffers[0] is not None and buffers[1] is not None and buffers[2] is not None
    return buffers[0], buffers[1], buffers[2]
