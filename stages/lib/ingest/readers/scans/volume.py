"""Volumes that lie in one file as one array: what the readers of such formats have in common.

A reader finds the array's `Layout` in a header. The rest is here: the volume is turned as `axes` says, as one of DICOM
slices is, so that both give the same case; a file's third axis is D. Such formats don't say what their numbers are:
they are Hounsfield units where `ingest.intensity` is hu, and else have no unit.

Whole numbers stay whole where slope and intercept are: in the file's own dtype of 8 or 16 bits; in 16 bits where all of
them fit, which is looked up where the dtype leaves it open; else in float32, up to 2^24. All else is float32.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.lib.ingest.readers import contract, packed
from stages.lib.ingest.readers.contract import Assembly, Case, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.readers.limits import check_sides
from stages.lib.ingest.readers.numbers import WAY, WHOLE_FLOAT32, as_float32
from stages.lib.ingest.readers.scans import axes

RIGHT_ANGLE = 1e-3  # how large the cosine between two axes of a slice may be
MOST_SMALL = 1 << 14  # of slope and intercept: with values of 16 bits, 32 hold what becomes of them
SAME_DIGITS = 6  # of identifiers: for 2^24 pieces
SEVERAL = "volumes of a time series, diffusion or echoes?"
RESAMPLE = "resample it onto axes at right angles, as SimpleITK.Resample does"


class Layout(NamedTuple):
    """What a header says of the array behind it."""

    stored: np.dtype
    packed: str  # one of packed.KINDS, or ""
    start: int  # byte of the file where what is packed begins, or the array
    offset: int  # bytes before the array in what is packed
    shape: tuple[int, int, int, int]  # phases, D, H, W
    phase_axis: int  # where the phases' axis is among the array's axes, the slowest first
    slope: float
    intercept: float
    columns: np.ndarray  # (3, 4) float64: steps along W, H and D, and the first pixel's place, in mm (LPS)
    noted: tuple[str, ...] = ()  # as of a Case


class Volume(NamedTuple):
    """What is known of a file, in plain values."""

    stored: str  # dtype with its byte order, as "<i2"
    packed: str
    start: int
    offset: int
    shape: tuple[int, int, int, int]
    phase_axis: int
    slope: float
    intercept: float
    dtype: str  # of the case
    flips: tuple[bool, bool, bool]  # of D, H, W
    spacing_mm: tuple[float, float, float]
    attributes: tuple[tuple[str, str], ...]
    noted: tuple[str, ...]

    @property
    def end(self) -> int:
        """The number of bytes up to the array's end, once unpacked."""
        return self.offset + math.prod(self.shape) * np.dtype(self.stored).itemsize


