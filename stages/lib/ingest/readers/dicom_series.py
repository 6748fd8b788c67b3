"""The geometry of a series: slices become a volume only where nothing about their places has to be guessed."""

import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from stages.lib.ingest.readers import dicom_pixels
from stages.lib.ingest.readers.contract import Assembly, Case, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.readers.dicom_header import PHASES, Header, Instance, Slice

PARALLEL = 1e-4  # how much directions may differ: scanners write them with four to six digits
SAME_PLACE = 0.01  # of the in-plane spacing: slices nearer than this are at one place
LOCALIZER_ANGLE = 10  # degrees: a slice at more than that to the rest is no slice of theirs with a fault
DAMAGED = ("empty", "malformed", "no_pixels", "truncated", "unreadable", "crashed")  # whatever the file's name
ANY = "*"
# What the files of one volume must agree in, with the reason that is counted when they don't.
ALIKE = {
    "modality": "mixed_kinds",
    "sop_class": "mixed_kinds",
    "rows": "mixed_sizes",
    "columns": "mixed_sizes",
    "photometric": "mixed_pixels",
    "samples": "mixed_pixels",
    "bits_allocated": "mixed_pixels",
    "bits_stored": "mixed_pixels",
    "high_bit": "mixed_pixels",
    "signed": "mixed_pixels",
    "patient": "mixed_patients",
    "frame_of_reference": "mixed_frames_of_reference",
    "rescale_type": "mixed_pixels",
}


@dataclass(frozen=True)
class Frame:
    """A slice and where its pixels are."""

    file: Inspected
    header: Header
    instance: Instance
    number: int  # of the frame in its file
    place: Slice


class Lost:
    """Files that can't be read, and may be slices: without one at its end, a volume is short and looks whole."""

    def __init__(self, unread: list[Refusal]) -> None:
        self._of_series: dict[str, Refusal] = {}
        self._beside: dict[tuple[str, str], Refusal] = {}  # by folder and ending
        for refusal in unread:
            if refusal.series and not refusal.ignored:
                self._of_series[refusal.series] = refusal
            elif not refusal.ignored:
                folder, name = os.path.split(refusal.paths[0])
                self._beside[folder, ANY if refusal.reason in DAMAGED else _ending(name)] = refusal

    def check(self, files: list[Inspected]) -> None:
        """Raises:
        Rejected: One of the unread files says that it is of this series, or lies beside it and may be.
        """
        lost = self._of_series.get(Header(*files[0].common).series)
        places = {(folder, _ending(name)) for folder, name in (os.path.split(file.path) for file in files)}
        for folder, ending in sorted(places):
            lost = lost or self._beside.get((folder, ANY)) or self._beside.get((folder, ending))
        if lost:
            detail = f"{lost.paths[0]} can't be read ({lost.reason}) and may be one of its slices: mend or remove it"
            raise Rejected("unreadable_slice", detail)


def _ending(name: str) -> str:
    """.dcm of 0001.dcm, nothing for a name without."""
    return os.path.splitext(name)[1].lower()


def add_volumes(files: list[Inspected], lost: Lost, options: Options, assembly: Assembly) -> None:
    """Adds a series' volume (or volumes, under split_4d), or the reason why it is none, to the assembly."""
    refused: list[Refusal] = []
    try:
        lost.check(files)
        files, copies = _without_copies(files)
        refused += copies
        frames, localizers = _without_localizers(_frames(files))
        refused += [Refusal((f.file.path,), "localizer", "set apart", ignored=True) for f in localizers]
        if frames:
            assembly.cases += _volumes(frames, options)
    except Rejected as error:
        gone = {path for refusal in refused for path in refusal.paths}
        paths = tuple(file.path for file in files if file.path not in gone)
        refused.append(Refusal(paths, error.reason, error.detail, series=Header(*files[0].common).series))
    assembly.refused += refused


