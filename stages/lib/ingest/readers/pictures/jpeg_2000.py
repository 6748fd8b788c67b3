"""JPEG 2000: which of its channels are alpha, and numbers of more than 8 bits, which Pillow would stretch to 16."""

import struct
from typing import NamedTuple

import numpy as np

from stages.lib.ingest.readers.codestream import JPEG_2000, jpeg_2000_boxes, jpeg_2000_start
from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.pictures.picture import Decoded, Picture

MAGIC_NUMBER = b"\0\0\0\x0cjP  \r\n\x87\n"
OPACITY, PREMULTIPLIED = 1, 2  # what a channel is for, in the box cdef
GREY, SRGB = 17, 16  # colours, in the box colr
STRETCHED = 255  # white of pictures of fewer than 8 bits


class Header(NamedTuple):
    """Of a file, or of a bare codestream."""

    height: int
    width: int
    bits: tuple[int, ...]  # of each channel
    signed: bool
    subsampled: bool
    alpha: int | None  # which channel
    premultiplied: bool
    palette: bool
    colours: int | None  # None: the file does not say

    @property
    def left_to_pillow(self) -> bool:
        """Whether Pillow decodes all of it: 8 bits, and a number of channels that it does not take for alpha."""
        if self.palette and max(self.bits) <= 8:
            return True
        if set(self.bits) != {8} or self.alpha is not None:
            return False
        return len(self.bits) in (1, 3) or self.colours not in (GREY, SRGB, None)


def header(content: bytes) -> Header | None:
    """None where it is no JPEG 2000.

    Raises:
        Rejected: It is damaged.
    """
    if not content.startswith((MAGIC_NUMBER, JPEG_2000)):
        return None
    headers = [box for box in jpeg_2000_boxes(content) if box.name == b"jp2h"]
    boxes = {box.name: content[box.start : box.end] for of in headers for box in jpeg_2000_boxes(content, of)}
    at = jpeg_2000_start(content)
    if at < 0:
        raise Rejected("truncated", "a JPEG 2000 file without a codestream")
    try:
        right, bottom, left, top = struct.unpack_from(">IIII", content, at + 8)
        (number,) = struct.unpack_from(">H", content, at + 40)
        depths = [struct.unpack_from("BBB", content, at + 42 + 3 * i) for i in range(number)]
    except struct.error:
        raise Rejected("truncated", "the header of the JPEG 2000 data is cut") from None
    if not depths:
        raise Rejected("corrupt", "JPEG 2000 data without channels")
    roles = _roles(boxes.get(b"cdef", b""))
    alphas = [channel for channel, role in roles.items() if role in (OPACITY, PREMULTIPLIED)]
    if len(alphas) > 1:
        raise Rejected("unsupported_colours", "a JPEG 2000 file with two alpha channels")
    colr = boxes.get(b"colr", b"")
    return Header(
        bottom - top,
        right - left,
        tuple((depth & 0x7F) + 1 for depth, _, _ in depths),
        any(depth & 0x80 for depth, _, _ in depths),
        any((x, y) != (1, 1) for _, x, y in depths),
        alphas[0] if alphas else None,
        bool(alphas) and roles[alphas[0]] == PREMULTIPLIED,
        b"pclr" in boxes,
        struct.unpack_from(">I", colr, 3)[0] if colr[:1] == b"\1" and len(colr) >= 7 else None,
    )


def _roles(cdef: bytes) -> dict[int, int]:
    """What each channel is for: 0 a colour."""
    number = struct.unpack_from(">H", cdef)[0] if len(cdef) >= 2 else 0
    entries = [struct.unpack_from(">HHH", cdef, 2 + 6 * i) for i in range(min(number, (len(cdef) - 2) // 6))]
    return {channel: role for channel, role, _ in entries}


def inspect(content: bytes) -> Picture | None:
    """None where Pillow can read it.

    Raises:
        Rejected: It is damaged, or of a kind that is not read.
    """
    found = header(content)
    if found is None:
        return None
    if found.signed:
        raise Rejected("unsupported_depth", "JPEG 2000 data with a sign")
    if found.left_to_pillow:
        return None
    if max(found.bits) > 16 or len(set(found.bits)) > 1:
        raise Rejected("unsupported_depth", f"JPEG 2000 data of {found.bits} bits")
    if found.palette or found.subsampled or found.colours not in (GREY, SRGB, None):
        raise Rejected("unsupported_colours", f"JPEG 2000 data of {max(found.bits)} bits in colours that are not read")
    channels = len(found.bits) - (found.alpha is not None)
    dtype = "uint8" if max(found.bits) <= 8 else "uint16"
    return Picture(found.height, found.width, channels, dtype, 0, 1, "jpeg_2000")


def decode(content: bytes) -> Decoded:
    """(H, W) or (H, W, S), the numbers of the file."""
    import imagecodecs

    found = header(content)
    assert found is not None
    pixels = imagecodecs.jpeg2k_decode(content)
    white = (1 << max(found.bits)) - 1
    if white < STRETCHED:  # as Pillow does with such pictures of other formats
        pixels, white = np.rint(pixels * (STRETCHED / white)).astype(np.uint8), STRETCHED
    return Decoded(pixels, found.alpha if pixels.ndim == 3 else None, found.premultiplied, white)
