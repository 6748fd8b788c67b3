"""NIfTI-1 and -2 in one file, packed by gzip or not: volumes of a magnetic resonance or research archive.

nibabel reads the header. The affine gives spacing and direction; the volume is turned as `scans.axes` says, as one of
DICOM slices is, so that both give the same case: the file's third axis is D. NIfTI doesn't say what its numbers are:
they are Hounsfield units where `ingest.intensity` is hu, and else have no unit.

Whole numbers stay whole where slope and intercept are: in the dtype of 16 bits that such values need, or in that of the
file. All else is float32.
"""

import io
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import nibabel
import numpy as np

from stages.lib.ingest.readers import contract
from stages.lib.ingest.readers.contract import Assembly, Case, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.readers.scans import axes
from stages.lib.ingest.readers.sniff import GZIP_WINDOW, NIFTI_BYTES, is_packed, nifti_header

ALONE = True
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of the unit of length, NIFTI_UNITS_*; 0 is unknown
DIFFERENT = 0.01  # of the spacing: between qform and sform
MOST_TURNED = 0.7  # the cosine of 45 degrees, by which qform and sform may turn an axis
RIGHT_ANGLE = 1e-3  # how large the cosine between two axes of a slice may be
WHOLE_FLOAT32 = 1 << 24  # it holds all whole numbers up to here
MOST_SMALL = 1 << 14  # of slope and intercept: with values of 16 bits, 32 hold what becomes of them
MOST_BEHIND = 1 << 20  # bytes behind the pixels, which are read for the checksum behind them
SAME_DIGITS = 6  # of identifiers: for 2^24 pieces
SEVERAL = "of a time series, diffusion or echoes? ingest.split_4d can be all, first, mean or the number of one"


