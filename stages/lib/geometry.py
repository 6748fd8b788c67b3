"""Brings a case of any colour, size and spacing to the one shape of the dataset.

The dataset stage does it for the cases, and every exported file for its input. Both must get the same integers in every
runtime: a pixel that is rounded the other way may change a prediction. So all sums here are of whole numbers in
float64, exact in any order (up to 2^53), and there is one division, at the end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# The channels to take as R, G and B, by the number of channels less one. Of two there are none: index 9 is an error.
RGB_OF = ((0, 0, 0), (9, 9, 9), (0, 1, 2))


class Geometry(nn.Module):
    """Colour, then resampling (bilinear or trilinear, antialiased), then a centre crop or padding, then rounding.

    A case that has the wanted spacing or size is not resampled, and a picture that has the shape stays bit for bit.
    Written for TorchScript's compiler; for torch.export, `stages.lib.export.end_to_end` puts the steps together anew.
    """

    rgb_of: Tensor
    spacing_mm: list[float]
    shape: list[int]

    def __init__(
        self,
        colour: str,
        resize: int | None,
        spacing_mm: Sequence[float] | None,
        shape: Sequence[int],
        fill: float,
        dtype: str,
        fit: str = "crop",
    ) -> None:
        """As of `stages.lib.params.dataset.DatasetParams`, but complete.

        Args:
            spacing_mm: Resample to this spacing; None: to a size, see `resize` and `fit`.
            dtype: The dataset's.
            fit: crop, pad or stretch.
        """
        super().__init__()
        self.colour = colour
        self.resize = 0 if resize is None else resize
        self.fit = fit
        self.spaced = spacing_mm is not None
        self.spacing_mm = [float(step) for step in spacing_mm or ()]
        self.shape = list(shape)
        self.fill = float(fill)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.whole = not self.dtype.is_floating_point
        limits = torch.iinfo(self.dtype) if self.whole else torch.finfo(self.dtype)
        self.lowest, self.highest = float(limits.min), float(limits.max)
        self.register_buffer("rgb_of", torch.tensor(RGB_OF), persistent=False)

    def forward(self, x: Tensor, spacing_mm: Tensor | None = None) -> Tensor:
        """(N, C, H, W) or (N, C, D, H, W) of any dtype -> (N, C', *shape) float32, numbers that the dtype holds.

        Args:
            spacing_mm: Of all N, (2,) along H, W or (3,) along D, H, W; needed if the geometry has a spacing.
        """
        x = self.recoloured(x)
        if bool(self.same(x, spacing_mm)):
            return self.adapted(x)
        return self.fitted(x, spacing_mm)

    @torch.jit.ignore
    def trouble(self, shape: Sequence[int], spacing_mm: Sequence[float] | None) -> str:
        """Why a case, (C, ...), can't be brought to the dataset's shape; empty if it can."""
        if shape[0] not in self.channels(shape[0]):
            return f"its {shape[0]} channels can't be made {self.colour}"
        if self.spaced and (spacing_mm is None or any(not step > 0 for step in spacing_mm)):  # nan, too
            return f"its spacing is unknown, so it can't be resampled to {tuple(self.spacing_mm)} mm"
        return ""

    @torch.jit.ignore
    def channels(self, kept: int) -> list[int]:
        """The numbers of channels that a case may have; `kept` is the dataset's, where the colour is kept."""
        return [kept] if self.colour == "keep" else [1, 3]

    def recoloured(self, x: Tensor) -> Tensor:  # (N, C, ...) -> (N, C', ...)
        """Grey from colour or colour from grey."""
        if self.colour == "keep":
            return x
        if self.colour == "grey_mean":
            return self.rounded(x.double().sum(1, keepdim=True) / x.shape[1])
        x = x.index_select(1, self.rgb_of[x.shape[1] - 1])
        if self.colour == "rgb":
            return x
        x = x.double()
        grey = 2126 * x[:, 0:1] + 7152 * x[:, 1:2] + 722 * x[:, 2:3]  # of R, G, B (ITU-R BT.709)
        return self.rounded(grey / 10_000)

    def same(self, x: Tensor, spacing_mm: Tensor | None) -> Tensor:  # (1,) bool
        """Whether the case has the wanted shape, and the wanted spacing if there is one."""
        agreed = torch.full((1,), True)
        for i, wanted in enumerate(self.shape):
            agreed = agreed & (torch.full((1,), x.shape[i + 2]) == wanted)
        if self.spaced:
            for size, wanted in zip(self.target(x, spacing_mm), self.shape):  # noqa: B905 (TorchScript knows no strict)
                agreed = agreed & (size == wanted)
        return agreed

    def target(self, x: Tensor, spacing_mm: Tensor | None) -> list[Tensor]:
        """The size that a case is resampled to before it is cropped or padded: (1,) float64 for each axis.

        Raises:
            ValueError: The geometry has a spacing, but the case's is not given.
        """
        sizes = [torch.full((1,), n, dtype=torch.float64) for n in x.shape[2:]]
        if self.spaced:
            if spacing_mm is None:
                raise ValueError("its spacing is unknown")
            extents = [sizes[i] * spacing_mm[i : i + 1].double() for i in range(len(sizes))]
            found = [extents[i] / self.spacing_mm[i] for i in range(len(sizes))]
        elif self.fit == "stretch":
            found = [torch.full((1,), n, dtype=torch.float64) for n in self.shape]
        elif x.dim() == 5:
            found = sizes
        elif self.resize > 0:
            shorter = torch.minimum(sizes[0], sizes[1])
            found = [n * self.resize / shorter for n in sizes]
        elif self.fit == "pad":  # the largest size within the shape
            found = [torch.minimum(n * self.shape[0] / sizes[0], n * self.shape[1] / sizes[1]) for n in sizes]
        else:  # the smallest size that covers the shape
            found = [torch.maximum(n * self.shape[0] / sizes[0], n * self.shape[1] / sizes[1]) for n in sizes]
        return [n.round().clamp(min=1) for n in found]

    def adapted(self, x: Tensor) -> Tensor:
        """The same pixels as numbers that the dataset's dtype can hold, in float32."""
        if x.dtype == self.dtype:
            return x.float()
        x = self.rounded(x)
        return x.float() if self.whole else x.to(self.dtype).float()

    def rounded(self, x: Tensor) -> Tensor:
        """Rounded (halves to even) and clamped, if the dataset's dtype is an integer; else unchanged."""
        return x.double().round().clamp(self.lowest, self.highest) if self.whole else x

    def fitted(self, x: Tensor, spacing_mm: Tensor | None) -> Tensor:  # (N, C', ...) -> (N, C', *shape)
        """Resampled, then cropped or padded, by one matrix per axis: the filter is separable."""
        target = self.target(x, spacing_mm)
        rows = [weights(x.shape[i + 2], target[i], self.shape[i]) for i in range(len(self.shape))]
        y = torch.matmul(torch.matmul(rows[-2], x.double()), rows[-1].t())
        total = rows[-2].sum(1)[:, None] * rows[-1].sum(1)
        if len(rows) == 3:
            depth, height, width = self.shape
            y = torch.matmul(rows[0], y.flatten(3)).unflatten(3, (height, width))
            total = rows[0].sum(1)[:, None, None] * total
        return self.adapted((y / total).masked_fill(total == 0, self.fill))


def weights(size: int, target: Tensor, wanted: int) -> Tensor:  # (wanted, size)
    """The weight of each pixel along an axis in each wanted one: whole numbers, all 0 for a wanted pixel of padding.

    A triangle filter, as wide as a pixel or, where the axis shrinks, as a wanted pixel. Distances are multiplied by two
    and by both sizes, which makes them whole. The crop is at the centre; an odd pixel is cut or padded where
    torchvision's CenterCrop does it.

    Args:
        target: (1,) the size that the axis is resampled to before `wanted` pixels are cropped.
    """
    cut, missing = ((target - wanted) / 2).round(), ((wanted - target) / 2).floor()
    start = torch.where(target > wanted, cut, -missing)
    i = (torch.arange(wanted, dtype=torch.float64) + start)[:, None]
    j = torch.arange(size, dtype=torch.float64)
    distance = ((2 * j + 1) * target - (2 * i + 1) * size).abs()
    reached = (i >= 0) & (i < target)
    return (2 * target.clamp(min=size) - distance).clamp(min=0) * reached
