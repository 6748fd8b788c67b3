"""`stages.lib.geometry.Geometry` in NumPy, for many cases: the same numbers, without torch and without dense matrices.

An axis is resampled by a triangle filter, of which each wanted pixel has a few weights: a sparse matrix. The weights
are whole numbers, and are divided by what they have in common, which changes no quotient. So the sums of whole numbers
are exact: in float32 below 2^24, else in float64 below 2^53; and exact sums are the same in whatever order a library
adds them. Only above that, as of a volume of 16 bits that shrinks to an eighth along each axis, they are rounded, here
and in the exported file, and the two may differ where a result lies half-way between two integers.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy import sparse

# Whole numbers up to here: half of what float32 holds, so that a quotient, too, is rounded to the right side of a half.
# With |sum| <= m t for a total t of the weights, a quotient's error is at most m / 2^24, and it is either a half
# exactly or at least 1 / (2 t) away from one.
EXACT_FLOAT32 = 1 << 23
EXACT_FLOAT64 = 1 << 52
EXACT_UINT16 = 1 << 16
RGB_OF = ((0, 0, 0), (9, 9, 9), (0, 1, 2))  # as of geometry
BT_709 = (2126, 7152, 722)  # of 10,000
SPARE = 16  # columns
PLANE_BYTES = 1 << 22  # of float planes that are resampled at once: they stay in the processor's cache
LARGEST_KEPT = 31 << 20  # bytes; glibc learns up to 32 MiB
BLOCK = 16  # wanted pixels whose weights are one dense matrix
MOST_PRODUCTS = 1 << 18  # of a product of matrices; from here on OpenBLAS starts threads, beside those of other workers


class Fitting:
    """Colour, resampling, a centre crop or padding, and rounding, as of `Geometry`."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Args: arguments: Geometry's."""
        self.colour, self.resize = arguments["colour"], arguments["resize"] or 0
        self.fit = arguments.get("fit", "crop")
        self.spacing_mm = None if arguments["spacing_mm"] is None else np.array(arguments["spacing_mm"], np.float64)
        self.shape = tuple(arguments["shape"])
        self.dtype = np.dtype(arguments["dtype"])
        self.whole = self.dtype.kind in "iu"
        self.fill = float(arguments["fill"])
        # glibc gives freed blocks back to the system at once unless it has seen larger ones come and go (mallopt(3),
        # M_MMAP_THRESHOLD); to get them anew, page by page, for each picture takes longer than to resample it.
        np.empty(LARGEST_KEPT, np.uint8)

    def trouble(self, channels: int, spacing_mm: np.ndarray) -> str:
        """Why a case can't be brought to the shape; empty if it can."""
        if self.colour != "keep" and channels not in (1, 3):
            return f"its {channels} channels can't be made {self.colour}"
        if self.spacing_mm is not None and not (spacing_mm > 0).all():  # nan, too
            what = f"its spacing is unknown, so it can't be resampled to {tuple(self.spacing_mm.tolist())} mm"
            return f"{what}: give ingest.spacing_mm, or leave dataset.spacing_mm out"
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
                sums = _resampled(planes[at : at + step], *axes)
                results[at : at + step] = self._divided(sums, *_totals(*axes, sums.dtype))
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

    def lost(self, size: Sequence[int], spacing_mm: np.ndarray) -> float:
        """The fraction of a case's pixels that lie beyond the shape once it is resampled, 0 to 1."""
        target = self._target(size, spacing_mm)
        return 1 - math.prod(min(1.0, wanted / n) for n, wanted in zip(target, self.shape, strict=True))

    def _target(self, size: Sequence[int], spacing_mm: np.ndarray) -> tuple[int, ...]:
        """The size that a case is resampled to before it is cropped or padded."""
        sizes = np.array(size, np.float64)
        if self.spacing_mm is not None:
            found = sizes * spacing_mm / self.spacing_mm
        elif self.fit == "stretch":
            found = np.array(self.shape, np.float64)
        elif len(size) == 3:
            found = sizes
        elif self.resize:
            found = sizes * self.resize / sizes.min()
        elif self.fit == "pad":  # the largest size within the shape
            found = np.minimum(sizes * self.shape[0] / sizes[0], sizes * self.shape[1] / sizes[1])
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

    def _divided(self, sums: np.ndarray, totals: np.ndarray, is_padded: np.ndarray | None) -> np.ndarray:
        """(..., H, W) sums by those of the weights, (H, W), as `_totals` gives them; the sums are gone then."""
        mean = np.divide(sums, totals, out=sums)
        if self.whole:  # a mean lies between the numbers that it is of, and so within the dtype
            found = np.rint(mean, out=mean).astype(self.dtype)
        else:
            found = self._adapted(mean)
        if is_padded is not None:
            found[..., is_padded] = self._adapted(np.array(self.fill))
        return found

    def _fit_volume(self, volume: np.ndarray, axes: "Sequence[Band]", result: np.ndarray) -> None:
        """Slice by slice: each is resampled, and added with its weights to the wanted slices that it reaches."""
        depth, rows, columns = axes
        sums = np.zeros(self.shape)
        weights = depth.by_pixel
        step = max(1, PLANE_BYTES // (8 * volume[0].size))
        reached = [d for d in range(len(volume)) if weights[d]]
        for at in range(0, len(reached), step):
            slices = reached[at : at + step]
            found = _resampled(volume[slices[0] : slices[-1] + 1], rows, columns)
            for d in slices:
                plane = found[d - slices[0]].astype(np.float64, copy=False)
                for wanted, weight in weights[d]:
                    sums[wanted] += weight * plane
        totals, is_padded = _totals(rows, columns, sums.dtype)
        for i, total in enumerate(depth.totals):
            if total:
                result[i] = self._divided(sums[i], totals * total, is_padded)
            else:
                result[i] = self._adapted(np.array(self.fill))


class Band:
    """The weights of the pixels of an axis in each wanted one; see `stages.lib.geometry.weights`."""

    def __init__(self, wanted: np.ndarray, pixels: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> None:
        """Args:
        wanted, pixels, weights: (n,) each: where a weight is, and which.
        shape: Number of wanted pixels, and of pixels.
        """
        self._matrix = sparse.csr_array((weights.astype(np.float64), (wanted, pixels)), shape=shape)
        self._matrices: dict[np.dtype, sparse.csr_array] = {}
        self._blocks: dict[np.dtype, list[tuple[slice, slice, np.ndarray]]] = {}
        self.totals = np.asarray(self._matrix.sum(axis=1)).reshape(-1)  # (wanted,) float64; 0: padding
        self.most = float(self.totals.max(initial=0.0))

    @cached_property
    def by_pixel(self) -> list[list[tuple[int, float]]]:
        """For each pixel, which wanted ones it counts for, and with which weights."""
        columns = self._matrix.tocsc()
        return [
            list(zip(columns.indices[a:b].tolist(), columns.data[a:b].tolist(), strict=True))
            for a, b in zip(columns.indptr[:-1], columns.indptr[1:], strict=True)
        ]

    def apply(self, x: np.ndarray, kind: np.dtype) -> np.ndarray:
        """(pixels, n, k) -> (wanted, n, k), summed up in numbers of this kind, in the order of the pixels."""
        size, number, length = x.shape
        # Some more columns than are needed: with rows of 2^n bytes, whoever reads it along the other axis would find
        # all of a column in a few lines of the processor's cache.
        table = np.empty((size, number * length + SPARE), kind)
        table[:, number * length :] = 0
        table[:, : number * length].reshape(size, number, length)[:] = x
        if kind not in self._matrices:
            self._matrices[kind] = self._matrix.astype(kind)
        summed = self._matrices[kind] @ table
        return summed[:, : number * length].reshape(-1, number, length)

    def along_last(self, x: np.ndarray, sums: np.ndarray) -> None:
        """(n, pixels) -> (n, wanted), floats of one dtype that holds all sums exactly.

        By products of dense blocks, although most of their weights are 0: they need no turned table, and have no order.
        """
        if x.dtype not in self._blocks:
            self._blocks[x.dtype] = [self._block(at, x.dtype) for at in range(0, len(self.totals), BLOCK)]
        for wanted, pixels, weights in self._blocks[x.dtype]:
            step = max(1, MOST_PRODUCTS // max(1, weights.size))
            for at in range(0, len(x), step):
                rows = slice(at, at + step)
                np.matmul(x[rows, pixels], weights, out=sums[rows, wanted])

    def _block(self, at: int, kind: np.dtype) -> tuple[slice, slice, np.ndarray]:
        """BLOCK wanted pixels, the pixels that count for them, and the weights, (pixels, wanted)."""
        wanted = slice(at, at + BLOCK)
        rows = self._matrix[wanted]
        first, end = (int(rows.indices.min()), int(rows.indices.max()) + 1) if rows.nnz else (0, 0)
        return wanted, slice(first, end), np.ascontiguousarray(rows[:, first:end].toarray().T.astype(kind))


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
    """(n, H, W) of any dtype -> sums (n, H', W'), exact for integers as long as float64 holds them."""
    most = _most(planes)
    short = planes.dtype.kind == "u" and most * rows.most < EXACT_UINT16
    x = rows.apply(planes.transpose(1, 0, 2), np.dtype(np.uint16) if short else _float_for(most * rows.most))
    most *= rows.most * columns.most
    kind = _float_for(most)
    if most >= EXACT_FLOAT64:  # the order counts
        return columns.apply(x.transpose(2, 1, 0), kind).transpose(1, 2, 0)
    sums = np.empty((len(planes), len(rows.totals), len(columns.totals)), kind)
    for i, of_plane in enumerate(sums):
        columns.along_last(x[:, i].astype(kind, copy=False), of_plane)
    return sums


def _float_for(most: float) -> np.dtype:
    return np.dtype(np.float32 if most < EXACT_FLOAT32 else np.float64)


@lru_cache(maxsize=8)
def _totals(rows: Band, columns: Band, kind: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
    """The sums of the weights, (H', W'), 1 where there are none; and where that is, if it is anywhere."""
    totals = np.multiply.outer(rows.totals, columns.totals).astype(kind)
    is_padded = totals == 0
    return (np.where(is_padded, 1, totals), is_padded) if is_padded.any() else (totals, None)


def _most(planes: np.ndarray) -> float:
    """The greatest whole number, without its sign; infinite where numbers have fractions."""
    if planes.dtype.kind == "f":
        return math.inf
    if planes.dtype.itemsize == 1:
        return 256.0
    return float(max(1, abs(int(planes.min())), abs(int(planes.max()))))