def _without_copies(files: list[Inspected]) -> tuple[list[Inspected], list[Refusal]]:
    """Drops instances that are there twice.

    Raises:
        Rejected: An instance is there twice with different pixels or a different place.
    """
    first: dict[str, Inspected] = {}
    copies = []
    for file in files:
        instance = Instance.from_plain(file.own)
        before = first.setdefault(instance.sop, file)
        if before is file:
            continue
        other = Instance.from_plain(before.own)
        if (instance.pixels, instance.slices) != (other.pixels, other.slices):
            raise Rejected("instance_twice", f"{file.path} has the SOPInstanceUID of {before.path}, but differs")
        copies.append(Refusal((file.path,), "same_instance", f"a copy of {before.path}", ignored=True))
    return list(first.values()), copies


def _frames(files: list[Inspected]) -> list[Frame]:
    frames = []
    for file in files:
        header, instance = Header(*file.common), Instance.from_plain(file.own)
        if instance.frames != len(instance.slices):
            raise Rejected("frames_without_geometry", f"{file.path}: {instance.frames} frames without places")
        frames += [Frame(file, header, instance, i, place) for i, place in enumerate(instance.slices)]
    return frames


def _without_localizers(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Sets apart the pictures that a series was planned on: called so, or lying across all the other slices."""
    rest = [f for f in frames if not f.header.localizer]
    directions = Counter(_rounded(f.place.orientation) for f in rest if f.place.orientation)
    if len(directions) > 1:
        most, count = directions.most_common(1)[0]
        normal = _normal(np.array(most))
        across = [
            f for f in rest if f.place.orientation and _angle(normal, _normal(f.place.orientation)) > LOCALIZER_ANGLE
        ]
        if len(across) * 5 <= count:
            rest = [f for f in rest if f not in across]
    kept = {id(f) for f in rest}
    return rest, [f for f in frames if id(f) not in kept]


def _rounded(orientation: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) + 0.0 for value in orientation)


def _volumes(frames: list[Frame], options: Options) -> list[Case]:
    _check_alike(frames)
    _check_complete(frames)
    normal = _check_orientation(frames)
    ordered = _sorted(frames, normal)
    if len(ordered) == 1:
        raise Rejected(
            "single_slice", f"{ordered[0].file.path}: a single slice has no spacing; ingest.kind can be images"
        )
    phases = _phases(ordered, normal, options)
    return [_case(phase, normal, i if len(phases) > 1 else None, options) for i, phase in enumerate(phases)]


def _check_alike(frames: list[Frame]) -> None:
    first = frames[0]
    for field, reason in ALIKE.items():
        for frame in frames:
            one, other = getattr(first.header, field), getattr(frame.header, field)
            if one != other:
                hidden = field in ("patient", "frame_of_reference")
                values = "another one" if hidden else f"{other}, not {one}"
                raise Rejected(reason, f"{field} of {frame.file.path} is {values} as in {first.file.path}")
    if first.header.samples != 1 or first.header.in_colour:
        raise Rejected("unsupported_colours", "a volume in colour")


def _check_complete(frames: list[Frame]) -> None:
    names = {"position": "ImagePositionPatient", "orientation": "ImageOrientationPatient", "spacing": "PixelSpacing"}
    for frame in frames:
        for field, name in names.items():
            value = getattr(frame.place, field)
            if value is None or not all(map(math.isfinite, value)) or (field == "spacing" and min(value) <= 0):
                raise Rejected(f"{field}_missing", f"{frame.file.path}: {name} is missing or no number")


def _check_orientation(frames: list[Frame]) -> np.ndarray:
    """The normal that all slices share."""
    first = frames[0]
    orientation, spacing = np.array(first.place.orientation), np.array(first.place.spacing)
    row, column = orientation.reshape(2, 3)
    if abs(np.linalg.norm(row) - 1) > 1e-3 or abs(np.linalg.norm(column) - 1) > 1e-3 or abs(row @ column) > 1e-3:
        raise Rejected("malformed", f"{first.file.path}: ImageOrientationPatient is not two directions at right angles")
    for frame in frames:
        if np.abs(np.array(frame.place.orientation) - orientation).max() > PARALLEL:
            angle = _angle(_normal(first.place.orientation), _normal(frame.place.orientation))
            files = f"{frame.file.path} and {first.file.path}"
            raise Rejected(
                "mixed_orientations", f"the directions of {files} differ, their normals by {angle:.3g} degrees"
            )
        if (np.abs(np.array(frame.place.spacing) / spacing - 1) > PARALLEL).any():
            raise Rejected("mixed_spacing", f"PixelSpacing of {frame.file.path} and {first.file.path} differ")
    return _normal(first.place.orientation)


def _normal(orientation: object) -> np.ndarray:
    row, column = np.array(orientation, np.float64).reshape(2, 3)
    normal = np.cross(row, column)
    return normal / (np.linalg.norm(normal) or 1)


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees between two lines."""
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), abs(float(one @ other))))


