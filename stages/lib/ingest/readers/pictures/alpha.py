"""Transparent pictures on a background: alpha is what a file says is alpha, and is no channel of the case."""

import numpy as np

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.pictures.picture import Decoded

BAND_SAMPLES = 1 << 20  # that are mixed at once, in float64


def without_alpha(decoded: Decoded, transparency: str) -> np.ndarray:
    """(H, W, C) of the same dtype.

    Args:
        transparency: `ingest.transparency`.

    Raises:
        Rejected: It is transparent in part, and that is not wanted.
    """
    pixels = decoded.pixels[..., None] if decoded.pixels.ndim == 2 else decoded.pixels
    if decoded.alpha is None:
        return pixels
    white = decoded.white or np.iinfo(pixels.dtype).max
    alpha = pixels[..., decoded.alpha]
    others = [channel for channel in range(pixels.shape[2]) if channel != decoded.alpha]
    colours = pixels[..., : decoded.alpha] if decoded.alpha == len(others) else pixels[..., others]
    if (alpha == white).all():
        return colours
    if transparency == "reject":
        raise Rejected("transparent", "ingest.transparency can be black or white")
    background = 0 if transparency == "black" else white
    mixed = np.empty(colours.shape, pixels.dtype)
    rows = max(1, BAND_SAMPLES // (colours.shape[1] * colours.shape[2]))
    for start in range(0, len(mixed), rows):
        band = slice(start, start + rows)
        opaque = alpha[band, :, None] / white
        seen = colours[band] if decoded.premultiplied else colours[band] * opaque
        # A premultiplied colour is no higher than its alpha, in a sound file.
        mixed[band] = np.rint(np.minimum(seen + background * (1 - opaque), white))
    return mixed
