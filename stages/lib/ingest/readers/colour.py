"""Brings all pictures of a data set to the same number of channels, one or three."""

import numpy as np

WEIGHTS = {"grey_mean": (1 / 3, 1 / 3, 1 / 3), "grey_luminance": (0.2126, 0.7152, 0.0722)}  # R, G, B


def channels_of(colour: str, any_in_colour: bool) -> int:
    """The number of channels that every picture gets under `ingest.colour`."""
    return 3 if colour == "rgb" or (colour == "auto" and any_in_colour) else 1


def converted(pixels: np.ndarray, channels: int, colour: str) -> np.ndarray:
    """(C, H, W) of any dtype to (channels, H, W) of the same dtype; greys are rounded to the nearest integer."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=0)
    grey = np.tensordot(np.array(WEIGHTS[colour]), pixels.astype(np.float64), 1)[None]
    return grey.astype(pixels.dtype) if pixels.dtype.kind == "f" else np.rint(grey).astype(pixels.dtype)
