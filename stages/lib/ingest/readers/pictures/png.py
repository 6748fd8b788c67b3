"""PNG: its checksums, and the pixels that Pillow would cut to 8 bits or whose transparency it would not see."""

import struct
import zlib
from typing import NamedTuple

from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.pictures.picture import Decoded

MAGIC_NUMBER = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # colour types
METADATA = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")  # chunks that may hold an orientation


class Chunks(NamedTuple):
    """What a PNG is, by its chunks."""

    bits: int
    colours: int  # the colour type
    transparent: bool  # whether one colour, or entries of the palette, are transparent
    late_metadata: bool  # whether metadata lie behind the pixels

    @property
    def alpha(self) -> bool:
        return self.transparent or self.colours in (GREY_ALPHA, COLOUR_ALPHA)

    @property
    def left_to_pillow(self) -> bool:
        """Whether Pillow decodes all of it. Of greys, it sees a transparent one only among 8 bits."""
        return self.bits < 16 and not (self.transparent and self.colours == GREY)


def check(content: bytes) -> Chunks:
    """Checks every chunk's checksum, as Pillow decodes a damaged chunk without an error.

    Raises:
        Rejected: A chunk is damaged, or the last one is missing.
    """
    at = len(MAGIC_NUMBER)
    names: set[bytes] = set()
    late = False
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(content[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise Rejected("corrupt", f"the checksum of the PNG chunk at byte {at} is wrong")
        late = late or (name in METADATA and b"IDAT" in names)
        if (name == b"IHDR") == bool(names):
            raise Rejected("corrupt", "the PNG file does not start with its only header")
        names.add(name)
        if name == b"IEND":
            return Chunks(content[24], content[25], b"tRNS" in names, late)
        at = end + 4
    raise Rejected("truncated", "the PNG file has no end")


def decode(content: bytes) -> Decoded:
    """By libpng, with one transparent colour as alpha: (H, W) or (H, W, 2..4) uint8 or uint16.

    Raises:
        Rejected: It is corrupt.
    """
    import imagecodecs

    alpha = check(content).alpha
    try:
        pixels = imagecodecs.png_decode(content)
    except imagecodecs.PngError as error:
        raise Rejected("corrupt", where_raised(error)) from None
    return Decoded(pixels, pixels.shape[2] - 1 if alpha and pixels.ndim == 3 else None)