def inspected(
    content: bytes, read_layout: Callable[[], Layout], header: str, way: str, options: Options
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Volume, as a reader's `inspect` returns it, and nothing of its own.

    Args:
        read_layout: Reads the file's header, of which it may raise anything.
        header: What messages call it; way: out of its faults.

    Raises:
        Rejected: The header is damaged; or the volume is too small or too large, ends before its pixels do, or its axes
            are not at right angles.
    """
    try:
        layout = read_layout()
    except Rejected:
        raise
    except Exception as error:  # whatever a header holds
        contract.check_is_of_the_files(error)
        raise Rejected("malformed", f"{header} ({contract.where_raised(error)}): {way}") from None
    phases, *size = layout.shape
    check_sides(size[1], size[2], options.params)
    if math.prod(layout.shape) > options.params.max_voxels:
        what = "x".join(map(str, (*size[::-1], *((phases,) if phases > 1 else ()))))
        raise Rejected("too_large", f"{what} pixels; ingest.max_voxels is {options.params.max_voxels}")
    expected = layout.start + layout.offset + math.prod(layout.shape) * layout.stored.itemsize
    if not layout.packed and len(content) < expected:
        raise Rejected("truncated", f"{len(content)} bytes, expected {expected}: copy the file again")
    flips, spacing_mm, attributes = _geometry(layout.columns, size[::-1], options)
    dtype = _dtype(layout, lambda: _extremes(content, layout))
    array = (layout.stored.str, *layout[1:8])
    return tuple(Volume(*array, dtype, flips, spacing_mm, attributes, layout.noted)), ()


def _geometry(
    columns: np.ndarray, size: Sequence[int], options: Options
) -> tuple[tuple[bool, bool, bool], tuple[float, float, float], tuple[tuple[str, str], ...]]:
    """Which of D, H, W are turned round, the spacing along them, and what cases.csv says of them.

    Args:
        columns: As of Layout.
        size: Along W, H, D.

    Raises:
        Rejected: There is none that can be trusted, or axes are not at right angles.
    """
    columns = columns.copy()
    spacing = np.linalg.norm(columns[:, :3], axis=0)
    if not (np.isfinite(columns).all() and (spacing > 0).all()):
        raise Rejected("spacing_missing", "an axis has no length, or one that is no number: write the header again")
    along = columns[:, :3] / spacing
    if (cosine := abs(float(along[:, 0] @ along[:, 1]))) > RIGHT_ANGLE:
        angle = math.degrees(math.acos(min(cosine, 1)))
        raise Rejected("sheared", f"the axes of a slice are at {angle:.3g} degrees: {RESAMPLE}")
    turned = [float(along[i, axis]) * axes.SHOWN[i] < 0 for axis, i in enumerate(axes.mostly(along)[:2])]
    normal = np.cross(*(-along[:, axis] if turned[axis] else along[:, axis] for axis in (0, 1)))
    turned.append(float(along[:, 2] @ normal) < 0)
    if (tilt := axes.angle(along[:, 2], normal)) > options.params.max_tilt:
        limit = f"ingest.max_tilt is {options.params.max_tilt:g}"
        raise Rejected("sheared", f"the slices are stacked at {tilt:.3g} degrees, and {limit}: {RESAMPLE}")
    for axis in np.flatnonzero(turned).tolist():
        columns[:, 3] += columns[:, axis] * (size[axis] - 1)
        columns[:, axis] *= -1
    w, h, d = (bool(one) for one in turned)
    found = tuple(_plain(float(mm)) for mm in spacing[::-1])
    return (d, h, w), (found[0], found[1], found[2]), axes.attributes(columns[:, [2, 1, 0, 3]])


def _plain(mm: float) -> float:
    """A spacing as it was meant: float32 makes 0.7 of it 0.699999988."""
    short = float(f"{mm:.7g}")
    return short if np.float32(short) == np.float32(mm) else mm


def _is_whole(layout: Layout | Volume) -> bool:
    """Whether the array's values are whole numbers, by slope and intercept, too."""
    return np.dtype(layout.stored).kind in "iu" and not (layout.slope % 1 or layout.intercept % 1)


def _dtype(layout: Layout, extremes: Callable[[], tuple[int, int]]) -> str:
    """The dtype of the case.

    Args:
        extremes: Looks up the least and the largest number of the array.
    """
    stored = layout.stored
    if not _is_whole(layout):
        return "float32"
    if (layout.slope, layout.intercept) == (1, 0) and (stored.kind, stored.itemsize) in (("u", 1), ("u", 2), ("i", 2)):
        return stored.newbyteorder("=").name
    limits = np.iinfo(stored)
    ends = _scaled_ends(layout, (int(limits.min), int(limits.max)))
    names = ("int16", "uint16") if ends[0] < 0 else ("uint16", "int16")
    if name := next((name for name in names if _holds(name, ends)), None):
        return name
    ends = _scaled_ends(layout, extremes())
    return next((name for name in names if _holds(name, ends)), "float32")


def _scaled_ends(layout: Layout | Volume, ends: tuple[int, int]) -> tuple[int, int]:
    """The least and the largest value, by whole slope and intercept."""
    low, high = sorted(value * int(layout.slope) + int(layout.intercept) for value in ends)
    return low, high


def _holds(dtype: str, ends: tuple[int, int]) -> bool:
    """Whether it holds each whole number between two."""
    if dtype == "float32":
        return max(-ends[0], ends[1]) <= WHOLE_FLOAT32
    limits = np.iinfo(dtype)
    return bool(limits.min <= ends[0] and ends[1] <= limits.max)


def _extremes(content: bytes, layout: Layout) -> tuple[int, int]:
    """The least and the largest number of an array of integers, of which a chunk is unpacked at a time.

    Raises:
        Rejected: It is damaged.
    """
    count = math.prod(layout.shape)
    if not layout.packed:
        values = np.frombuffer(content, layout.stored, count, layout.start + layout.offset)
        return int(values.min()), int(values.max())
    width, left = layout.stored.itemsize, layout.offset
    ends: list[int] = []
    rest = b""
    for chunk in packed.chunks(content, layout.packed, layout.offset + count * width, layout.start):
        rest += chunk[left:]
        left = max(0, left - len(chunk))
        if whole := len(rest) // width * width:
            values = np.frombuffer(rest[:whole], layout.stored)
            ends += [int(values.min()), int(values.max())]
            rest = rest[whole:]
    return min(ends), max(ends)


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """A case per file, or, under `ingest.split_4d`, per phase; one slice is a picture where `ingest.kind` is images."""
    assembly = Assembly([])
    for file in files:
        volume = Volume(*file.common)
        phases, split = volume.shape[0], options.params.split_4d
        is_picture = volume.shape[1] == 1
        try:
            if is_picture and options.params.kind != "images":
                raise Rejected("single_slice", "a volume of one slice, which ingest.kind images takes as a picture")
            taken = contract.phases_of_file(phases, split, SEVERAL)
        except Rejected as error:
            assembly.refused.append(Refusal((file.path,), error.reason, error.detail))
            continue
        name = options.identify("path", file.path)
        several = phases > 1 and split in (True, "all")
        for phase in taken:
            assembly.cases.append(
                Case(
                    # Phases of a file are in one piece of cases/, as the first digits say which: it is unpacked once.
                    case=name[:SAME_DIGITS] + options.identify("phase", f"{phase} {file.path}")[SAME_DIGITS:]
                    if several
                    else name,
                    patient=name if several else None,
                    files=(file,),
                    dtype=volume.dtype,
                    shape=(1, *volume.shape[2:]) if is_picture else (1, *volume.shape[1:]),
                    spacing_mm=volume.spacing_mm[1:] if is_picture else volume.spacing_mm,
                    units="HU" if options.params.intensity == "hu" else "",
                    recipe=(volume.dtype, phase, volume.end if volume.packed else 0),
                    attributes=(*volume.attributes, *((("phase", str(phase)),) if phases > 1 else ())),
                    noted=volume.noted,
                )
            )
    return assembly


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """Slices start..stop, each (H, W), in the case's dtype; of a picture (1, H, W)."""
    (file,), (dtype, phase, _) = files, recipe
    volume = Volume(*file.common)
    content = _unpacked.of(file, load, volume)
    at = volume.offset if volume.packed else volume.start + volume.offset
    flat = np.frombuffer(content, volume.stored, math.prod(volume.shape), at)
    rest = volume.shape[1:]
    array = flat.reshape(*rest[: volume.phase_axis], volume.shape[0], *rest[volume.phase_axis :])
    d, h, w = (slice(None, None, -1 if turned else 1) for turned in volume.flips)
    turned = np.moveaxis(array, volume.phase_axis, 0)[:, d, h, w]
    for i in range(start, stop):
        if phase == "mean":
            planes = [_scaled(plane, volume, np.dtype(dtype), options.params.nan) for plane in turned[:, i]]
            (plane,) = axes.mean_of(planes, len(turned))
        else:
            plane = _scaled(turned[phase, i], volume, np.dtype(dtype), options.params.nan)
        yield plane[None] if rest[0] == 1 else plane


def _scaled(plane: np.ndarray, volume: Volume, dtype: np.dtype, nan: float | None) -> np.ndarray:
    """Values by slope and intercept.

    Raises:
        Rejected: One is no number, or the dtype can't hold it.
    """
    if not _is_whole(volume):
        return _with_fractions(plane, volume, nan)
    if (volume.slope, volume.intercept) == (1, 0) and plane.dtype.newbyteorder("=") == dtype:
        return np.ascontiguousarray(plane, dtype)
    ends = _scaled_ends(volume, (int(plane.min()), int(plane.max())))
    if not _holds(dtype.name, ends):
        what = f"whole numbers from {ends[0]} to {ends[1]}, which {dtype} would round or cut"
        raise Rejected("out_of_range", f"{what}: {WAY}")
    small = plane.dtype.itemsize <= 2 and max(abs(volume.slope), abs(volume.intercept)) < MOST_SMALL
    values: Any = plane.astype(np.int32 if small else np.int64)
    values *= int(volume.slope)
    values += int(volume.intercept)
    scaled: np.ndarray = values.astype(dtype)
    return scaled


def _with_fractions(plane: np.ndarray, volume: Volume, nan: float | None) -> np.ndarray:
    """Values by slope and intercept, as float32.

    Raises:
        Rejected: One is no number, or float32 can't hold it.
    """
    if (volume.slope, volume.intercept) != (1, 0):
        plane = plane.astype(np.float64) * volume.slope + volume.intercept
    return as_float32(plane, nan)


def unpacked_bytes(recipe: tuple[Any, ...]) -> int:
    """What a case's file takes in memory where it is packed."""
    return int(recipe[2])


class _Unpacked:
    """The file that was unpacked last: its slices are asked for in several runs, and its phases are several cases."""

    def __init__(self) -> None:
        self._digest, self._content = b"", b""

    def of(self, file: Inspected, load: Callable[[Inspected], bytes], volume: Volume) -> bytes:
        """The content, unpacked, up to the end of the pixels.

        Raises:
            Rejected: It ends earlier, or is damaged.
        """
        content = load(file)  # always: it notices when the file has changed
        if not volume.packed:
            return content
        if file.digest != self._digest:
            self._digest, self._content = b"", b""  # not both in memory at once
            self._content = packed.unpack(content, volume.packed, volume.end, volume.start)
            self._digest = file.digest
        return self._content


_unpacked = _Unpacked()
