"""Brings all pictures of a data set to the same number of channels: grey, colour, or whatever most of them have."""

from collections.abc import Mapping

import numpy as np

WEIGHTS = {"grey_mean": (1 / 3, 1 / 3, 1 / 3), "grey_luminance": (0.2126, 0.7152, 0.0722)}  # R, G, B
GREY, RGB = 1, 3  # channels, either of which can be made of the other


def channels_of(colour: str, numbers: Mapping[int, int]) -> int:
    """The number of channels that every picture gets under `ingest.colour`.

    Args:
        numbers: How many pictures have each number of channels.
    """
    if colour != "auto":
        return RGB if colour == "rgb" else GREY
    alike = {RGB if numbers.get(RGB) else GREY: numbers.get(GREY, 0) + numbers.get(RGB, 0)}
    counts = alike | {channels: number for channels, number in numbers.items() if channels not in (GREY, RGB)}
    return max(counts, key=lambda channels: (counts[channels], -channels))


def can_be_made(channels: int, wanted: int, colour: str) -> bool:
    """Whether a picture of some number of channels can get the wanted one under `ingest.colour`."""
    if channels == wanted:
        return True
    return (channels, wanted) == (GREY, RGB) or ((channels, wanted) == (RGB, GREY) and colour in WEIGHTS)


def converted(pixels: np.ndarray, channels: int, colour: str) -> np.ndarray:
    """(C, H, W) of any dtype to (channels, H, W) of the same dtype; greys are rounded to the nearest integer.

    What can't be made so, because a file's pixels are of more channels than its header says, is returned as it is.
    """
    if len(pixels) == channels or not can_be_made(len(pixels), channels, colour):
        return pixels
    if channels == RGB:
        return np.repeat(pixels, RGB, axis=0)
    grey = np.tensordot(np.array(WEIGHTS[colour]), pixels.astype(np.float64), 1)[None]
    return grey.astype(pixels.dtype) if pixels.dtype.kind == "f" else np.rint(grey).astype(pixels.dtype)
