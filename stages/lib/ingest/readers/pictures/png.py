"""PNG by its own header and checksums, and by libpng.

Pillow reads a damaged chunk, or pixels that end too early, without an error, cuts colours of 16 bits to 8, and sees a
transparent grey among 8 bits alone. It is asked for the orientation, where there are metadata, and for animations.
"""

import struct
import zlib
from typing import NamedTuple

from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.pictures.picture import Decoded, Picture

MAGIC_NUMBER = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # colour types
METADATA = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}  # chunks that may hold an orientation
HEADER = struct.Struct(">IIBBBBB")
ANIMATION = b"acTL"
DEPTHS = {GREY: (1, 2, 4, 8, 16), COLOUR: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), COLOUR_ALPHA: (8, 16)}


class Chunks(NamedTuple):
    """What a PNG is, by its chunks."""

    width: int
    height: int
    bits: int
    colours: int  # the colour type
    names: frozenset[bytes]
    late_metadata: bool  # whether metadata lie behind the pixels

    @property
    def channels(self) -> int:
        return 1 if self.colours in (GREY, GREY_ALPHA) else 3

    @property
    def dtype(self) -> str:
        return "uint16" if self.bits == 16 else "uint8"

    @property
    def animated(self) -> bool:
        return ANIMATION in self.names

    @property
    def picture(self) -> Picture | None:
        """None where Pillow has to look at the file, too: it has metadata or several frames."""
        if self.animated or not METADATA.isdisjoint(self.names):
            return None
        return Picture(self.height, self.width, self.channels, self.dtype, 0, 1, "png")

    @property
    def left_to_pillow(self) -> bool:
        """Whether Pillow decodes the frames of an animation, of which it keeps all."""
        return self.animated and self.bits < 16 and not (b"tRNS" in self.names and self.colours == GREY)


def check(content: bytes | memoryview) -> Chunks:
    """Checks the header and every chunk's checksum.

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
            return _chunks(content, names, late)
        at = end + 4
    raise Rejected("truncated", "the PNG file has no end")


def _chunks(content: bytes | memoryview, names: set[bytes], late_metadata: bool) -> Chunks:
    if len(content) < len(MAGIC_NUMBER) + 8 + HEADER.size:
        raise Rejected("corrupt", "the header of the PNG file is cut")
    width, height, bits, colours, *_ = HEADER.unpack_from(content, len(MAGIC_NUMBER) + 8)
    if not (width and height and bits in DEPTHS.get(colours, ())):
        raise Rejected("corrupt", f"a PNG file of {width}x{height} pixels, {bits} bits and colours {colours}")
    if b"IDAT" not in names:
        raise Rejected("truncated", "the PNG file has no pixels")
    return Chunks(width, height, bits, colours, frozenset(names), late_metadata)


def decode(content: bytes | memoryview) -> Decoded:
    """By libpng, with transparent colours as alpha: (H, W) or (H, W, 2..4) uint8 or uint16.

    Raises:
        Rejected: It is corrupt.
    """
    import imagecodecs

    try:
        pixels = imagecodecs.png_decode(content)  # type: ignore[arg-type]  # it takes any buffer
    except imagecodecs.PngError as error:
        raise Rejected("corrupt", where_raised(error)) from None
    # Of an even number of channels the last is alpha. libpng leaves out a tRNS that does not fit, as Pillow does.
    return Decoded(pixels, pixels.shape[2] - 1 if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None)