def _sorted(frames: list[Frame], normal: np.ndarray) -> list[Frame]:
    """Along the normal; by place alone, as names and instance numbers may be wrong. Equal slices are dropped."""
    keyed = [(float(np.dot(f.place.position, normal)), f.instance.sop, f.number, f) for f in frames]  # type: ignore[arg-type]
    keyed.sort(key=lambda entry: entry[:3])
    kept: list[Frame] = []
    for _, _, _, frame in keyed:
        twin = next((k for k in kept[-4:] if _same_slice(k, frame)), None)
        if twin is None:
            kept.append(frame)
    return kept


def _same_slice(one: Frame, other: Frame) -> bool:
    """Whether two instances show the same pixels at the same place in the same phase."""
    if one.number or other.number or one.instance.frames > 1 or other.instance.frames > 1:
        return False
    return one.instance.pixels == other.instance.pixels and one.place == other.place


def _phases(frames: list[Frame], normal: np.ndarray, options: Options) -> list[list[Frame]]:
    """One volume, or under split_4d one a phase.

    Raises:
        Rejected: Several slices at a place, and splitting isn't asked for or can't be done.
    """
    twice = _twice(frames, normal)
    if twice is None:
        return [frames]
    where = f"{twice[0].file.path} and {twice[1].file.path} are at one place"
    if not options.params.split_4d:
        raise Rejected("several_at_a_place", f"{where} with different pixels: 4D? ingest.split_4d can split it")
    for i in range(len(PHASES)):
        parts: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[frame.place.phase[i]].append(frame)
        sizes = {len(part) for part in parts.values()}
        if len(parts) > 1 and len(sizes) == 1 and all(_twice(part, normal) is None for part in parts.values()):
            return [parts[phase] for phase in sorted(parts, key=_number)]
    raise Rejected("several_at_a_place", f"{where}, and none of {', '.join(PHASES)} splits the series into volumes")


def _number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _twice(frames: list[Frame], normal: np.ndarray) -> tuple[Frame, Frame] | None:
    """Two neighbours at one place."""
    nearest = SAME_PLACE * min(frames[0].place.spacing or (1.0,))
    for one, other in zip(frames, frames[1:], strict=False):
        if float(np.dot(np.subtract(other.place.position, one.place.position), normal)) < nearest:  # type: ignore[arg-type]
            return one, other
    return None


def _case(frames: list[Frame], normal: np.ndarray, phase: int | None, options: Options) -> Case:
    spacing, step = _check_gaps(frames, normal, options)
    header = frames[0].header
    rescale = dicom_pixels.rescaling(header, [f.place for f in frames])
    series = header.series
    files = list({f.file.path: f.file for f in frames}.values())
    index = {file.path: i for i, file in enumerate(files)}
    return Case(
        case=options.identify("volume", f"{series} {phase}"),
        patient=header.patient,
        files=tuple(files),
        dtype=rescale.dtype,
        shape=(1, len(frames), header.rows, header.columns),
        spacing_mm=(spacing, *(frames[0].place.spacing or ())),
        units=rescale.units,
        series=series,
        recipe=(rescale.dtype, tuple((index[f.file.path], f.number) for f in frames)),
        attributes=(*header.attributes(), *_geometry(frames[0].place, step)),
        noted=("burned_in",) if any(f.header.burned_in for f in frames) else (),
    )


