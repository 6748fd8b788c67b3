"""The model that is trained, validated and exported: normalisation, then a network, in one module so that all agree."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Clamps to a window, then shifts and scales each channel: any dtype in, float32 out.

    `y = (clamp(x, low, high) - shift) * scale`. One module covers [0, 1], [-1, 1], zero mean and unit deviation, and a
    window of Hounsfield units.
    """

    low: Tensor
    high: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self, low: Sequence[float], high: Sequence[float], shift: Sequence[float], scale: Sequence[float], dims: int
    ):
        """Each sequence has one number per channel; `dims` is 2 for images, 3 for volumes."""
        super().__init__()
        for name, values in (("low", low), ("high", high), ("shift", shift), ("scale", scale)):
            column = torch.tensor(list(values), dtype=torch.float32).reshape(-1, *[1] * dims)
            self.register_buffer(name, column, persistent=False)  # (C, 1, 1[, 1]); the recipe has it
        self.lowest, self.highest = float(min(low)), float(max(high))
        self.one_window = len(set(low)) == len(set(high)) == 1
        self.all_bytes = max(low) <= 0 and min(high) >= 255

    def forward(self, x: Tensor) -> Tensor:  # (N, C, ...) -> (N, C, ...)
        if x.dtype == torch.uint8 and self.all_bytes:
            x = x.to(torch.float32, copy=True)
        elif self.one_window:  # clamping to two numbers takes a quarter of the time of two tensors
            x = x.float().clamp(self.lowest, self.highest)
        else:
            x = x.float().clamp(self.low, self.high)
        return x.sub_(self.shift).mul_(self.scale)  # in place: x is new by now, and allocating takes as long as adding


class Classifier(nn.Module):
    """Normalise, then the network: the dataset's own integers in, logits out."""

    def __init__(self, normalise: Normalise, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        return self.network(self.normalise(x))
