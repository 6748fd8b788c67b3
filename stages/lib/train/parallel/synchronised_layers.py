"""Makes layers act on the whole batch where each process sees only a chunk of it.

Batch normalisation takes its statistics over all processes (torch's SyncBatchNorm is for CUDA alone); dropout draws the
mask of the whole batch, as one process would, and uses its own rows. The layers' names and weights stay as they are.
Not needed where each process computes whole parts of a batch (`batch_parts`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


@dataclass
class Place:
    """Where this process's samples lie in the part of the batch that all processes send through the network."""

    start: int = 0
    total: int = 0  # samples of all processes


class _Sum(torch.autograd.Function):
    """The sum over the processes; the gradient is summed over them too."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def synchronise(network: nn.Module, place: Place) -> None:
    """Makes the batch norms and dropouts of a network act on the batch of all processes while they train."""
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.forward = partial(batch_norm, layer, layer.forward)  # type: ignore[method-assign]
        elif isinstance(layer, _DropoutNd):
            layer.forward = partial(dropout, layer, layer.forward, place)


def batch_norm(layer: _BatchNorm, alone: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Batch normalisation of (n, C, ...), with statistics over the samples of all processes.

    Args:
        alone: The layer's own forward pass.
    """
    if not layer.training:
        return alone(x)
    axes, column = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    values = x.float()
    count = values.new_full((1,), x.numel() // x.shape[1])
    total = _Sum.apply(torch.cat([values.sum(axes), count]))
    number = total[-1].detach()
    centred = values - (total[:-1] / number).view(column)
    variance = _Sum.apply(centred.square().sum(axes)) / number
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        layer.num_batches_tracked += 1
        rate = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_((total[:-1] / number).detach(), rate)
        layer.running_var.lerp_((variance * number / (number - 1)).detach(), rate)
    y = centred * torch.rsqrt(variance + layer.eps).view(column)
    if layer.affine:
        y = y * layer.weight.view(column) + layer.bias.view(column)
    return y.to(x.dtype)


def dropout(layer: _DropoutNd, alone: Callable[[Tensor], Tensor], place: Place, x: Tensor) -> Tensor:
    """Applies the layer to a whole batch, zero but for this process's rows, so that its mask is the whole batch's."""
    if not layer.training:
        return alone(x)
    whole = x.new_zeros(place.total, *x.shape[1:])
    end = place.start + len(x)
    return alone(torch.cat([whole[: place.start], x, whole[end:]]))[place.start : end]
