"""What JPEG, JPEG-LS and JPEG 2000 data say of themselves, read before a decoder takes memory and time for it."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from stages.lib.ingest.readers.contract import Rejected

MAX_SCANS = 100  # as libtiff; each visits all pixels, and takes no more than some ten bytes of the file
START, END, SCAN = 0xD8, 0xD9, 0xDA  # JPEG's markers, the second of their bytes
FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}  # those that give the size; 0xF7 is of JPEG-LS
# The reserved ones (0x02 to 0xBF) are in no sound file. Between the pixels, libjpeg looks for the next one behind them.
WITHOUT_LENGTH = frozenset((*range(0xC0), *range(0xD0, 0xD9)))
FILLING = 0xFF
ADOBE = 0xEE
METADATA = frozenset((*range(0xE1, 0xF0), 0xFE))  # applications' segments but JFIF's, and comments
MIN_ADOBE = 12  # bytes of its segment
JPEG_2000_BOX = b"\0\0\0\x0cjP  "
JPEG_2000 = b"\xff\x4f\xff\x51"


class Segment(NamedTuple):
    marker: int
    start: int  # byte of its content
    length: int  # of its content


class Box(NamedTuple):
    """Of a JPEG 2000 file."""

    name: bytes
    start: int  # byte of its content
    end: int


def check_jpeg(content: bytes) -> None:
    """Raises:
    Rejected: It has so many scans that decoding them would take for ever.
    """
    if content.count(b"\xff\xda") <= MAX_SCANS:  # in most files, and quick to see
        return
    scans = sum(segment.marker == SCAN for segment in segments(content))
    if scans > MAX_SCANS:
        raise Rejected("corrupt", f"a JPEG of {scans} scans, expected {MAX_SCANS} at most")


def tidied(content: bytes) -> bytes:
    """The same JPEG without what libjpeg warns of in its header though it is no part of the picture.

    That is: bytes between the segments, and segments of metadata, which may be damaged. JFIF's and Adobe's say how the
    colours are to be understood, and stay.
    """
    kept = [content[:2]]
    for segment in segments(content):
        if segment.marker == SCAN:
            return b"".join([*kept, content[segment.start - 4 :]])
        if segment.marker not in METADATA or segment.length >= MIN_ADOBE and segment.marker == ADOBE:
            kept.append(content[segment.start - 4 : segment.start + max(segment.length, 0)])
    return content


def check_frame(frame: bytes, rows: int, columns: int) -> None:
    """Raises:
    Rejected: A DICOM file's compressed frame holds more pixels or scans than its header lets expect.
    """
    if frame[:2] == b"\xff\xd8":
        check_jpeg(frame)
    height, width = size(frame) or (rows, columns)
    if height * width > rows * columns:
        raise Rejected("corrupt", f"a frame of {width}x{height} pixels in a file of {columns}x{rows}")


def size(content: bytes) -> tuple[int, int] | None:
    """Height and width; None where the data give none."""
    if content[:2] == b"\xff\xd8":
        frame = next((one for one in segments(content) if one.marker in FRAMES and one.length >= 5), None)
        return frame and struct.unpack_from(">HH", content, frame.start + 1)
    at = jpeg_2000_start(content)
    if at < 0 or len(content) < at + 24:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", content, at + 8)
    return bottom - top, right - left


def jpeg_2000_start(content: bytes) -> int:
    """The byte at which JPEG 2000's codestream starts, by the boxes before it; -1 where there is none."""
    if content.startswith(JPEG_2000):
        return 0
    start = next((box.start for box in jpeg_2000_boxes(content) if box.name == b"jp2c"), -1)
    return start if start >= 0 and content.startswith(JPEG_2000, start) else -1


def jpeg_2000_boxes(content: bytes, within: Box | None = None) -> Iterator[Box]:
    """The boxes of a file, or of a box, up to the codestream's or to the first that is damaged."""
    if not content.startswith(JPEG_2000_BOX):  # a bare codestream has none
        return
    at, end = (within.start, within.end) if within else (0, len(content))
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", content, start)
            start = at + 16
        if name != b"jp2c" and length < 8:
            return
        yield Box(name, start, min(at + length, end))
        if name == b"jp2c":
            return
        at += length


def segments(content: bytes) -> Iterator[Segment]:
    """The segments of a JPEG, up to its end or to the first that is damaged."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == END:
            return
        if marker == FILLING:
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", content, at + 2)
            yield Segment(marker, at + 4, length - 2)
            at += 2 + max(length, 2)
