"""A fully connected network: every pixel is connected to every hidden unit."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from stages.lib.model.networks import layers


class FullyConnected(nn.Module):
    """One hidden layer per width, each followed by the activation."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        widths: Sequence[int] = (512,),
        activation: str = "Tanh",
        dropout: float = 0.0,
        dropout_name: str = "Dropout",
    ) -> None:
        super().__init__()
        hidden: list[nn.Module] = []
        inputs = channels * math.prod(size)
        for width in widths:
            hidden += [nn.Linear(inputs, width), layers.activation(activation)]
            if dropout:
                hidden.append(layers.dropout(dropout_name, dropout, len(size)))
            inputs = width
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        return self.layers(x)
