"""statistics.json, and what it is made of: mean, deviation, percentiles and histogram of any number of pixels.

They are found in one pass and 512 KiB per channel. Pixels of 8 and 16 bits are counted value by value: everything
follows exactly from the counts, whatever the order and number of the pixels. A float is counted by the upper 16 bits of
its float32, which are 1/128 of its magnitude apart; so its percentiles and histogram are that coarse. Minimum and
maximum are exact, mean and deviation are float64 sums.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import FiniteFloat

from stages.lib.core.outs import significant
from stages.lib.core.reading import read_json, reading
from stages.lib.runs import Run

BLOCK_PIXELS = 1 << 19  # counted at once: memory does not grow with the case
VALUES = 1 << 16  # of 16 bits


@dataclass(frozen=True)
class Summary:
    """The statistics of one channel's pixels."""

    count: int
    mean: FiniteFloat
    deviation: FiniteFloat  # of the population
    minimum: FiniteFloat
    maximum: FiniteFloat
    percentiles: dict[str, FiniteFloat]  # "0.5": value; interpolated as by numpy's method "linear"
    edges: list[FiniteFloat]  # (bins + 1,)
    counts: list[int]  # (bins,)


@dataclass(frozen=True)
class Spread:
    """Of a size or a spacing, over the cases."""

    minimum: FiniteFloat
    median: FiniteFloat
    maximum: FiniteFloat


@dataclass(frozen=True)
class Statistics:
    """statistics.json: what is known of the training split's cases."""

    cases: int
    groups: int
    classes: dict[str, int]
    splits: dict[str, dict[str, int]]  # cases of each class, in every split
    dtype: str
    units: str
    shape: dict[str, Spread | None]  # by axis, C and H, W or D, H, W
    spacing_mm: dict[str, Spread | None]  # by axis; None where that of a case is unknown
    channels: list[Summary]
    target: dict[str, Any] | None = None  # what is asked of the cases of each split, where that is more than a class

    def plain(self) -> dict[str, Any]:
        """As a dictionary, without what is not said."""
        return {name: value for name, value in asdict(self).items() if name != "target" or value is not None}

    def check(self) -> None:
        """Checks that the numbers are possible.

        Raises:
            ValueError: They are not.
        """
        if self.classes != self.splits.get("train") or self.cases != sum(self.classes.values()):
            raise ValueError("cases, classes and splits do not agree")
        channels = self.shape.get("C")
        if channels is None or len(self.channels) != channels.median:
            raise ValueError(f"it has {len(self.channels)} channels, but shape.C is {channels}")
        for channel in self.channels:
            if not channel.minimum <= channel.maximum or channel.deviation < 0:
                raise ValueError("channels: minimum and maximum are not in order, or the deviation is negative")
            if len(channel.edges) != len(channel.counts) + 1 or sum(channel.counts) != channel.count:
                raise ValueError("channels: edges and counts are not of one histogram")


def of_run(dtype: str, channels: int, run: Run) -> list["Moments"]:
    """The pixels of a run of cases, counted: one `Moments` per channel."""
    moments = [Moments(dtype) for _ in range(channels)]
    for _, x in run.stacks():
        with reading(run.path):
            for channel, count in enumerate(moments):
                count.add(x[:, channel])
    with reading(run.path):
        for count in moments:
            count.count_waiting()
    return moments


def merge_all(moments: Sequence["Moments"], later: Sequence["Moments"]) -> None:
    """Adds what was counted of later pixels, channel by channel."""
    for channel, more in zip(moments, later, strict=True):
        channel.merge(more)


def spreads(axes: str, table: np.ndarray, rows: np.ndarray) -> dict[str, Spread | None]:
    """The spread along each axis, as statistics.json has it; None where a number is unknown.

    Args:
        table: (cases, axes) sizes, or spacings, nan where unknown.
        rows: The cases that count.
    """
    found: dict[str, Spread | None] = {}
    for axis, column in zip(axes, table.T, strict=True):
        of_rows = column[rows]
        numbers = [float(f(of_rows)) for f in (np.min, np.median, np.max)]
        found[axis] = None if np.isnan(numbers).any() else Spread(*significant(numbers))
    return found


