"""How large the gradients of a network's layers are."""

import torch
from torch import nn


def gradient_norms(network: nn.Module) -> dict[str, float]:
    """The root mean square of each layer's weight gradient, by "gradient <layer>".

    The mean of squares, not the sum, makes layers with many and with few weights comparable. Biases and the weights of
    norms are left out.
    """
    gradients = {
        f"gradient {name.removesuffix('.weight')}": weight.grad
        for name, weight in network.named_parameters()
        if weight.grad is not None and weight.ndim > 1
    }
    if not gradients:
        return {}
    lengths = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist()
    return {
        name: length / gradient.numel() ** 0.5
        for (name, gradient), length in zip(gradients.items(), lengths, strict=True)
    }
