"""A plain convolutional network: convolutions with poolings between them, then two linear layers."""

import math

from torch import Tensor, nn

from stages.lib.model.networks import layers


class Convolutional(nn.Module):
    """`depth` times convolution, norm, activation, pooling, dropout; then linear, activation, linear.

    The default has two convolutions of 16 and 8 channels. Variants worth trying: width=32, depth=3, dropout=0.4 (of
    whole channels), norm="BatchNorm".
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        width: int = 16,
        depth: int = 2,
        hidden: int = 32,
        activation: str = "Tanh",
        norm: str | None = None,
        dropout: float = 0.0,
        dropout_name: str = "DropoutNd",
    ) -> None:
        """
        Args:
            width: Channels of the first convolution; the others have half as many.
            depth: Number of convolutions.
            hidden: Units of the first linear layer.
        """
        super().__init__()
        layers.check_number("depth", depth)
        dims, inputs = len(size), channels
        body: list[nn.Module] = []
        for i in range(depth):
            outputs = width if i == 0 else max(1, width // 2)
            pool, size = layers.halving(size)
            body += [layers.convolution(dims, inputs, outputs), layers.norm(norm, outputs, dims)]
            active = layers.activation(activation)
            # The largest of rising values is the value of the largest: the same numbers from a quarter of the work.
            body += [pool, active] if activation in layers.RISING else [active, pool]
            body.append(layers.dropout(dropout_name, dropout, dims))
            inputs = outputs
        self.body = nn.Sequential(*(layer for layer in body if not isinstance(layer, nn.Identity)))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * math.prod(size), hidden),
            layers.activation(activation),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        return self.head(self.body(x))
