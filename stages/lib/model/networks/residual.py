"""A deep residual network: any number of blocks, each with its own weights; 100 and more train."""

import math

from torch import Tensor, nn

from stages.lib.model.networks import layers


class Block(nn.Module):
    """Convolution (without bias if a norm follows), norm, activation; the result is added to the input."""

    def __init__(self, dims: int, width: int, activation: str, norm: str | None) -> None:
        super().__init__()
        self.convolution = layers.convolution(dims, width, width, bias=norm is None)
        self.norm = layers.norm(norm, width, dims)
        self.activation = layers.activation(activation)
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        for name, parameter in self.norm.named_parameters():  # half scale in each block keeps the sum of all small
            nn.init.constant_(parameter, 0.5 if name == "weight" else 0.0)

    def forward(self, x: Tensor) -> Tensor:  # (N, width, *size) -> the same
        return self.activation(self.norm(self.convolution(x))) + x


class Residual(nn.Module):
    """Convolution, activation, pooling; `n_blocks` blocks; pooling; linear, activation, linear."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        width: int = 32,
        n_blocks: int = 10,
        hidden: int = 32,
        activation: str = "ReLU",
        norm: str | None = "BatchNorm",
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            width: Channels of every block.
            n_blocks: Number of blocks.
            hidden: Units of the first linear layer.
            dropout: Before the last layer.
        """
        super().__init__()
        layers.check_number("n_blocks", n_blocks)
        dims = len(size)
        first_pool, size = layers.halving(size)
        last_pool, size = layers.halving(size)
        self.body = nn.Sequential(layers.convolution(dims, channels, width), layers.activation(activation), first_pool)
        self.blocks = nn.Sequential(*(Block(dims, width, activation, norm) for _ in range(n_blocks)))
        self.head = nn.Sequential(
            last_pool,
            nn.Flatten(),
            nn.Linear(width * math.prod(size), hidden),
            layers.activation(activation),
            layers.dropout("Dropout", dropout, dims),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        return self.head(self.blocks(self.body(x)))
