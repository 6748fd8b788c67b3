"""A small, fast network: groups of convolution, norm and activation, then max (or mean) pooling over all positions.

After Keller Jordan's airbench94 (2024): a first layer that whitens patches, computed from the data and not trained;
norms before activations; global max pooling; few, cheap epochs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.model.networks import layers

PATCH_PIXELS = 2  # along each side
MAX_PATCHES = 200_000  # enough for their covariance


class Whiten(nn.Module):
    """Convolves with the patches' principal components, each divided by its deviation, and with their negatives."""

    kernel: Tensor

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        features = channels * PATCH_PIXELS**dims
        self.dims = dims
        self.outputs = 2 * features
        directions = torch.linalg.qr(torch.randn(features, features))[0]  # random until `see`
        self.register_buffer("kernel", self._kernel(directions, channels))

    def _kernel(self, directions: Tensor, channels: int) -> Tensor:
        kernel = directions.reshape(-1, channels, *[PATCH_PIXELS] * self.dims)
        return torch.cat([kernel, -kernel])

    @torch.jit.ignore
    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """Computes the components from samples (N, C, *size)."""
        patches = x.cpu()
        for axis in range(2, x.ndim):
            patches = patches.unfold(axis, PATCH_PIXELS, 1)
        channels = x.shape[1]
        patches = patches.movedim(1, self.dims + 1).reshape(-1, channels * PATCH_PIXELS**self.dims).double()
        patches = patches[:: max(1, len(patches) // MAX_PATCHES)]
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        directions = (vectors / (values + 5e-4).sqrt()).T.flip(0).float()
        self.kernel.copy_(self._kernel(directions, channels))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, 2 C PATCH_PIXELS^dims, *size - 1)
        kernel = self.kernel.to(x.dtype)
        return functional.conv2d(x, kernel) if self.dims == 2 else functional.conv3d(x, kernel)


class Compact(nn.Module):
    """Whitening, then one group of two convolutions per width; `see` fits the whitening before training."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        widths: Sequence[int] = (16, 32, 64),
        whiten: bool = True,
        activation: str = "GELU",
        norm: str | None = "BatchNorm",
        dropout: float = 0.0,
        scale: float = 0.1,
        pooling: str = "max",
    ) -> None:
        """
        Args:
            widths: Channels of each group.
            whiten: Begin with the whitening layer, where samples are large enough.
            scale: Factor of the logits.
            pooling: Over all positions: "max", "mean", or "both" side by side.
        """
        super().__init__()
        if pooling not in ("max", "mean", "both"):
            raise ValueError(f"pooling is '{pooling}': expected max, mean or both")
        dims, body = len(size), nn.Sequential()
        if whiten and min(size) > PATCH_PIXELS:
            first = Whiten(channels, dims)
            body.append(first)
            body.append(layers.activation(activation))
            channels, size = first.outputs, tuple(length - PATCH_PIXELS + 1 for length in size)
        for width in widths:
            pool, size = layers.halving(size)
            for inputs, after in ((channels, pool), (width, nn.Identity())):
                body.append(layers.convolution(dims, inputs, width, bias=norm is None))
                body.append(after)
                body.append(layers.norm(norm, width, dims))
                body.append(layers.activation(activation))
            channels = width
        self.body = body
        self.dropout = layers.dropout("Dropout", dropout, dims)
        self.pooling = pooling
        self.head = nn.Linear(2 * channels if pooling == "both" else channels, classes)
        self.scale = scale

    @torch.jit.ignore
    def see(self, x: Tensor) -> None:
        """Fits the whitening to normalised samples (N, C, *size)."""
        if isinstance(self.body[0], Whiten):
            self.body[0].see(x)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        x = self.body(x).flatten(2)
        if self.pooling == "both":
            x = torch.cat([x.amax(2), x.mean(2)], 1)
        else:
            x = x.amax(2) if self.pooling == "max" else x.mean(2)
        return self.head(self.dropout(x)) * self.scale
