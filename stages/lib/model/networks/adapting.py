"""Fits a network made for other data to this data: its first layer to the channels, its last to the classes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTED = (nn.Linear, nn.Conv2d, nn.Conv3d)


def adapt(network: nn.Module, channels: int, classes: int) -> None:
    """Replaces the first convolution if it takes other channels, and the last layer if it gives other classes.

    Raises:
        ValueError: The network has no such layer, or the one to replace is a convolution in groups.
    """
    weighted = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, WEIGHTED)]
    if not weighted:
        raise ValueError("the network has neither convolution nor linear layer to fit to the data")
    first_name, first = next(((n, m) for n, m in weighted if not isinstance(m, nn.Linear)), weighted[0])
    if not isinstance(first, nn.Linear) and first.in_channels != channels:
        _replace(network, first_name, _like(first, channels, first.out_channels))
    last_name, last = weighted[-1]
    inputs, outputs = (
        (last.in_features, last.out_features) if isinstance(last, nn.Linear) else (last.in_channels, last.out_channels)
    )
    if outputs != classes:
        _replace(network, last_name, _like(last, inputs, classes))


def _like(layer: nn.Linear | nn.Conv2d | nn.Conv3d, inputs: int, outputs: int) -> nn.Module:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias)
    if layer.groups != 1:
        raise ValueError(f"a first or last convolution of {layer.groups} groups can't be fitted to the data")
    like: Any = type(layer)
    return like(inputs, outputs, layer.kernel_size, layer.stride, layer.padding, dilation=layer.dilation, bias=bias)


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)


def head_parameters(network: nn.Module, classes: int) -> list[nn.Parameter]:
    """The parameters of the last layer, which gives the logits; none if no layer has `classes` outputs."""
    layers = [layer for layer in network.modules() if isinstance(layer, WEIGHTED) and layer.weight.shape[0] == classes]
    return list(layers[-1].parameters()) if layers else []


@torch.no_grad()
def fill(network: nn.Module, weights: Mapping[str, Tensor], head: bool = True) -> list[str]:
    """Copies weights into the network by name.

    Kernels of a first convolution with other input channels are averaged over them and scaled to keep their sum.

    Args:
        head: Whether the last layer is filled, too, where it fits.

    Returns:
        The names of the network's parameters that were not filled: those of the last layer if the classes differ, or
        without `head`.

    Raises:
        ValueError: Parameters of other layers do not fit.
    """
    own = network.state_dict()
    prefix = "" if any(name in weights for name in own) else "model."  # of networks that wrap another as `model`
    last = next(name for name, layer in reversed(list(network.named_modules())) if isinstance(layer, WEIGHTED))
    kept = []
    for name, value in own.items():
        given = weights.get(name.removeprefix(prefix)) if head or name.rpartition(".")[0] != last else None
        if given is not None and given.shape != value.shape and given.shape[2:] == value.shape[2:] and value.ndim > 3:
            if given.shape[0] == value.shape[0]:
                given = given.mean(1, keepdim=True).expand_as(value) * (given.shape[1] / value.shape[1])
        if given is not None and given.shape == value.shape:
            value.copy_(given)
        elif not name.endswith("num_batches_tracked"):
            kept.append(name)
    if strays := [name for name in kept if name.rpartition(".")[0] != last]:
        raise ValueError(f"they are of another network, or of other data: {', '.join(strays[:4])} can't be taken over")
    return kept
