"""JPEG XL (ISO/IEC 18181-1): the header is read here, so that its size is known before libjxl decodes it.

libjxl turns a picture upright as its codestream says; the EXIF data of the file say nothing beside it. Numbers are
those of the file where it is lossless, in 8 or 16 bits.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.pictures.picture import Decoded, Frames, Picture

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
MAGIC_NUMBERS = (CODESTREAM, CONTAINER)
MOST_HEADER = 1 << 14  # bytes of the codestream in which the header lies
MOST_EXTRA = 16  # channels beside the colours
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # of width and height
ALPHA, SPOT, FILTER_ARRAY = 0, 2, 5  # types of extra channels
GREY = 1  # a colour space
WAY_OUT = "convert it to PNG or TIFF"
Choice = tuple[int, int]  # of U32: a number, and how many bits follow that are added to it
SIDES: tuple[Choice, ...] = ((1, 9), (1, 13), (1, 18), (1, 30))
ENUM: tuple[Choice, ...] = ((0, 0), (1, 0), (2, 4), (18, 6))


class Header(NamedTuple):
    """What the codestream says of itself."""

    height: int  # before it is turned
    width: int
    orientation: int
    animated: bool
    bits: int
    floats: bool
    grey: bool
    extra: tuple[tuple[int, int, bool], ...]  # type, bits and whether the colours were multiplied by it, of each


class _Bits:
    """Bits of a codestream, of each byte the lowest first."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "little"), 8 * len(content)

    def take(self, number: int) -> int:
        """Raises:
        Rejected: There are fewer.
        """
        if number > self._left:
            raise Rejected("truncated", "the header of the JPEG XL file is cut")
        found = self._value & ((1 << number) - 1)
        self._value >>= number
        self._left -= number
        return found

    def choice(self, choices: tuple[Choice, ...]) -> int:
        least, bits = choices[self.take(2)]
        return least + self.take(bits)


def header(content: bytes) -> Header:
    """Raises:
    Rejected: It is damaged or cut.
    """
    bits = _Bits(_start(content)[len(CODESTREAM) :])
    height, width = _size(bits)
    if bits.take(1):  # all as usual
        return Header(height, width, 1, False, 8, False, False, ())
    orientation, animated = 1, False
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):  # a size for screens
            _size(bits)
        if bits.take(1):
            _preview(bits)
        if animated := bool(bits.take(1)):
            _animation(bits)
    depth, floats = _depth(bits)
    bits.take(1)  # whether 16 bits are enough to decode it
    number = bits.choice(((0, 0), (1, 0), (2, 4), (1, 12)))
    if number > MOST_EXTRA:
        raise Rejected("unsupported_colours", f"JPEG XL with {number} channels beside the colours")
    extra = tuple(_extra(bits) for _ in range(number))
    bits.take(1)  # whether it is in XYB
    grey = False
    if not bits.take(1):
        bits.take(1)  # whether there is an ICC profile
        grey = bits.choice(ENUM) == GREY
    return Header(height, width, orientation, animated, depth, floats, grey, extra)


def _start(content: bytes) -> bytes:
    """The beginning of the codestream.

    Raises:
        Rejected: There is none.
    """
    if content.startswith(CODESTREAM):
        return content[:MOST_HEADER]
    found = b""
    for name, start, end in _boxes(content):
        if name == b"jxlc":
            return content[start : min(end, start + MOST_HEADER)]
        if name == b"jxlp":
            found += content[start + 4 : min(end, start + 4 + MOST_HEADER)]  # behind the number of the part
            if len(found) >= MOST_HEADER:
                break
    if not found.startswith(CODESTREAM):
        raise Rejected("corrupt", "a JPEG XL file without a codestream")
    return found[:MOST_HEADER]


