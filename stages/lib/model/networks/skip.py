"""A network with one skip connection: the last convolution learns what to add to its input."""

import math

from torch import Tensor, nn

from stages.lib.model.networks import layers


class Skip(nn.Module):
    """Three convolutions, the third with a skip connection around it; then linear, activation, linear."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        width: int = 32,
        hidden: int = 32,
        activation: str = "ReLU",
        norm: str | None = None,
    ) -> None:
        """
        Args:
            width: Channels of the first convolution; the others have half as many.
            hidden: Units of the first linear layer.
        """
        super().__init__()
        dims, half = len(size), max(1, width // 2)
        self.body = nn.Sequential()
        for inputs, outputs in ((channels, width), (width, half)):
            pool, size = layers.halving(size)
            self.body.append(layers.convolution(dims, inputs, outputs))
            self.body.append(layers.norm(norm, outputs, dims))
            self.body.append(layers.activation(activation))
            self.body.append(pool)
        self.bridged = nn.Sequential(
            layers.convolution(dims, half, half), layers.norm(norm, half, dims), layers.activation(activation)
        )
        pool, size = layers.halving(size)
        self.head = nn.Sequential(
            pool,
            nn.Flatten(),
            nn.Linear(half * math.prod(size), hidden),
            layers.activation(activation),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        x = self.body(x)
        return self.head(self.bridged(x) + x)