def _check_gaps(frames: list[Frame], normal: np.ndarray, options: Options) -> tuple[float, np.ndarray]:
    """The spacing between slices in mm, and the step from slice to slice.

    Raises:
        Rejected: The slices are not evenly stacked along their normal.
    """
    positions = np.array([f.place.position for f in frames])  # (D, 3) mm
    gaps = np.diff(positions @ normal)
    _check_tilt(frames, positions, normal, options)
    usual = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - usual) > options.params.gap_tolerance * usual)
    if len(wrong):
        i = int(wrong[np.argmax(gaps[wrong])])
        times = gaps[i] / usual
        missing = len(wrong) * 3 <= len(gaps) and times > 1.5 and abs(times - round(times)) < 0.05
        detail = f"{gaps[i]:.6g} mm between slices {i} and {i + 1} ({frames[i].file.path}, {frames[i + 1].file.path})"
        raise Rejected("missing_slices" if missing else "uneven_gaps", f"{detail}, expected {usual:.6g} mm")
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    spacing = float(step @ normal)
    drift = np.abs((positions - positions[0]) @ normal - spacing * np.arange(len(frames)))
    if drift.max() > max(options.params.gap_tolerance, 1e-3) * spacing * 5:
        raise Rejected("uneven_gaps", f"slice {int(drift.argmax())} is {drift.max():.3g} mm from its place")
    # Decimal strings of three digits make 2.9999999 of 3: what is no more than their error is not a spacing's own.
    return float(f"{spacing:.7g}"), step


def _check_tilt(frames: list[Frame], positions: np.ndarray, normal: np.ndarray, options: Options) -> None:
    line = positions[-1] - positions[0]
    angle = _angle(line, normal)
    told = max((abs(f.header.tilt) for f in frames), default=0.0)
    if max(angle, told) > options.params.max_tilt:
        how = "the slices are stacked" if angle > options.params.max_tilt else "GantryDetectorTilt is"
        raise Rejected(
            "tilted", f"{how} at {max(angle, told):.3g} degrees; ingest.max_tilt is {options.params.max_tilt:g}"
        )
    direction = line / np.linalg.norm(line)
    aside = positions - positions[0] - np.outer((positions - positions[0]) @ direction, direction)
    off = np.linalg.norm(aside, axis=1)
    allowed = max(options.params.gap_tolerance * float(np.linalg.norm(line)) / (len(frames) - 1), 1e-3)
    if off.max() > allowed:
        i = int(off.argmax())
        raise Rejected("uneven_gaps", f"{frames[i].file.path} lies {off[i]:.3g} mm beside the line of the others")


def _geometry(first: Slice, step: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Columns of cases.csv: where the axes point, and the affine from (d, h, w) to the patient's mm (LPS)."""
    along_w, along_h = np.array(first.orientation).reshape(2, 3)
    height, width = first.spacing or (math.nan, math.nan)
    columns = np.stack([step, along_h * height, along_w * width, np.array(first.position)], axis=1)  # (3, 4)
    affine = " ".join(f"{round(float(value), 6) + 0.0:.6g}" for value in columns.reshape(-1))
    return ("orientation", "".join(_towards(axis) for axis in columns[:, :3].T)), ("affine", affine)


def _towards(axis: np.ndarray) -> str:
    """The letter of the direction that an axis mostly runs to: L, P, H or R, A, F."""
    i = int(np.abs(axis).argmax())
    return ("LPH" if axis[i] > 0 else "RAF")[i]
