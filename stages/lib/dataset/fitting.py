"""`stages.lib.geometry.Geometry` in NumPy, for many cases: the same numbers, without torch and without dense matrices.

An axis is resampled by a triangle filter, of which each wanted pixel has a few weights: a sparse matrix. The weights
are whole numbers, and are divided by what they have in common, which changes no quotient. So the sums are exact: in
float32 below 2^24, else in float64 below 2^53. Only above that, as of a volume of 16 bits that shrinks to an eighth
along each axis, they are rounded, here and in the exported file, and the two may differ where a result lies half-way
between two integers.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

EXACT_FLOAT32 = 1 << 24  # whole numbers up to here
RGB_OF = ((0, 0, 0), (9, 9, 9), (0, 1, 2))  # as of geometry
BT_709 = (2126, 7152, 722)  # of 10,000
SPARE = 16  # columns
PLANE_BYTES = 1 << 22  # of float planes that are resampled at once: they stay in the processor's cache


class Fitting:
    """Colour, resampling, a centre crop or padding, and rounding, as of `Geometry`."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Args: arguments: Geometry's."""
        self.colour, self.resize = arguments["colour"], arguments["resize"] or 0
        self.spacing_mm = None if arguments["spacing_mm"] is None else np.array(arguments["spacing_mm"], np.float64)
        self.shape = tuple(arguments["shape"])
        self.dtype = np.dtype(arguments["dtype"])
        self.whole = self.dtype.kind in "iu"
        self.fill = float(arguments["fill"])

    def trouble(self, channels: int, spacing_mm: np.ndarray) -> str:
        """Why a case can't be brought to the shape; empty if it can."""
        if self.colour != "keep" and channels not in (1, 3):
            return f"its {channels} channels can't be made {self.colour}"
        if self.spacing_mm is not None and not (spacing_mm > 0).all():  # nan, too
            return f"its spacing is unknown, so it can't be resampled to {tuple(self.spacing_mm.tolist())} mm"
        return ""

    def __call__(self, x: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
        """(k, C, H, W) or (k, C, D, H, W) of one spacing -> (k, C', *shape) of the dataset's dtype.

        Floats that the dtype can't hold become infinite or nan, as they were.
        """
        x = self._recoloured(x)
        target = self._target(x.shape[2:], spacing_mm)
        if x.shape[2:] == self.shape and (self.spacing_mm is None or target == self.shape):
            return self._adapted(x)
        axes = [band(size, aim, wanted) for size, aim, wanted in zip(x.shape[2:], target, self.shape, strict=True)]
        fitted = np.empty((*x.shape[:2], *self.shape), self.dtype)
        if len(axes) == 2:
            planes, results = x.reshape(-1, *x.shape[2:]), fitted.reshape(-1, *self.shape)
            step = max(1, PLANE_BYTES // (8 * planes[0].size))
            for at in range(0, len(planes), step):
                sums = _resampled(planes[at : at + step], *axes)  # (W', n, H')
                results[at : at + step] = self._divided(sums.transpose(1, 2, 0), axes[0].totals, axes[1].totals)
        else:
            for volume, result in zip(x.reshape(-1, *x.shape[2:]), fitted.reshape(-1, *self.shape), strict=True):
                self._fit_volume(volume, axes, result)
        return fitted

    def _recoloured(self, x: np.ndarray) -> np.ndarray:
        """Grey from colour or colour from grey."""
        if self.colour == "keep":
            return x
        if self.colour == "grey_mean":
            return self._rounded(x.astype(np.float64).sum(1, keepdims=True) / x.shape[1])
        x = x[:, list(RGB_OF[x.shape[1] - 1])]
        if self.colour == "rgb":
            return x
        x = x.astype(np.float64)
        return self._rounded((BT_709[0] * x[:, :1] + BT_709[1] * x[:, 1:2] + BT_709[2] * x[:, 2:]) / 10_000)

    def _target(self, size: Sequence[int], spacing_mm: np.ndarray) -> tuple[int, ...]:
        """The size that a case is resampled to before it is cropped or padded."""
        sizes = np.array(size, np.float64)
        if self.spacing_mm is not None:
            found = sizes * spacing_mm / self.spacing_mm
        elif len(size) == 3:
            found = sizes
        elif self.resize:
            found = sizes * self.resize / sizes.min()
        else:  # the smallest size that covers the shape
            found = np.maximum(sizes * self.shape[0] / sizes[0], sizes * self.shape[1] / sizes[1])
        return tuple(int(n) for n in np.rint(found).clip(min=1))

    def _rounded(self, x: np.ndarray) -> np.ndarray:
        """Rounded (halves to even) and clamped, if the dataset's dtype is an integer; else unchanged."""
        if not self.whole:
            return x
        limits = np.iinfo(self.dtype)
        return np.rint(x).clip(limits.min, limits.max)

    def _adapted(self, x: np.ndarray) -> np.ndarray:
        """The same pixels in the dataset's dtype."""
        if x.dtype == self.dtype:
            return x
        if self.dtype == np.float16 and x.dtype == np.float64:
            x = x.astype(np.float32)  # as torch does
        with np.errstate(over="ignore"):  # the caller looks for what became infinite
            return self._rounded(x).astype(self.dtype)

    def _divided(self, sums: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(..., H, W) sums by those of the weights, rows (H,) times columns (W,); what no weight reached is filled."""
        total = np.multiply.outer(rows, columns)
        is_padded = not (rows.all() and columns.all())
        mean = sums / (np.where(total == 0, 1.0, total) if is_padded else total)
        if self.whole:  # a mean lies between the numbers that it is of, and so within the dtype
            found = np.rint(mean, out=mean).astype(self.dtype)
        else:
            found = self._adapted(mean)
        if is_padded:
            found[..., total == 0] = self._adapted(np.array(self.fill))
        return found

    def _fit_volume(self, volume: np.ndarray, axes: "Sequence[Band]", result: np.ndarray) -> None:
        """Slice by slice: each is resampled, and added with its weights to the wanted slices that it reaches."""
        depth, rows, columns = axes
        sums = np.zeros((self.shape[0], self.shape[2], self.shape[1]))  # (D', W', H')
        weights = depth.by_pixel
        step = max(1, PLANE_BYTES // (8 * volume[0].size))
        reached = [d for d in range(len(volume)) if weights[d]]
        for at in range(0, len(reached), step):
            slices = reached[at : at + step]
            found = _resampled(volume[slices[0] : slices[-1] + 1], rows, columns)  # (W', n, H')
            for d in slices:
                plane = found[:, d - slices[0]].astype(np.float64)
                for wanted, weight in weights[d]:
                    sums[wanted] += weight * plane
        for i, total in enumerate(depth.totals):
            if total:
                result[i] = self._divided(sums[i].T, rows.totals * total, columns.totals)
            else:
                result[i] = self._adapted(np.array(self.fill))


class Band:
    """The weights of the pixels of an axis in each wanted one; see `stages.lib.geometry.weights`."""

    def __init__(self, wanted: np.ndarray, pixels: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> None:
        """Args:
        wanted, pixels, weights: (n,) each: where a weight is, and which.
        shape: Number of wanted pixels, and of pixels.
        """
        matrix = sparse.csr_array((weights.astype(np.float64), (wanted, pixels)), shape=shape)
        self.matrices = {np.dtype(kind): matrix.astype(kind) for kind in (np.float32, np.float64)}
        self.totals = np.asarray(matrix.sum(axis=1)).reshape(-1)  # (wanted,) float64; 0: padding
        self.most = float(self.totals.max(initial=0.0))
        columns = matrix.tocsc()
        self.by_pixel = [
            list(zip(columns.indices[a:b].tolist(), columns.data[a:b].tolist(), strict=True))
            for a, b in zip(columns.indptr[:-1], columns.indptr[1:], strict=True)
        ]

    def apply(self, x: np.ndarray, kind: type[np.floating]) -> np.ndarray:
        """(pixels, n, k) -> (wanted, n, k), summed up in floats of this kind."""
        size, number, length = x.shape
        # Some more columns than are needed: with rows of 2^n bytes, whoever reads it along the other axis would find
        # all of a column in a few lines of the processor's cache.
        table = np.empty((size, number * length + SPARE), kind)
        table[:, number * length :] = 0
        table[:, : number * length].reshape(size, number, length)[:] = x
        summed = self.matrices[np.dtype(kind)] @ table
        return summed[:, : number * length].reshape(-1, number, length)


@lru_cache(maxsize=256)
def band(size: int, target: int, wanted: int) -> Band:
    """The weights along an axis of `size` pixels that is resampled to `target`, of which `wanted` are cropped.

    Those of a wanted pixel are at a distance of less than a pixel or, where the axis shrinks, of a wanted pixel.
    """
    common = math.gcd(size, target)
    start = round((target - wanted) / 2) if target > wanted else -((wanted - target) // 2)
    i = np.arange(wanted) + start
    reached = np.flatnonzero((i >= 0) & (i < target))
    i = i[reached]
    widest = max(size, target)
    # |(2j + 1) target - (2i + 1) size| < 2 widest
    first = -((2 * widest - 1 - (2 * i + 1) * size + target) // (2 * target))
    taps = 2 * widest // target + 2
    j = first[:, None] + np.arange(taps)
    distance = np.abs((2 * j + 1) * target - (2 * i + 1)[:, None] * size)
    kept = (distance < 2 * widest) & (j >= 0) & (j < size)
    weights = (2 * widest - distance) // common
    return Band(np.broadcast_to(reached[:, None], j.shape)[kept], j[kept], weights[kept], (wanted, size))


def _resampled(planes: np.ndarray, rows: Band, columns: Band) -> np.ndarray:
    """(n, H, W) of any dtype -> sums (W', n, H'), exact for integers as long as float64 holds them."""
    number, height, width = planes.shape
    most = _most(planes)
    kind = np.float32 if most * rows.most < EXACT_FLOAT32 else np.float64
    x = rows.apply(planes.transpose(1, 0, 2), kind)  # (H', n, W)
    kind = np.float32 if most * rows.most * columns.most < EXACT_FLOAT32 else np.float64
    return columns.apply(x.transpose(2, 1, 0), kind)


def _most(planes: np.ndarray) -> float:
    """The greatest whole number, without its sign; infinite where numbers have fractions."""
    if planes.dtype.kind == "f":
        return math.inf
    if planes.dtype.itemsize == 1:
        return 256.0
    return float(max(abs(int(planes.min())), abs(int(planes.max()))))
