"""A fully connected network: every pixel to every unit."""

import math
from collections.abc import Sequence

from torch import Tensor, nn


class FullyConnected(nn.Module):
    """`widths` hidden layers, each followed by the activation; the notes' 3072-512-2 is widths=[512]."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        widths: Sequence[int] = (512,),
        activation: str = "Tanh",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = channels * math.prod(size)
        for width in widths:
            layers += [nn.Linear(inputs, width), getattr(nn, activation)()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        return self.layers(x)
