"""Brings a case, of whatever colour, size and spacing, to the one shape of the dataset."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

LUMINANCE = (0.2126, 0.7152, 0.0722)  # of R, G, B (ITU-R BT.709)


class Geometry(nn.Module):
    """Colour, then resampling (bilinear or trilinear, antialiased), then a centre crop or padding, then rounding.

    A case that has the spacing or size already is not resampled, and one that has the shape comes out bit for bit.
    """

    def __init__(
        self,
        colour: str,
        resize: int | None,
        spacing_mm: Sequence[float] | None,
        shape: Sequence[int],
        fill: float,
        dtype: str,
    ) -> None:
        """See `stages.lib.params.dataset.DatasetParams`, but nothing is left open.

        Args:
            spacing_mm: Resample to this spacing; None: by size, as `resize` says.
            dtype: Of what comes out.
        """
        super().__init__()
        self.colour, self.resize, self.fill = colour, resize, fill
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.shape = tuple(shape)
        self.dtype: torch.dtype = getattr(torch, dtype)

    def forward(self, x: Tensor, spacing_mm: Sequence[float] | None = None) -> Tensor:
        """(N, C, H, W) or (N, C, D, H, W) of any dtype -> (N, C', *shape) of the dataset's dtype.

        Args:
            spacing_mm: Of x, along D, H, W (or H, W); needed if the geometry has a spacing.
        """
        x = recolour(x, self.colour)
        x = resample(x, self.target_size(x.shape[2:], spacing_mm))
        return to_dtype(crop_or_pad(x, self.shape, self.fill), self.dtype)

    def target_size(self, size: Sequence[int], spacing_mm: Sequence[float] | None) -> list[int]:
        """The size that a case is resampled to, before it is cropped.

        Raises:
            ValueError: The geometry has a spacing, but that of the case is unknown.
        """
        if self.spacing_mm is not None:
            if spacing_mm is None or any(not step > 0 for step in spacing_mm):  # nan, too
                raise ValueError(f"its spacing is unknown, so it can't be resampled to {self.spacing_mm} mm")
            return [
                max(1, round(n * step / wanted))
                for n, step, wanted in zip(size, spacing_mm, self.spacing_mm, strict=True)
            ]
        if len(size) == 3:
            return list(size)
        if self.resize is not None:
            scale = self.resize / min(size)
        else:  # the smallest that covers the shape
            scale = max(wanted / n for n, wanted in zip(size, self.shape, strict=True))
        return [max(1, round(n * scale)) for n in size]


def recolour(x: Tensor, colour: str) -> Tensor:  # (N, C, ...) -> (N, C', ...)
    """Grey from colour or colour from grey; float32 where channels were mixed.

    Raises:
        ValueError: `colour` does not fit the number of channels.
    """
    channels = x.shape[1]
    if colour == "keep" or (channels == 1 and colour.startswith("grey")) or (channels == 3 and colour == "rgb"):
        return x
    if colour == "grey_mean":
        return x.float().mean(1, keepdim=True)
    if colour == "grey_luminance" and channels == 3:
        weights = torch.tensor(LUMINANCE).reshape(1, 3, *[1] * (x.ndim - 2))
        return (x.float() * weights).sum(1, keepdim=True)
    if colour == "rgb" and channels == 1:
        return x.expand(-1, 3, *x.shape[2:])
    raise ValueError(f"its {channels} channels can't be made {colour}")


def resample(x: Tensor, size: Sequence[int]) -> Tensor:  # (N, C, *any) -> (N, C, *size)
    """Resamples to a size with the triangle filter, which is separable: antialiased where it gets smaller."""
    if list(x.shape[2:]) == list(size):
        return x
    x = x.float()
    if x.ndim == 4:
        return interpolate(x, list(size), mode="bilinear", antialias=True)
    n, c, d, h, w = x.shape
    depth, height, width = size
    x = interpolate(x.reshape(n, c * d, h, w), [height, width], mode="bilinear", antialias=True)
    # Now along the depth: the plane is one axis, which keeps its size.
    x = interpolate(x.reshape(n, c, d, height * width), [depth, height * width], mode="bilinear", antialias=True)
    return x.reshape(n, c, depth, height, width)


def crop_or_pad(x: Tensor, shape: Sequence[int], fill: float) -> Tensor:  # (N, C, *any) -> (N, C, *shape)
    """Keeps the centre; an odd pixel goes to the end, as torchvision's CenterCrop does it."""
    for axis, wanted in enumerate(shape, start=2):
        if x.shape[axis] > wanted:
            start = int(round((x.shape[axis] - wanted) / 2.0))
            x = x.narrow(axis, start, wanted)
    missing = [wanted - n for n, wanted in zip(x.shape[2:], shape, strict=True)]
    if not any(missing):
        return x
    sides = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]  # the last axis first
    return pad(x.float(), sides, value=fill)


def to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds and clamps to an integer dtype; converts to a float one."""
    if x.dtype == dtype or dtype.is_floating_point:
        return x.to(dtype)
    limits = torch.iinfo(dtype)
    return x.float().round().clamp(limits.min, limits.max).to(dtype)
