"""Slices that are unevenly spaced or stacked at an angle, resampled onto an even grid along their normal.

Along the normal a value is linear between the two slices around it; within a slice, which is moved by a fraction of a
pixel, between the four pixels around it. What no slice shows is filled: with air in a CT, else with 0.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Plain = tuple[Any, ...]
STRAIGHT_PIXELS = 0.01  # slices that are moved by less are not moved: less than one grey level in a hundred
ROUNDING = 1e-6  # of a step


class Mix(NamedTuple):
    """A slice of the grid: (1 - weight) times one slice and weight times the next."""

    first: int
    weight: float


class Grid(NamedTuple):
    """How slices become those of an even grid."""

    step_mm: float
    mixes: tuple[Mix, ...]  # of each slice of the grid
    moves: tuple[tuple[float, float], ...]  # of each given slice: rows and columns by which it is moved
    size: tuple[int, int]  # rows and columns of a slice of the grid

    @property
    def is_moved(self) -> bool:
        return any(row or column for row, column in self.moves)

    def plain(self) -> Plain:
        """Plain tuples, as a recipe wants them."""
        return self.step_mm, tuple(map(tuple, self.mixes)), self.moves, self.size

    @classmethod
    def from_plain(cls, plain: Plain) -> "Grid":
        step, mixes, moves, size = plain
        return cls(step, tuple(Mix(*mix) for mix in mixes), moves, size)

    def sources(self, start: int, stop: int) -> tuple[int, int]:
        """The range of the given slices that slices start..stop of the grid are made of."""
        mixes = self.mixes[start:stop]
        return mixes[0].first, max(mix.first + (mix.weight > 0) for mix in mixes) + 1


def plan(along_mm: np.ndarray, beside: np.ndarray, step_mm: float, size: tuple[int, int]) -> Grid:
    """Args:
    along_mm: (D,) ascending: how far along the normal each slice lies.
    beside: (D, 2) rows and columns by which each lies beside the first one's normal.
    step_mm: Of the grid; the slices' own steps where they are even.
    size: Rows and columns of a slice.
    """
    count = math.floor((along_mm[-1] - along_mm[0]) / step_mm + ROUNDING) + 1
    places = np.minimum(along_mm[0] + step_mm * np.arange(count), along_mm[-1])
    first = np.clip(np.searchsorted(along_mm, places, side="right") - 1, 0, len(along_mm) - 2)
    weights = (places - along_mm[first]) / (along_mm[first + 1] - along_mm[first])
    first, weights = first + (weights > 1 - ROUNDING), np.where(weights > 1 - ROUNDING, 0, weights)
    weights[weights < ROUNDING] = 0
    mixes = tuple(Mix(int(i), round(float(weight), 9)) for i, weight in zip(first, weights, strict=True))
    moves = beside - beside.min(axis=0)
    if moves.max() <= STRAIGHT_PIXELS:
        moves = np.zeros_like(moves)
    grown = np.ceil(moves.max(axis=0) - ROUNDING).astype(int).tolist()
    moved = tuple((round(float(row), 6), round(float(column), 6)) for row, column in moves)
    return Grid(step_mm, mixes, moved, (size[0] + grown[0], size[1] + grown[1]))


def even_grid(number: int, step_mm: float, size: tuple[int, int]) -> Grid:
    """That of slices which lie on one."""
    return Grid(step_mm, tuple(Mix(i, 0.0) for i in range(number)), ((0.0, 0.0),) * number, size)


def resampled(grid: Grid, start: int, slices: Sequence[np.ndarray], first: int, fill: float) -> list[np.ndarray]:
    """The slices of the grid from `start` on that can be made of these.

    Args:
        slices: (H, W) each, from number `first` on.
        fill: What stands where no slice has a pixel.
    """
    dtype = slices[0].dtype
    moved = [_moved(one, grid.moves[first + i], grid.size, fill) for i, one in enumerate(slices)]
    found = []
    for mix in grid.mixes[start:]:
        i = mix.first - first
        if i + (mix.weight > 0) >= len(moved):
            break
        values = moved[i] if not mix.weight else (1 - mix.weight) * moved[i] + mix.weight * moved[i + 1]
        found.append(values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype))
    return found


def _moved(pixels: np.ndarray, by: tuple[float, float], size: tuple[int, int], fill: float) -> np.ndarray:
    """A slice (H, W), moved within one of this size, as float64."""
    values = np.full(size, fill, np.float64)
    rows, columns = (math.floor(steps) for steps in by)
    height, width = pixels.shape
    part = np.full((min(height + 1, size[0] - rows), min(width + 1, size[1] - columns)), fill, np.float64)
    part[:height, :width] = pixels
    for axis, steps in enumerate(by):
        fraction = steps - math.floor(steps)
        if fraction:
            before = np.roll(part, 1, axis=axis)
            before[(0,) if axis == 0 else (slice(None), 0)] = fill
            part = (1 - fraction) * part + fraction * before
    values[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part
    return values
