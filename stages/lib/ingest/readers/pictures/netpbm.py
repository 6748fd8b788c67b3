"""PGM and PPM: those of more than 8 bits, which Pillow would stretch to 16, and what Pillow does not see in others."""

import re
from typing import NamedTuple

import numpy as np

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.pictures.picture import Decoded, Picture

_BLANK = rb"(?:\s|#[^\r\n]{0,1000}[\r\n]){1,1000}"
HEADER = re.compile(rb"P([2356])" + 3 * (_BLANK + rb"(\d{1,9})") + rb"\s")
BITMAP = re.compile(rb"P4" + 2 * (_BLANK + rb"(\d{1,9})") + rb"\s")
SEVERAL = "several pictures in one file; only the first could be read"
MAX_8_BITS, MAX_16_BITS = 255, 65535


class Header(NamedTuple):
    """Of a PGM or PPM."""

    plain: bool  # pixels as text
    channels: int
    width: int
    height: int
    highest: int
    end: int  # byte at which the pixels start

    @property
    def samples(self) -> int:
        return self.width * self.height * self.channels

    @property
    def is_deep(self) -> bool:
        """Whether it has more than 8 bits, so that it is read here."""
        return MAX_8_BITS < self.highest <= MAX_16_BITS


def header(content: bytes) -> Header | None:
    """None where it is of another kind, or its header is not read."""
    if (found := HEADER.match(content)) is None:
        return None
    kind, width, height, highest = found.groups()
    return Header(kind in b"23", 1 if kind in b"25" else 3, int(width), int(height), int(highest), found.end())


def inspect(content: bytes) -> Picture | None:
    """None where Pillow can read it: it has 8 bits or fewer, or is of another kind.

    Raises:
        Rejected: The file ends before its pixels do, or has more pictures than one; or Pillow would not see that a
            number is above the highest.
    """
    if (bitmap := BITMAP.match(content)) is not None:
        row_bytes = -(-int(bitmap[1]) // 8)
        _check_alone(content, bitmap.end() + row_bytes * int(bitmap[2]))
    found = header(content)
    if found is None:
        if content[:2] in (b"P2", b"P3", b"P5", b"P6"):
            raise Rejected("corrupt", "a header with too many comments, or with numbers of too many figures")
        return None
    if found.is_deep:
        if not found.samples:
            raise Rejected("corrupt", f"{found.width}x{found.height} pixels")
        rest = len(content) - found.end
        if rest < 2 * found.samples - found.plain:  # a figure and a blank at least
            raise Rejected("truncated", f"{rest} bytes of {found.width}x{found.height} pixels")
    if found.plain:
        _check_text(content, found)
    else:
        _check_alone(content, found.end + found.samples * (2 if found.is_deep else 1))
        if not found.is_deep:
            there = min(found.samples, len(content) - found.end)
            _check_highest(np.frombuffer(content, np.uint8, there, found.end), found)
    return Picture(found.height, found.width, found.channels, "uint16", 0, 1, "netpbm") if found.is_deep else None


def _check_text(content: bytes, found: Header) -> None:
    """Raises:
    Rejected: The file may end within its last number, as nothing follows it; or it holds several pictures.
    """
    if content[-1:].isdigit():
        raise Rejected("truncated", "the file ends within a line, perhaps within its last number")
    if re.search(rb"\sP[1-6]\s", content[found.end :]):
        raise Rejected("several_frames", SEVERAL)


def _check_alone(content: bytes, end: int) -> None:
    """Raises:
    Rejected: Another picture follows where the pixels end.
    """
    if HEADER.match(content, end) or BITMAP.match(content, end):
        raise Rejected("several_frames", SEVERAL)


def _check_highest(numbers: np.ndarray, found: Header) -> None:
    """Raises:
    Rejected: One is above the file's highest.
    """
    if numbers.max(initial=0) > found.highest:
        raise Rejected("corrupt", f"a number above the highest, {found.highest}")


def decode(content: bytes) -> Decoded:
    """(H, W, C) uint16, the numbers of the file.

    Raises:
        Rejected: A number is none, or higher than the file's highest.
    """
    found = header(content)
    assert found is not None
    if found.plain:
        text = re.sub(rb"#[^\r\n]*", b"", content[found.end :])
        words = text.split(None, found.samples)[: found.samples]
        if len(words) < found.samples or not all(word.isdigit() and len(word) < 6 for word in words):
            raise Rejected("corrupt", f"fewer than {found.samples} numbers")
        pixels = np.array(words, dtype="S5").astype(np.int64)
    else:
        pixels = np.frombuffer(content, ">u2", found.samples, found.end)
    _check_highest(pixels, found)
    shape = found.height, found.width, found.channels
    return Decoded(pixels.reshape(shape).astype(np.uint16), white=found.highest)