def read_statistics(statistics_json: Path) -> Statistics:
    """statistics.json.

    Raises:
        DamagedOut: It is missing, or is none that statistics could have written.
    """
    found = read_json(statistics_json, Statistics)
    with reading(statistics_json):
        found.check()
    return found


class Moments:
    """Counts the pixels of one channel."""

    def __init__(self, dtype: str) -> None:
        """`dtype` is uint8, uint16, int16, int8, float16 or float32.

        Raises:
            ValueError: Another dtype.
        """
        self._dtype = np.dtype(dtype)
        if self._dtype.kind not in "iuf" or (self._dtype.itemsize > 2 and self._dtype != np.float32):
            raise ValueError(f"pixels of {dtype} can't be counted: expected 8- or 16-bit integers, or float32")
        self._counts = np.zeros(256 if self._dtype.itemsize == 1 else VALUES, np.int64)
        self._floats: list[_Floats] = []  # one for each block, in order
        self._waiting = np.empty(0, self._dtype)  # few pixels are counted together with those that follow
        self._number = 0  # of those that wait

    def add(self, pixels: np.ndarray) -> None:
        """Counts pixels of any shape, now or with the next.

        Raises:
            ValueError: A float is nan or infinite.
        """
        if self._number + pixels.size > BLOCK_PIXELS:
            self.count_waiting()
        if pixels.size >= BLOCK_PIXELS:
            flat = pixels.reshape(-1)
            for start in range(0, len(flat), BLOCK_PIXELS):
                self._count(flat[start : start + BLOCK_PIXELS])
            return
        if not len(self._waiting):
            self._waiting = np.empty(BLOCK_PIXELS, self._dtype)
        end = self._number + pixels.size
        self._waiting[self._number : end].reshape(pixels.shape)[...] = pixels
        self._number = end

    def count_waiting(self) -> None:
        """Counts what has been added and waits, and lets go of its memory: before this is sent to another process.

        Raises:
            ValueError: A float is nan or infinite.
        """
        waiting, self._waiting = self._waiting[: self._number], self._waiting[:0].copy()
        self._number = 0
        if len(waiting):
            self._count(waiting)

    def _count(self, block: np.ndarray) -> None:
        if self._dtype.kind == "f":
            block = block.astype(np.float32)
            self._floats.append(_Floats.of(block))
        self._counts += _counted(block)

    def merge(self, later: "Moments") -> None:
        """Adds what another has counted of the pixels that come next."""
        for of in (self, later):
            of.count_waiting()
        self._counts += later._counts
        self._floats += later._floats

    def summary(self, percentiles: tuple[float, ...] = (), bins: int = 64) -> Summary:
        """The statistics of all that was added.

        Raises:
            ValueError: Nothing was counted.
        """
        self.count_waiting()
        all_counts = self._counts
        if self._dtype.kind == "i":  # in the order of the values: negative ones have the higher bits
            all_counts = np.roll(all_counts, len(all_counts) // 2)
        present = np.flatnonzero(all_counts)
        if not len(present):
            raise ValueError("no pixels were counted")
        values, counts = _values(present, self._dtype), all_counts[present]
        low, high = float(values[0]), float(values[-1])
        if self._dtype.kind == "f":
            low, high = min(one.min for one in self._floats), max(one.max for one in self._floats)
            values = np.clip(values, low, high)
        mean, deviation = self._moments(values, counts)
        if self._dtype.kind != "f":
            bins = min(bins, int(high - low) + 1)  # no bin narrower than an integer
        wide = high if high > low else low + max(1, abs(low) / 2**16)  # so that each bin has a width in float64
        histogram, edges = np.histogram(values, bins, (low, wide), weights=counts)
        return Summary(
            int(counts.sum()),
            mean,
            deviation,
            low,
            high,
            {f"{p:g}": _percentile(values, counts, p) for p in percentiles},
            edges.tolist(),
            histogram.astype(np.int64).tolist(),
        )

    def _moments(self, values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        number = int(counts.sum())
        if self._dtype.kind == "f":
            return _joined(self._floats)
        pairs = [(int(v), int(n)) for v, n in zip(values, counts, strict=True)]
        total = sum(v * n for v, n in pairs)  # Python's integers do not overflow
        squares = sum(v * v * n for v, n in pairs)
        return float(Fraction(total, number)), math.sqrt(Fraction(squares * number - total**2, number**2))


class _Floats(NamedTuple):
    """What is known of a block of floats."""

    number: int
    mean: float
    squares: float  # sum of the squared distances from the mean
    min: float
    max: float

    @staticmethod
    def of(block: np.ndarray) -> "_Floats":
        """Raises:
        ValueError: One is nan or infinite.
        """
        if not np.isfinite(block).all():
            raise ValueError("a pixel is nan or infinite")
        mean = float(block.mean(dtype=np.float64))
        squares = float(((block - np.float64(mean)) ** 2).sum())
        return _Floats(block.size, mean, squares, float(block.min()), float(block.max()))


def _joined(blocks: Sequence[_Floats]) -> tuple[float, float]:
    """Mean and deviation of all (T. F. Chan, G. H. Golub, R. J. LeVeque: Updating formulae, 1979)."""
    number, mean, squares = 0, 0.0, 0.0
    for block in blocks:
        both, apart = number + block.number, block.mean - mean
        squares += block.squares + apart**2 * number * block.number / both
        mean += apart * block.number / both
        number = both
    return mean, math.sqrt(squares / number)


def _counted(block: np.ndarray) -> np.ndarray:
    """How often each pattern of bits occurs, 256 or 65,536; of float32 the upper 16 bits, in order of the values.

    Bytes are counted by Pillow, which takes half of NumPy's time for them.
    """
    if block.dtype == np.float32:
        bits = block.view(np.uint32)
        negative = bits >> 31 == 1
        return np.bincount(np.where(negative, ~bits, bits | np.uint32(1 << 31)) >> 16, minlength=VALUES)
    if block.dtype.itemsize == 2:
        return np.bincount(np.ascontiguousarray(block).view(np.uint16), minlength=VALUES)
    from PIL import Image  # not at the top: other dtypes need it not

    bytes_of = np.ascontiguousarray(block).view(np.uint8)
    rest = len(bytes_of) % 4
    counts = np.bincount(bytes_of[:rest], minlength=256)
    if fours := len(bytes_of) // 4:  # four tables, so that no byte waits until the one before it is counted
        picture = Image.frombuffer("RGBA", (fours, 1), bytes_of[rest:], "raw", "RGBA", 0, 1)
        counts += np.array(picture.histogram()).reshape(4, 256).sum(axis=0)
    return counts


def _values(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The value that each key stands for, float64."""
    if dtype.kind == "f":
        bits = (keys.astype(np.uint32) << 16) | np.uint32(
            1 << 15
        )  # the middle of all floats that have these upper bits
        negative = bits >> 31 == 0
        return np.where(negative, ~bits, bits & np.uint32(0x7FFFFFFF)).astype(np.uint32).view(np.float32).astype(float)
    lowest = np.iinfo(dtype).min
    return keys.astype(np.float64) + lowest


def _percentile(values: np.ndarray, counts: np.ndarray, percentile: float) -> float:
    last = np.cumsum(counts) - 1  # the rank of the last pixel of each value
    rank = Fraction(percentile) / 100 * int(last[-1])
    below = values[np.searchsorted(last, math.floor(rank))]
    above = values[np.searchsorted(last, math.ceil(rank))]
    return float(below + (above - below) * float(rank - math.floor(rank)))
