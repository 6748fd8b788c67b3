"""How a picture is to be turned: one rule for every format.

EXIF's orientation counts, wherever in the file it is; where EXIF has none, that of XMP. PNG may also hold EXIF as text
("Raw profile type exif", as ImageMagick writes it). This is what Pillow's ImageOps.exif_transpose does, so the
exported model's users can do the same.
"""

from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

SOURCES = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}  # keys of Pillow's `info`
DAMAGED = "metadata_damaged"  # counted in ingest.json


class Turning(NamedTuple):
    """What a file says of its orientation."""

    orientation: int = 1  # EXIF: 1 is upright
    noted: tuple[str, ...] = ()


def of(image: Image.Image) -> Turning:
    """The orientation that an opened file gives; upright where its metadata are damaged, which is noted."""
    try:
        # Of the base class, as a PNG's own decodes all pixels first to look for metadata behind them.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's parsers raise many types on damaged metadata, which are no pixels
        return Turning(noted=(DAMAGED,))
    return Turning(orientation if orientation in range(1, 9) else 1)


def size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Height and width of a picture once it is turned."""
    return (width, height) if orientation >= 5 else (height, width)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) as EXIF's orientation, 1 to 8, means it to be seen."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
