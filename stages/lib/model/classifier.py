"""The model that is trained, validated and exported: normalisation, then a network, in one module so that all agree."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


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

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, K)
        return self.network(self.normalise(x))

    def answer(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, K)
        """As `forward`, of samples that are normalised."""
        return self.network(x)


class OrdinalClassifier(Classifier):
    """Of K classes in order: the network says K - 1 times whether a sample is above a class that it is not below.

    These chances make the classes' probabilities, which add up to 1 whatever the network says: the continuation ratio
    model of statistics, in networks known as CORN (Shi, Cao and Raschka 2021, arXiv:2111.08851). Logits out are the
    probabilities' logarithms, so that what is made of other logits can be made of these.
    """

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, K)
        return self.answer(self.normalise(x))

    def answer(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, K)
        above = self.network(x).float()  # (N, K - 1)
        edge = torch.zeros_like(above[:, :1])
        reached = torch.cat([edge, torch.cumsum(-functional.softplus(-above), 1)], 1)
        stays = torch.cat([-functional.softplus(above), edge], 1)
        return reached + stays
