"""PGM and PPM of more than 8 bits, whose numbers Pillow would stretch to 16 bits."""

import re

import numpy as np

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.pictures.picture import Decoded, Picture

_BLANK = rb"(?:\s|#[^\r\n]{0,1000}[\r\n]){1,1000}"
HEADER = re.compile(rb"P([2356])" + 3 * (_BLANK + rb"(\d{1,9})") + rb"\s")
PLAIN = (b"2", b"3")  # pixels as text
MAX_8_BITS, MAX_16_BITS = 255, 65535


def inspect(content: bytes) -> Picture | None:
    """None where Pillow can read it: it has 8 bits or fewer, or is of another kind.

    Raises:
        Rejected: The file ends before its pixels do, or has more pictures than one.
    """
    if (header := HEADER.match(content)) is None or not MAX_8_BITS < int(header[4]) <= MAX_16_BITS:
        return None
    width, height = int(header[2]), int(header[3])
    channels = 1 if header[1] in (b"2", b"5") else 3
    samples = width * height * channels
    if not samples:
        raise Rejected("corrupt", f"{width}x{height} pixels")
    rest = len(content) - header.end()
    if rest < 2 * samples - (header[1] in PLAIN):  # a figure and a blank at least
        raise Rejected("truncated", f"{rest} bytes of {width}x{height} pixels")
    if header[1] not in PLAIN and HEADER.match(content, header.end() + 2 * samples):
        raise Rejected("several_frames", "several pictures in one file; only the first could be read")
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
