"""MetaImage with its pixels in the same file (.mha): volumes as ITK and its programs write them.

The header is lines of `Key = value` (https://itk.org/Wiki/ITK/MetaIO/Documentation), read here as ITK's own reader
takes a file's name alone. TransformMatrix, ElementSpacing and Offset give spacing and direction, in LPS; `scans.volume`
does the rest.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.ingest.readers.scans import volume
from stages.lib.ingest.readers.scans.volume import assemble, read, unpacked_bytes

__all__ = ["ALONE", "assemble", "inspect", "read", "unpacked_bytes"]

ALONE = True
MOST_HEADER_BYTES = 1 << 16
LAST = "ElementDataFile"  # the pixels begin behind its line
DTYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")  # names that ITK takes for one thing
ORIGINS = ("Offset", "Position", "Origin")
ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
CONVERT = "save it as one file .mha, as SimpleITK.WriteImage does"


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Volume, and nothing of its own."""
    return volume.inspected(
        content, lambda: _layout(*_header(content)), "the MetaImage header", "save the file again", options
    )


def _header(content: bytes) -> tuple[dict[str, str], int]:
    """The fields, and the first byte behind them.

    Raises:
        Rejected: They don't end, or one is there twice.
    """
    fields: dict[str, str] = {}
    at, whole = 0, content[:MOST_HEADER_BYTES]
    while LAST not in fields:
        stop = whole.find(b"\n", at)
        if stop < 0:
            raise Rejected("truncated", f"no line {LAST} ends the MetaImage header: copy the file again")
        key, equals, value = whole[at:stop].decode("latin-1").partition("=")
        at = stop + 1
        if not equals:
            raise Rejected("malformed", "a line of the MetaImage header is no 'Key = value': save the file again")
        if key.strip() in fields:
            raise Rejected("malformed", "a key is twice in the MetaImage header: save the file again")
        fields[key.strip()] = value.strip()
    return fields, at


def _layout(fields: Mapping[str, str], end: int) -> volume.Layout:
    if fields[LAST] != "LOCAL":
        raise Rejected("unsupported_format", f"MetaImage whose pixels are in another file, as .raw: {CONVERT}")
    if fields.get("ObjectType", "Image") != "Image":
        raise Rejected("unsupported_format", "MetaIO of another object than an image")
    if fields.get("BinaryData", "True").lower() != "true" or fields.get("HeaderSize", "0") not in ("0", ""):
        raise Rejected("unsupported_format", f"MetaImage with pixels as text, or a header before them: {CONVERT}")
    size = [int(n) for n in fields["DimSize"].split()]
    if len(size) != int(fields["NDims"]) or min(size) < 1:
        raise Rejected("malformed", "NDims and DimSize of the MetaImage header are none: save the file again")
    if (channels := int(fields.get("ElementNumberOfChannels", "1"))) != 1:
        raise Rejected("several_numbers", f"{channels} numbers a voxel, as of colours: save one volume a channel")
    if len(size) not in (3, 4):
        raise Rejected("unsupported_format", f"MetaImage of {len(size)} axes: save pictures as PNG or TIFF")
    if fields["ElementType"] not in DTYPES:
        raise Rejected("unsupported_depth", "MetaImage of another type than whole or real numbers: save it as such")
    slope, offset = (fields.get(f"ElementToIntensityFunction{name}") for name in ("Slope", "Offset"))
    if float(slope or 1) != 1 or float(offset or 0) != 0:
        what = "the MetaImage header gives a slope and an offset of intensities, which ITK does not apply"
        raise Rejected("malformed", f"{what}: save the values that are meant, without them")
    msb = next((fields[name] for name in ORDERS if name in fields), "False").lower() == "true"
    stored = np.dtype((">" if msb else "<") + DTYPES[fields["ElementType"]])
    packing = "zlib" if fields.get("CompressedData", "False").lower() == "true" else ""
    shape = (size[3] if len(size) == 4 else 1, size[2], size[1], size[0])
    return volume.Layout(stored, packing, end, 0, shape, 0, 1.0, 0.0, _columns(fields, len(size)))


def _columns(fields: Mapping[str, str], number: int) -> np.ndarray:
    """(3, 4) steps along W, H and D, and the origin.

    Raises:
        Rejected: One of them is missing.
    """
    directions = _numbers(fields, DIRECTIONS, number**2).reshape(number, number)  # a row an axis
    origin = _numbers(fields, ORIGINS, number)
    steps = _numbers(fields, ("ElementSpacing", "ElementSize"), number)
    if number == 4 and (directions[3, :3].any() or directions[:3, 3].any()):
        raise Rejected("sheared", "the axis of time is at an angle to those of space: save one volume a file")
    return np.concatenate([(directions[:3, :3] * steps[:3, None]).T, origin[:3, None]], axis=1)


def _numbers(fields: Mapping[str, str], names: tuple[str, ...], number: int) -> np.ndarray:
    """(number,) float64, of the first of these names that there is."""
    text = next((fields[name] for name in names if name in fields), None)
    if text is None:
        reason = "spacing_missing" if names[0] == "ElementSpacing" else "orientation_missing"
        raise Rejected(reason, f"no {names[0]} in the MetaImage header: {CONVERT}")
    found = np.array(text.split(), np.float64)
    if len(found) != number:
        raise Rejected("malformed", f"{len(found)} numbers of {names[0]}, expected {number}: {CONVERT}")
    return found
