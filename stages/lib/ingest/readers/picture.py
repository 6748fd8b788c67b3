"""What the header of a picture gives, whichever library reads it."""

from typing import Literal, NamedTuple

Decoder = Literal["jpeg", "pillow", "png16", "tiff"]


class Picture(NamedTuple):
    """All that is needed to place a picture in cases/ and to decode it later."""

    height: int  # after turning as EXIF says, that is, as the picture is meant to be seen
    width: int
    channels: int  # 1 or 3, alpha not counted
    dtype: str  # "uint8" or "uint16"
    frames: int
    orientation: int  # EXIF: 1 is upright
    decoder: Decoder