def _boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of the content of each box, up to the first that is damaged."""
    at = 0
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if length == 1 and at + 16 <= len(content):
            (length,) = struct.unpack_from(">Q", content, start)
            start = at + 16
        end = len(content) if length == 0 else at + length
        if end < start:
            return
        yield name, start, min(end, len(content))
        at = end


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else bits.choice(SIDES)
    ratio = bits.take(3)
    if ratio:
        of_width, of_height = RATIOS[ratio]
        return height, height * of_width // of_height
    return height, 8 * (1 + bits.take(5)) if small else bits.choice(SIDES)


def _preview(bits: _Bits) -> None:
    by_eight = bits.take(1)
    sides: tuple[Choice, ...] = (
        ((16, 0), (32, 0), (1, 5), (33, 9)) if by_eight else ((1, 6), (65, 8), (321, 10), (1345, 12))
    )
    bits.choice(sides)
    if not bits.take(3):
        bits.choice(sides)


def _animation(bits: _Bits) -> None:
    bits.choice(((100, 0), (1000, 0), (1, 10), (1, 30)))
    bits.choice(((1, 0), (1001, 0), (1, 8), (1, 10)))
    bits.choice(((0, 0), (0, 3), (0, 16), (0, 32)))
    bits.take(1)


def _depth(bits: _Bits) -> tuple[int, bool]:
    """Bits of a number, and whether it is of floating point."""
    if bits.take(1):
        number = bits.choice(((32, 0), (16, 0), (24, 0), (1, 6)))
        bits.take(4)  # of the exponent
        return number, True
    return bits.choice(((8, 0), (10, 0), (12, 0), (1, 6))), False


def _extra(bits: _Bits) -> tuple[int, int, bool]:
    if bits.take(1):
        return ALPHA, 8, False
    kind = bits.choice(ENUM)
    depth, _ = _depth(bits)
    bits.choice(((0, 0), (3, 0), (4, 0), (1, 3)))  # by how much it is smaller
    bits.take(8 * bits.choice(((0, 0), (0, 4), (16, 5), (48, 10))))  # its name
    premultiplied = bool(bits.take(1)) if kind == ALPHA else False
    if kind == SPOT:
        bits.take(4 * 16)
    if kind == FILTER_ARRAY:
        bits.choice(((1, 0), (0, 2), (3, 4), (19, 8)))
    return kind, depth, premultiplied


def inspect(content: bytes, frames: Frames) -> list[Picture | Rejected] | None:
    """The picture, or of an animation its first frame; None where it is no JPEG XL.

    Raises:
        Rejected: It is damaged, or of numbers or channels that are not read.
    """
    if not content.startswith(MAGIC_NUMBERS):
        return None
    found = header(content)
    if found.floats:
        raise Rejected("float_pixels", f"JPEG XL of floating point numbers: {WAY_OUT}")
    if found.bits > 16:
        raise Rejected("unsupported_depth", f"JPEG XL of {found.bits} bits: {WAY_OUT}")
    if len(found.extra) > 1 or any(kind != ALPHA or bits != found.bits for kind, bits, _ in found.extra):
        raise Rejected("unsupported_colours", f"JPEG XL with a channel that is neither colour nor alpha: {WAY_OUT}")
    turned = found.orientation > 4
    picture = Picture(
        height=found.width if turned else found.height,
        width=found.height if turned else found.width,
        channels=1 if found.grey else 3,
        dtype="uint8" if found.bits <= 8 else "uint16",
        page=0,
        orientation=found.orientation,
        decoder="jpeg_xl",
    )
    if found.animated and frames == "split":
        raise Rejected("unsupported_format", f"an animation of JPEG XL: ingest.frames can be first, or {WAY_OUT}")
    return [picture] * (2 if found.animated and frames == "reject" else 1)


def decode(content: bytes) -> Decoded:
    """Raises:
    Rejected: It is damaged.
    """
    import imagecodecs

    found = header(content)
    try:
        pixels = imagecodecs.jpegxl_decode(content, index=0, numthreads=1)
    except imagecodecs.JpegxlError as error:
        raise Rejected("truncated" if "NEED_MORE_INPUT" in str(error) else "corrupt", where_raised(error)) from None
    white = (1 << found.bits) - 1
    if found.bits < 8:  # as a viewer shows it
        pixels = np.rint(pixels * (255 / white)).astype(np.uint8)
        white = 255
    alpha = pixels.shape[2] - 1 if found.extra else None
    return Decoded(pixels, alpha, premultiplied=bool(found.extra and found.extra[0][2]), white=white)