class Volume(NamedTuple):
    """What is known of a file."""

    stored: str  # dtype with its byte order, as "<i2"
    offset: int  # bytes before the pixels, once unpacked
    shape: tuple[int, int, int, int]  # phases, D, H, W
    slope: float
    intercept: float
    flips: tuple[bool, bool, bool]  # of D, H, W
    spacing_mm: tuple[float, float, float]
    attributes: tuple[tuple[str, str], ...]

    @property
    def dtype(self) -> str:
        """The dtype of the case."""
        stored = np.dtype(self.stored)
        if stored.kind == "f" or self.slope % 1 or self.intercept % 1:
            return "float32"
        if (self.slope, self.intercept) == (1, 0) and stored.itemsize <= 2:
            return stored.newbyteorder("=").name
        limits = np.iinfo(stored)
        lowest = min(value * int(self.slope) + int(self.intercept) for value in (int(limits.min), int(limits.max)))
        return "int16" if lowest < 0 else "uint16"


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Volume, and nothing of its own."""
    block = nifti_header(content)
    try:
        header = (nibabel.Nifti1Header if len(block) == NIFTI_BYTES[0] else nibabel.Nifti2Header)(block, check=False)
        volume = _volume(header, options)
    except Rejected:
        raise
    except Exception as error:  # whatever numbers a header holds
        contract.check_is_of_the_files(error)
        raise Rejected("malformed", f"the NIfTI header: {contract.where_raised(error)}") from None
    phases, *size = volume.shape
    if min(size[1:]) < options.params.min_side:
        raise Rejected("too_small", f"{size[2]}x{size[1]} pixels; ingest.min_side is {options.params.min_side}")
    if size[0] == 1:
        raise Rejected("single_slice", "a NIfTI file of one slice; convert pictures to PNG or TIFF")
    if math.prod(volume.shape) > options.params.max_voxels:
        what = "x".join(map(str, (*size[::-1], *((phases,) if phases > 1 else ()))))
        raise Rejected("too_large", f"{what} pixels; ingest.max_voxels is {options.params.max_voxels}")
    if not is_packed(content) and len(content) < _end(volume):
        raise Rejected("truncated", f"{len(content)} bytes, expected {_end(volume)}")
    return tuple(volume), ()


def _volume(header: Any, options: Options) -> Volume:
    size = [int(n) for n in header.get_data_shape()]
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) < 3 or min(size) < 1:
        raise Rejected("single_slice", f"{len(size)} axes: no volume")
    if len(size) > 4:
        raise Rejected("unsupported_colours", f"{math.prod(size[4:])} numbers a voxel, as of vectors or tensors")
    if header["magic"].item() in (b"ni1", b"ni2"):
        raise Rejected("unsupported_format", "NIfTI in two files, .hdr and .img: save it as one, .nii")
    stored = header.get_data_dtype()
    if stored.fields or stored.kind == "V":
        raise Rejected("unsupported_colours", "a NIfTI volume in colour")
    if stored.kind not in "iuf" or stored.itemsize > 8:
        raise Rejected("unsupported_depth", f"pixels of {stored.name}")
    slope, intercept = header.get_slope_inter()
    offset = int(header.get_data_offset())
    if offset < header.sizeof_hdr:
        raise Rejected("malformed", f"the pixels begin at byte {offset}, within the header")
    flips, spacing_mm, attributes = _geometry(header, size[:3], options)
    shape = (size[3] if len(size) == 4 else 1, size[2], size[1], size[0])
    scale = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    return Volume(stored.str, offset, shape, *scale, flips, spacing_mm, attributes)


def _geometry(
    header: Any, size: Sequence[int], options: Options
) -> tuple[tuple[bool, bool, bool], tuple[float, float, float], tuple[tuple[str, str], ...]]:
    """Which of D, H, W are turned round, the spacing along them, and what cases.csv says of them.

    Raises:
        Rejected: The header says nothing of it, or contradicts itself; or a slice's axes are not at right angles.
    """
    affine = _affine(header)
    unit = MM.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        raise Rejected("malformed", "the unit of length is none of NIfTI's")
    columns = np.diag([-1.0, -1.0, 1.0]) @ affine[:3] * unit  # (3, 4), LPS; steps along W, H, D, and the origin
    spacing = np.linalg.norm(columns[:, :3], axis=0)
    if not (np.isfinite(columns).all() and (spacing > 0).all()):
        raise Rejected("spacing_missing", "the affine has an axis without length, or numbers that are none")
    along = columns[:, :3] / spacing
    if abs(along[:, 0] @ along[:, 1]) > RIGHT_ANGLE:
        raise Rejected("malformed", "the axes of a slice are not at right angles")
    turned = [float(along[i, axis]) * axes.SHOWN[i] < 0 for axis, i in enumerate(np.abs(along[:, :2]).argmax(axis=0))]
    normal = np.cross(*(-along[:, axis] if turned[axis] else along[:, axis] for axis in (0, 1)))
    turned.append(float(along[:, 2] @ normal) < 0)
    if (tilt := axes.angle(along[:, 2], normal)) > options.params.max_tilt:
        limit = f"ingest.max_tilt is {options.params.max_tilt:g}; ingest.tilt is of DICOM slices alone"
        raise Rejected("tilted", f"the slices are stacked at {tilt:.3g} degrees; {limit}")
    for axis in np.flatnonzero(turned).tolist():
        columns[:, 3] += columns[:, axis] * (size[axis] - 1)
        columns[:, axis] *= -1
    w, h, d = (bool(one) for one in turned)
    found = tuple(_plain(float(mm)) for mm in spacing[::-1])
    return (d, h, w), (found[0], found[1], found[2]), axes.attributes(columns[:, [2, 1, 0, 3]])


def _affine(header: Any) -> np.ndarray:
    """(4, 4), from (i, j, k) to RAS: sform, else qform, as nibabel has it.

    Raises:
        Rejected: Neither is there, or both are and say different things.
    """
    sform, by_s = header.get_sform(coded=True)
    qform, by_q = header.get_qform(coded=True)
    if not (by_s or by_q):
        raise Rejected("orientation_missing", "neither sform nor qform says how the volume lies (both codes are 0)")
    if by_s and by_q:
        codes = [nibabel.aff2axcodes(one) for one in (sform, qform)]
        sizes = [nibabel.affines.voxel_sizes(one) for one in (sform, qform)]
        cosines = [float(one @ other) for one, other in zip(sform[:3, :3].T, qform[:3, :3].T, strict=True)]
        alike = np.all(cosines > MOST_TURNED * sizes[0] * sizes[1])
        if not (alike and np.allclose(sizes[0], sizes[1], rtol=DIFFERENT, atol=0)):
            text = " but ".join(
                f"{''.join(map(str, code))} in steps of {' x '.join(f'{mm:.4g}' for mm in steps)} by {name}"
                for code, steps, name in zip(codes, sizes, ("sform", "qform"), strict=True)
            )
            raise Rejected("malformed", f"the header contradicts itself: {text}")
    found: np.ndarray = sform if by_s else qform
    return found


def _plain(mm: float) -> float:
    """A spacing as it was meant: float32 makes 0.7 of it 0.699999988."""
    short = float(f"{mm:.7g}")
    return short if np.float32(short) == np.float32(mm) else mm


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """A case per file, or, under `ingest.split_4d`, per phase."""
    assembly = Assembly([])
    for file in files:
        volume = Volume(*file.common)
        phases, split = volume.shape[0], options.params.split_4d
        try:
            taken = _taken(phases, split)
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
                    shape=(1, *volume.shape[1:]),
                    spacing_mm=volume.spacing_mm,
                    units="HU" if options.params.intensity == "hu" else "",
                    recipe=(volume.dtype, phase, _end(volume)),
                    attributes=(*volume.attributes, *((("phase", str(phase)),) if phases > 1 else ())),
                )
            )
    return assembly


def _taken(phases: int, split_4d: bool | str | int) -> Sequence[int | str]:
    """The numbers of the phases that become volumes, or that it is their mean.

    Raises:
        Rejected: There are several, and `ingest.split_4d` is not given; or none of its number.
    """
    if phases == 1:
        return [0]
    if split_4d is False:
        raise Rejected("several_at_a_place", f"{phases} volumes {SEVERAL}")
    return ["mean"] if split_4d == "mean" else contract.phases_taken(phases, split_4d)


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """Slices start..stop, each (H, W), in the case's dtype."""
    (file,), (dtype, phase, _) = files, recipe
    volume = Volume(*file.common)
    content = _unpacked.of(file, load, volume)
    count = math.prod(volume.shape)
    stored = np.frombuffer(content, volume.stored, count, volume.offset).reshape(volume.shape)
    d, h, w = (slice(None, None, -1 if turned else 1) for turned in volume.flips)
    turned = stored[:, d, h, w]
    if phase != "mean":
        for plane in turned[phase, start:stop]:
            yield _scaled(plane, volume, np.dtype(dtype))
        return
    for i in range(start, stop):
        yield from axes.mean_of([_scaled(plane, volume, np.dtype(dtype)) for plane in turned[:, i]], len(turned))


