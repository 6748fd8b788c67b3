"""Files that cost far more than their bytes where a reader trusts them; each is made on the spot, and small."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.raw_data import make_slice

LONG, SHORT, ASCII = 4, 3, 2  # types of TIFF's tags


def tiff(
    pages: int = 1, tags: Sequence[tuple[int, int, int, int]] = (), tail: bytes = b"", loops: bool = False
) -> bytes:
    """A TIFF of 2x2 grey pages, which share their pixels.

    Args:
        tags: Further ones of every page, or others than usual: number, type, count, value.
        loops: Whether the last page is followed by the first.
    """
    usual = {256: (LONG, 1, 2), 257: (LONG, 1, 2), 258: (SHORT, 1, 8), 259: (SHORT, 1, 1), 262: (SHORT, 1, 1)}
    usual |= {273: (LONG, 1, 8), 277: (SHORT, 1, 1), 278: (LONG, 1, 2), 279: (LONG, 1, 4)}
    entries = sorted((usual | {number: rest for number, *rest in tags}).items())
    page = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", n, *rest) for n, rest in entries)
    size = len(page) + 4
    first = 12
    following = [first + size * i for i in range(1, pages)] + [first if loops else 0]
    return (
        b"II*\0"
        + struct.pack("<I", first)
        + b"\1\2\3\4"
        + b"".join(page + struct.pack("<I", at) for at in following)
        + tail
    )


def tiff_of_overlapping_tags(tags: int, size: int) -> bytes:
    """Tags that have the same bytes of the file as their value."""
    return tiff(tags=[(40_000 + i, ASCII, size, 12) for i in range(tags)], tail=bytes(size))


def gif(frames: int) -> bytes:
    """A GIF of 2x2 pictures."""
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).save(stream, "GIF")
    content = stream.getvalue()
    frame = content.rindex(b"\x2c\0\0\0\0")
    return content[:frame] + content[frame:-1] * frames + content[-1:]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 2x2 grey pixels with further chunks before its pixels."""
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\1\2\0\3\4")
    every = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in every
    )


def jpeg(side: int = 16, progressive: bool = False) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(stream, "JPEG", progressive=progressive)
    return stream.getvalue()


def jpeg_of_scans(scans: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = jpeg(side, progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]


def dicom(image: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, image, enforce_file_format=True)
    return stream.getvalue()


def ct(side: int = 4) -> Dataset:
    return make_slice(0, np.zeros((side, side), np.int16))


def of_frames(frames: Sequence[bytes], syntax: str, side: int = 4) -> Dataset:
    """An enhanced CT of compressed frames, 1 mm apart."""
    image = ct(side)
    image.file_meta.TransferSyntaxUID = syntax
    image.NumberOfFrames = len(frames)
    image.PerFrameFunctionalGroupsSequence = [_functional_group(i) for i in range(len(frames))]
    image.PixelData = encapsulate(list(frames), has_bot=False)
    image["PixelData"].is_undefined_length = True
    return image


def _functional_group(i: int) -> Dataset:
    group = Dataset()
    for sequence, values in {
        "PlanePositionSequence": {"ImagePositionPatient": [0, 0, i]},
        "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "PixelMeasuresSequence": {"PixelSpacing": [1, 1]},
        "PixelValueTransformationSequence": {"RescaleSlope": 1, "RescaleIntercept": 0},
    }.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(group, sequence, [item])
    return group


def compressed_frame(syntax: str, pixels: np.ndarray) -> bytes:
    """A frame of (H, W) Hounsfield units, as it is in a file of that transfer syntax."""
    image = make_slice(0, pixels)
    image.compress(syntax, generate_instance_uid=False)
    return next(generate_frames(image.PixelData, number_of_frames=1))


def deflated(image: Dataset, tail: int = 0) -> bytes:
    """A deflated DICOM file, with zeros added to its inflated form, as many as `tail`."""
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = dicom(image)
    at = 132 + 12 + struct.unpack_from("<I", content, 140)[0]
    squeezed = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [squeezed.compress(zlib.decompress(content[at:], -zlib.MAX_WBITS))]
    parts += [squeezed.compress(bytes(min(1 << 24, tail - done))) for done in range(0, tail, 1 << 24)]
    return content[:at] + b"".join(parts) + squeezed.flush()
