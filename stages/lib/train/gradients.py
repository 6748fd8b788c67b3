"""How large the gradients are, a layer at a time: they should be of one order of magnitude."""

import torch
from torch import nn


def norms(network: nn.Module) -> dict[str, float]:
    """The root mean square of each layer's weight gradient, by "gradient <layer>".

    A mean, not a sum, of squares: so layers of many and of few weights compare. Biases and norms are left out.
    """
    found = {
        f"gradient {name.removesuffix('.weight')}": weight.grad
        for name, weight in network.named_parameters()
        if weight.grad is not None and weight.ndim > 1
    }
    if not found:
        return {}
    lengths = torch.stack(torch._foreach_norm(list(found.values()))).tolist()
    return {
        name: length / gradient.numel() ** 0.5 for (name, gradient), length in zip(found.items(), lengths, strict=True)
    }