def _scaled(plane: np.ndarray, volume: Volume, dtype: np.dtype) -> np.ndarray:
    """Values by slope and intercept.

    Raises:
        Rejected: One is no number, or the dtype can't hold it.
    """
    whole = plane.dtype.kind in "iu" and not (volume.slope % 1 or volume.intercept % 1)
    if dtype.kind == "f" and not whole:
        values = plane.astype(np.float64)
        if (volume.slope, volume.intercept) != (1, 0):
            values = values * volume.slope + volume.intercept
        with np.errstate(over="ignore"):
            found = values.astype(dtype)
        if not np.isfinite(found).all():
            raise Rejected("not_finite", "a voxel is nan or infinite, or too large for float32")
        return found
    if (volume.slope, volume.intercept) == (1, 0) and plane.dtype.newbyteorder("=") == dtype:
        return np.ascontiguousarray(plane, dtype)
    low, high = (int(value) for value in (plane.min(), plane.max()))
    least, most = (-WHOLE_FLOAT32, WHOLE_FLOAT32) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    ends = sorted(value * int(volume.slope) + int(volume.intercept) for value in (low, high))
    if ends[0] < least or ends[1] > most:
        raise Rejected("out_of_range", f"values from {ends[0]} to {ends[1]}, which {dtype} can't hold")
    small = plane.dtype.itemsize <= 2 and max(abs(volume.slope), abs(volume.intercept)) < MOST_SMALL
    values = plane.astype(np.int32 if small else np.int64)
    values *= int(volume.slope)
    values += int(volume.intercept)
    return values.astype(dtype)


def _end(volume: Volume) -> int:
    return volume.offset + math.prod(volume.shape) * np.dtype(volume.stored).itemsize


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
        if not is_packed(content):
            return content
        if file.digest != self._digest:
            self._digest, self._content = b"", b""  # not both in memory at once
            self._content, self._digest = unpack(content, _end(volume)), file.digest
        return self._content


_unpacked = _Unpacked()


def unpack(content: bytes, size: int) -> bytes:
    """The first bytes of what gzip has packed, in one member or several.

    libdeflate takes half of zlib's time, for one member that holds no more than that; zlib explains all else.

    Raises:
        Rejected: There are fewer, or they are damaged.
    """
    import imagecodecs  # not at the top: files that are not packed need it not

    with suppress(imagecodecs.DeflateError):
        whole = bytes(imagecodecs.gzip_decode(content, out=size))
        if len(whole) == size:
            return whole
    found = io.BytesIO()
    rest = content
    while found.tell() < size and rest:
        member = zlib.decompressobj(GZIP_WINDOW)
        try:
            found.write(member.decompress(rest, size - found.tell()))
            if not member.eof and len(member.decompress(member.unconsumed_tail, MOST_BEHIND)) == MOST_BEHIND:
                raise Rejected("corrupt", "it holds far more than its header says, once unpacked")
        except zlib.error as error:  # of the checksum, too
            raise Rejected("corrupt", f"gzip: {error}") from None
        if not member.eof:
            break
        rest = member.unused_data
    if found.tell() < size or not member.eof:
        raise Rejected("truncated", f"{found.tell()} bytes once unpacked, expected {size}")
    return found.getvalue()
