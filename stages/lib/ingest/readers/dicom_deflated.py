"""DICOM files whose data set is deflated, perhaps to a thousandth: no more is unpacked than the header lets expect."""

import io
import zlib
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from stages.lib.ingest.readers.contract import Rejected

FIRST_BYTES = 1 << 20  # unpacked at first: most headers are smaller
MAX_HEADER_BYTES = 1 << 26  # all that is unpacked beside the pixels


class Deflated(Exception):
    """The deflated data start at the byte `start`."""

    def __init__(self, start: int) -> None:
        self.start = start


class Stream(io.BytesIO):
    """What pydicom may read a file from: where it would unpack all that is left, it stops.

    It asks for all that is left nowhere else, and before it unpacks anything.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise Deflated(self.tell())
        return super().read(size)


def parse(content: bytes, start: int, pixel_bytes: int, how: dict[str, Any]) -> Dataset:
    """Parses the data set that is deflated from the byte `start` on.

    Args:
        pixel_bytes: Of the pixels; 0 where only the header before them is wanted.
        how: Arguments of pydicom.dcmread.

    Raises:
        Rejected: The header alone takes more than MAX_HEADER_BYTES.
    """
    # It is parsed as a plain file; the two names of transfer syntaxes are made of one length.
    plain = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")
    head = content[:start].replace(DeflatedExplicitVRLittleEndian.encode(), plain)
    most = MAX_HEADER_BYTES + pixel_bytes if pixel_bytes else FIRST_BYTES
    while True:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(content)[start:], most)
        stream = io.BytesIO(head + unpacked)
        dataset = pydicom.dcmread(stream, force=True, **how)
        if pixel_bytes or len(unpacked) < most or stream.tell() + 12 < len(head) + most:
            break
        if most >= MAX_HEADER_BYTES:
            raise Rejected("too_large", f"a header of more than {MAX_HEADER_BYTES} bytes, deflated")
        most *= 2
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dataset
