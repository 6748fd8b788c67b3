"""DICOM files whose data set is deflated, perhaps to a thousandth: no more is unpacked than the header lets expect."""

import io
import struct
import zlib
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from stages.lib.ingest.readers.contract import Rejected

FIRST_BYTES = 1 << 20  # of the header, unpacked at first: most are smaller
MAX_HEADER_BYTES = 1 << 24  # as functional groups of ten thousand frames take
MAX_RATIO = 64  # of a header to what it is unpacked from: texts and numbers have ten
TAG_AND_VR, ELEMENT_START = 8, 12  # bytes of an element before its length, and before its value

# The data set is parsed as if it had never been deflated; the name is as long as the one that it replaces.
PLAIN = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")


class Deflated(Exception):
    """The deflated data start at the byte `start`."""

    def __init__(self, start: int) -> None:
        self.start = start


class Stream(io.BytesIO):
    """What pydicom reads a file from: where it would unpack all that is left, it is stopped.

    Nowhere else does it ask for all that is left.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise Deflated(self.tell())
        return super().read(size)


def parse(content: bytes, start: int, pixel_bytes: int, header_alone: dict[str, Any]) -> Dataset:
    """Parses the data set that is deflated from the byte `start` on.

    Args:
        pixel_bytes: Of the pixels, which are parsed as well; 0 where the header is enough.
        header_alone: Arguments of pydicom.dcmread for this.

    Raises:
        Rejected: The header is larger than any.
    """
    meta = content[:start].replace(DeflatedExplicitVRLittleEndian.encode(), PLAIN)
    dataset, end = _header(content, start, meta, header_alone)
    if pixel_bytes:
        unpacked = unpack(content, start, end + ELEMENT_START + pixel_bytes)
        pixels = unpacked[end + ELEMENT_START :]
        whole = meta + unpacked[: end + TAG_AND_VR] + struct.pack("<I", len(pixels)) + pixels
        dataset = pydicom.dcmread(io.BytesIO(whole), force=True)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dataset


def _header(content: bytes, start: int, meta: bytes, how: dict[str, Any]) -> tuple[Dataset, int]:
    """The elements before the pixels, and the unpacked byte at which these start."""
    limit = min(MAX_HEADER_BYTES, max(FIRST_BYTES, MAX_RATIO * (len(content) - start)))
    most = min(FIRST_BYTES, limit)
    while True:
        unpacked = unpack(content, start, most)
        stream = io.BytesIO(meta + unpacked)
        dataset = pydicom.dcmread(stream, force=True, **how)
        end = stream.tell() - len(meta)
        if len(unpacked) < most or end + ELEMENT_START <= most:
            return dataset, end
        if most == limit:
            raise Rejected("too_large", f"a header of more than {limit} bytes, deflated")
        most = min(4 * most, limit)


def unpack(content: bytes, start: int, most: int) -> bytes:
    """The first `most` of the bytes that are deflated from the byte `start` on."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(content)[start:], most)
