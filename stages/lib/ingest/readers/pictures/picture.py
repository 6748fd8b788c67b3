"""What the header of a picture gives, and what a decoder returns, whichever library reads it."""

from typing import Literal, NamedTuple

import numpy as np

Decoder = Literal["avif", "jpeg", "jpeg_2000", "jpeg_xl", "netpbm", "pillow", "plane", "png", "tiff", "turned"]
TURNED = ("turned", "jpeg_xl")  # decoders that turn a picture upright themselves
Frames = Literal["reject", "first", "split"]  # ingest.frames


class Picture(NamedTuple):
    """All that is needed to place a page of a file in cases/ and to decode it later."""

    height: int  # after turning as the orientation says, that is, as the picture is meant to be seen
    width: int
    channels: int  # alpha not counted
    dtype: str  # "uint8" or "uint16"; of a TIFF also "int16" and "float32"
    page: int  # its place in the file, from 0
    orientation: int  # EXIF: 1 is upright
    decoder: Decoder
    noted: tuple[str, ...] = ()  # what is counted in ingest.json
    others: tuple[int, ...] = ()  # places of further pages, whose channels follow
    named: str = ""  # what its channels are called, hashed: two pictures can be compared by it, and nothing else


class Decoded(NamedTuple):
    """Pixels as the file has them, not turned yet."""

    pixels: np.ndarray  # (H, W) or (H, W, S) of the picture's dtype; alpha is one of the S
    alpha: int | None = None  # which of the S; None: there is none
    premultiplied: bool = False  # whether the colours were multiplied by alpha
    white: int = 0  # the highest value, of alpha too; 0: that of the dtype


class Stack(NamedTuple):
    """All that is needed to place a volume whose slices are pages of one file, and to decode it later."""

    picture: Picture  # the first slice
    frames: tuple[tuple[int, ...], ...]  # the pages of each slice, time after time
    times: int
    spacing_mm: tuple[float, float, float] | None = None  # along D, H, W

    @property
    def depth(self) -> int:
        return len(self.frames) // self.times

    @property
    def channels_of_page(self) -> int:
        return self.picture.channels // len(self.frames[0])
