"""PGM and PPM of more than 8 bits, whose numbers Pillow would stretch to 16 bits."""

import re

import numpy as np

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.pictures.picture import Decoded, Picture

_BLANK = rb"(?:\s|#[^\r\n]{0,1000}[\r\n]){1,1000}"
HEADER = re.compile(rb"P([2356])" + 3 * (_BLANK + rb"(\d{1,9})") + rb"\s")
PLAIN = (b"2", b"3")  # pixels as text
BITMAP = re.compile(rb"P4" + 2 * (_BLANK + rb"(\d{1,9})") + rb"\s")
SEVERAL = "several pictures in one file; only the first could be read"
MAX_8_BITS, MAX_16_BITS = 255, 65535


def check_end(content: bytes) -> None:
    """Checks that a picture whose pixels are text does not end within a number.

    Raises:
        Rejected: It may: nothing follows the last one, as a line's end does in a whole file.
    """
    if content[-1:].isdigit():
        raise Rejected("truncated", "the file ends within a line, perhaps within its last number")


def _check_8_bits(content: bytes) -> None:
    """Raises:
    Rejected: Pillow would read the first of several pictures alone, or cut numbers above the highest.
    """
    if (bitmap := BITMAP.match(content)) is not None:
        if HEADER.match(content, bitmap.end() + -(-int(bitmap[1]) // 8) * int(bitmap[2])) or BITMAP.match(
            content, bitmap.end() + -(-int(bitmap[1]) // 8) * int(bitmap[2])
        ):
            raise Rejected("several_frames", SEVERAL)
    if (header := HEADER.match(content)) is None:
        if content[:2] in (b"P2", b"P3", b"P5", b"P6"):
            raise Rejected("corrupt", "a header with too many comments, or with numbers of too many figures")
        return
    samples = int(header[2]) * int(header[3]) * (1 if header[1] in (b"2", b"5") else 3)
    if header[1] in PLAIN:
        check_end(content)
        if re.search(rb"\sP[1-6]\s", content[header.end() :]):
            raise Rejected("several_frames", SEVERAL)
        return
    if HEADER.match(content, header.end() + samples):
        raise Rejected("several_frames", SEVERAL)
    found = np.frombuffer(content, np.uint8, min(samples, len(content) - header.end()), header.end())
    if len(found) and found.max() > int(header[4]):
        raise Rejected("corrupt", f"a number above the highest, {int(header[4])}")


def inspect(content: bytes) -> Picture | None:
    """None where Pillow can read it: it has 8 bits or fewer, or is of another kind.

    Raises:
        Rejected: The file ends before its pixels do, or has more pictures than one.
    """
    if (header := HEADER.match(content)) is None or not MAX_8_BITS < int(header[4]) <= MAX_16_BITS:
        _check_8_bits(content)
        return None
    width, height = int(header[2]), int(header[3])
    channels = 1 if header[1] in (b"2", b"5") else 3
    samples = width * height * channels
    if not samples:
        raise Rejected("corrupt", f"{width}x{height} pixels")
    rest = len(content) - header.end()
    if rest < 2 * samples - (header[1] in PLAIN):  # a figure and a blank at least
        raise Rejected("truncated", f"{rest} bytes of {width}x{height} pixels")
    following = header.end() + 2 * samples
    if (
        HEADER.match(content, following)
        if header[1] not in PLAIN
        else re.search(rb"\sP[1-6]\s", content[header.end() :])
    ):
        raise Rejected("several_frames", SEVERAL)
    return Picture(height, width, channels, "uint16", 0, 1, "netpbm")


def decode(content: bytes) -> Decoded:
    """(H, W, C) uint16, the numbers of the file.

    Raises:
        Rejected: A number is none, or higher than the file's highest.
    """
    header = HEADER.match(content)
    assert header is not None
    width, height, highest = (int(header[i]) for i in (2, 3, 4))
    channels = 1 if header[1] in (b"2", b"5") else 3
    samples = width * height * channels
    if header[1] in PLAIN:
        check_end(content)
        text = re.sub(rb"#[^\r\n]*", b"", content[header.end() :])
        words = text.split(None, samples)[:samples]
        if len(words) < samples or not all(word.isdigit() and len(word) < 6 for word in words):
            raise Rejected("corrupt", f"fewer than {samples} numbers")
        pixels = np.array(words, dtype="S5").astype(np.int64)
    else:
        pixels = np.frombuffer(content, ">u2", samples, header.end())
    if pixels.max() > highest:
        raise Rejected("corrupt", f"a number above the highest, {highest}")
    return Decoded(pixels.reshape(height, width, channels).astype(np.uint16), white=highest)
