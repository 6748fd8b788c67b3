"""NRRD with its pixels in the same file: volumes as 3D Slicer and other programs of research write them.

pynrrd reads the header (https://teem.sourceforge.net/nrrd/format.html), of which the space directions give spacing and
direction; `scans.volume` does the rest.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import nrrd
import numpy as np

from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.ingest.readers.scans import volume
from stages.lib.ingest.readers.scans.volume import assemble, read, unpacked_bytes

__all__ = ["ALONE", "assemble", "inspect", "read", "unpacked_bytes"]

ALONE = True
MOST_HEADER_BYTES = 1 << 20
TO_LPS = {  # the signs of x, y and z
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
TIME = "-time"  # how the names of spaces end that have time as a fourth axis
MM = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001, "micron": 0.001}
PACKED = {"raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
DTYPES = nrrd.reader._TYPEMAP_NRRD2NUMPY
PHASES = ("list", "time", "domain")  # kinds of an axis along which volumes follow each other
UNKNOWN = ("none", "???", "")  # kinds of which nothing follows
SEGMENT = re.compile(r"Segment[0-9]+_ID")  # a field of 3D Slicer's segmentations, in one layer or several
DIFFUSION = "DWMRI"  # `modality` of 3D Slicer's diffusion weighted volumes, which it calls vectors
CONVERT = "save it as one file .nrrd, of encoding raw or gzip"
PLACED = "save it with a space, space directions and a space origin"


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Volume, and nothing of its own."""
    return volume.inspected(
        content, lambda: _layout(*_header(content)), "the NRRD header", "save the file again", options
    )


def _header(content: bytes) -> tuple[Mapping[str, Any], int]:
    """The fields, and the byte behind the line that ends them.

    Raises:
        Rejected: There is no such line.
    """
    stream = io.BytesIO(content[:MOST_HEADER_BYTES])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fields = nrrd.read_header(stream)
    found = {name.replace(" ", ""): value for name, value in fields.items()}
    end = stream.tell()
    if content[max(end - 4, 0) : end].replace(b"\r", b"")[-2:] != b"\n\n" and "datafile" not in found:
        raise Rejected("truncated", "no empty line ends the NRRD header: copy the file again")
    return found, end


def _layout(fields: Mapping[str, Any], end: int) -> volume.Layout:
    if any(SEGMENT.fullmatch(name) for name in fields):
        raise Rejected("segmentation", "a segmentation of 3D Slicer: leave it out (ingest.exclude)")
    if "datafile" in fields:
        raise Rejected("unsupported_format", f"NRRD whose pixels are in another file: {CONVERT}")
    packing = PACKED.get(str(fields["encoding"]).lower())
    if packing is None:
        raise Rejected("unsupported_format", f"NRRD of an encoding other than raw, gzip and bzip2: {CONVERT}")
    skipped = [int(fields.get(name, 0)) for name in ("lineskip", "byteskip")]
    if skipped[0] or skipped[1] < 0:
        raise Rejected("unsupported_format", f"NRRD with a line skip, or its pixels at the end of the file: {CONVERT}")
    sizes = [int(size) for size in fields["sizes"]]
    if len(sizes) != int(fields["dimension"]) or min(sizes) < 1:
        raise Rejected("malformed", "the dimension and sizes of the NRRD header are none: save the file again")
    name = fields["type"]
    if name not in DTYPES or DTYPES[name] == "V":
        raise Rejected("unsupported_depth", "NRRD of blocks, or of an unknown type: save it as short or float")
    order = {"little": "<", "big": ">"}.get(str(fields.get("endian", "")).lower(), "")
    stored = np.dtype(order + DTYPES[name])
    if stored.itemsize > 1 and not order:
        raise Rejected("malformed", "the NRRD header doesn't give its endian: save the file again")
    columns, phase_axis = _columns(fields, sizes)
    phases = 1 if phase_axis is None else sizes[phase_axis]
    w, h, d = (size for axis, size in enumerate(sizes) if axis != phase_axis)
    slowest = 0 if phase_axis is None else 3 - phase_axis
    return volume.Layout(stored, packing, end, skipped[1], (phases, d, h, w), slowest, 1.0, 0.0, columns)


def _columns(fields: Mapping[str, Any], sizes: Sequence[int]) -> tuple[np.ndarray, int | None]:
    """(3, 4) steps along the three axes of space, the fastest first, and the origin; and the axis of the phases.

    Raises:
        Rejected: It isn't said, or there are more axes than of a volume and its phases.
    """
    number = len(sizes)
    if number not in (2, 3, 4):
        raise Rejected("several_numbers", f"NRRD of {number} axes: save a volume, or volumes along a list")
    if number == 2:
        raise Rejected("unsupported_format", "NRRD of two axes: save pictures as PNG or TIFF")
    space = str(fields.get("space", "")).lower()
    if (known := space.removesuffix(TIME)) not in TO_LPS:
        what = "says no space" if not space else "is of a space other than left-posterior-superior and the like"
        raise Rejected("orientation_missing", f"the NRRD header {what}: {PLACED}")
    directions, origin = fields.get("spacedirections"), fields.get("spaceorigin")
    if directions is None or origin is None or len(directions) != number:
        raise Rejected("orientation_missing", f"no space directions or no origin: {PLACED}")
    rows = [np.full(3, np.nan) if row is None else np.asarray(row, np.float64)[:3] for row in directions]
    inside = [axis for axis, row in enumerate(rows) if np.isfinite(row).all() and row.any()]
    if len(inside) != 3:
        raise Rejected("spacing_missing", f"{len(inside)} axes with a direction, of three: {PLACED}")
    (phase_axis,) = (axis for axis in range(number) if axis not in inside) if number == 4 else (None,)
    if phase_axis is not None:
        _check_phases(fields, phase_axis, sizes[phase_axis])
    unit = _unit(fields)
    signs = np.array(TO_LPS[known], float)[:, None]
    columns = np.stack([*(rows[axis] for axis in inside), np.asarray(origin, np.float64)[:3]], axis=1)
    return signs * columns * unit, phase_axis


def _check_phases(fields: Mapping[str, Any], axis: int, size: int) -> None:
    """Raises:
    Rejected: What lies along the axis are no volumes but numbers of one voxel, or nothing says what they are.
    """
    kinds = fields.get("kinds")
    kind = str(kinds[axis]).lower() if kinds is not None and len(kinds) > axis else ""
    if size == 1 or kind in PHASES or fields.get("modality") == DIFFUSION:
        return
    if kind in UNKNOWN:
        what = f"a fourth axis of {size}, and no kind that says what it is"
        raise Rejected(
            "several_numbers", f"{what}: save it with kinds, list or time for volumes that follow each other"
        )
    raise Rejected("several_numbers", f"{size} numbers a voxel, as of colours: save one volume a channel")


def _unit(fields: Mapping[str, Any]) -> float:
    """Millimetres in a unit of length.

    Raises:
        Rejected: It is none that is known, or not one for all axes.
    """
    units = {str(unit).lower() for unit in list(fields.get("spaceunits", ["mm"]))[:3]}
    if len(units) != 1 or (unit := units.pop()) not in MM:
        raise Rejected("malformed", "the NRRD header's space units are no unit of length: save the file in mm")
    return MM[unit]
