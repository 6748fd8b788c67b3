"""The cases' own pixels: small pictures for the page's list, and whole slices for its large picture."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from stages.lib import moments
from stages.lib.cases import Cases
from stages.lib.drawing.sheets import displayable

SMALL = 160  # pixels along a small picture's longer side, at most
MOST_READ = 1 << 20  # pixels that a case's own window is measured on
DESCRIBED = 16  # pixels along the side of the pictures by which cases are compared
BLOCK = 1024  # cases compared with all others at once


class Pictures:
    """Pictures of the cases, in a window of intensities."""

    def __init__(self, cases: Cases, statistics_json: Path) -> None:
        """Args: statistics_json: For the window; without it, each case has the window of its own pixels."""
        self._cases = cases
        self._window = _window(statistics_json) if statistics_json.exists() else None

    def about(self, case: str) -> dict[str, object]:
        """What the page needs to draw a case: shape, dtype, spacing, units, and the window to begin with."""
        i = self._cases.index(case)
        low, high = self.window(self._cases[i])
        spacing = self._cases.spacings_mm[i]
        return {
            "shape": self._cases.shapes[i].tolist(),
            "dtype": self._cases.dtype_of[i].decode(),
            "spacing_mm": None if np.isnan(spacing).any() else spacing.tolist(),
            "units": self._cases.units,
            "low": low,
            "high": high,
        }

    def window(self, pixels: np.ndarray) -> tuple[float, float]:
        """From which intensity to which: all of 8 bits, else where 99 % of the training split's intensities lie."""
        if pixels.dtype == np.uint8:
            return 0.0, 255.0
        if self._window is not None:
            return self._window
        flat = pixels.reshape(-1)
        some = np.asarray(flat[:: max(1, flat.size // MOST_READ)], np.float64)
        low, high = np.percentile(some, [0.5, 99.5]).tolist()
        return (low, high) if high > low else (low, low + 1)

    def small(self, case: str, side: int = SMALL) -> bytes:
        """A PNG file, of a volume its middle slice, at most so many pixels wide and high."""
        pixels = self._cases[case]
        low, high = self.window(pixels)
        image = displayable(_coarse(pixels, side), [low], [high])
        return png(image, side)

    def slice(self, case: str, depth: int) -> bytes:
        """The integers of a slice, or of a picture: (C, H, W), little-endian; of half floats, as single ones.

        Raises:
            IndexError: The case has no such slice.
        """
        pixels = self._cases[case]
        pixels = pixels[:, depth] if pixels.ndim == 4 else pixels
        return np.ascontiguousarray(pixels, "<f4" if pixels.dtype == np.float16 else None).tobytes()

    def alike(self) -> list[tuple[int, float]]:
        """For each case the other one that looks most like it, and how much: 1 is the same but for brightness.

        Small grey pictures are compared, by their correlation; so the same picture is found again after it was resized
        or compressed, though not after it was cropped, turned or flipped.
        """
        described = self._described()
        found: list[tuple[int, float]] = []
        for at in range(0, len(described), BLOCK):
            products = described[at : at + BLOCK] @ described.T
            own = np.arange(len(products))
            products[own, at + own] = -1
            nearest = products.argmax(1)
            found += zip(nearest.tolist(), products[own, nearest].tolist(), strict=True)
        return found

    def _described(self) -> np.ndarray:
        """(N, DESCRIBED * DESCRIBED) of each case's small picture, with mean 0 and length 1."""
        rows = np.zeros((len(self._cases), DESCRIBED * DESCRIBED), np.float32)
        for row, pixels in zip(rows, self._cases, strict=True):
            grey = _coarse(pixels, DESCRIBED)[:3].mean(0, dtype=np.float64).astype(np.float32)
            small = Image.fromarray(grey).resize((DESCRIBED, DESCRIBED), Image.Resampling.BOX)
            values = np.asarray(small, np.float32).reshape(-1)
            centred = values - values.mean()
            row[:] = centred / max(float(np.linalg.norm(centred)), 1e-6)
        return rows


def png(image: np.ndarray, side: int | None = None) -> bytes:
    """A PNG file of (H, W) or (H, W, 3) in [0, 1], made smaller where it is wider or higher than so many pixels."""
    picture = Image.fromarray((image * 255).round().astype(np.uint8))
    if side is not None:
        picture.thumbnail((side, side), Image.Resampling.BOX)
    written = io.BytesIO()
    picture.save(written, "png", compress_level=1)  # quick rather than small
    return written.getvalue()


def _coarse(pixels: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W), of a volume the middle slice: of many pixels, every n-th, and still some for each of the side's."""
    pixels = pixels[:, pixels.shape[1] // 2] if pixels.ndim == 4 else pixels
    step = max(1, min(pixels.shape[1:]) // (4 * side))
    return pixels[:, ::step, ::step]


def _window(statistics_json: Path) -> tuple[float, float] | None:
    channels = moments.read_statistics(statistics_json).channels
    low = min(channel.percentiles["0.5"] for channel in channels)
    high = max(channel.percentiles["99.5"] for channel in channels)
    return (low, high) if high > low else None
