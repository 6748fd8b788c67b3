"""The geometry of a series: slices make a volume only where nothing about their places has to be guessed."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.readers.scans.dicom_instance import Instance, Slice

MAX_DIRECTION_DIFFERENCE = 1e-4  # per component: scanners write directions with four to six digits
MUST_HAVE = {  # fields of Slice, with their elements' names, and the reason that is counted where one is missing
    "position": ("ImagePositionPatient", "position_missing"),
    "orientation": ("ImageOrientationPatient", "orientation_missing"),
    "spacing": ("PixelSpacing", "spacing_missing"),
}
SAME_PLACE = 0.01  # of the in-plane spacing: slices nearer than this are at one place


@dataclass(frozen=True)
class Frame:
    """A slice of a series, and where its pixels are."""

    file: Inspected
    header: Header
    instance: Instance
    number: int  # of the frame in its file
    place: Slice

    @property
    def path(self) -> str:
        return self.file.path


class Stacking(NamedTuple):
    """How evenly stacked slices follow each other."""

    spacing_mm: float  # along the normal
    step: np.ndarray  # (3,) mm, from slice to slice


def normal_of(orientation: object) -> np.ndarray:
    """The unit vector (3,) across a slice; zeros where its two directions are parallel."""
    row, column = np.array(orientation, np.float64).reshape(2, 3)
    normal = np.cross(row, column)
    return normal / (np.linalg.norm(normal) or 1)


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees between two lines."""
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), abs(float(one @ other))))


def check_complete(frames: list[Frame]) -> None:
    """Raises:
    Rejected: A frame lacks its position, orientation or spacing.
    """
    for frame in frames:
        for field, (keyword, reason) in MUST_HAVE.items():
            value = getattr(frame.place, field)
            if value is None or not all(map(math.isfinite, value)) or (field == "spacing" and min(value) <= 0):
                raise Rejected(reason, f"{frame.path}: {keyword} is missing or no number")


def check_orientation(frames: list[Frame]) -> np.ndarray:
    """The normal (3,) that all slices share.

    Raises:
        Rejected: Orientations or in-plane spacings differ, or an orientation is none.
    """
    first = frames[0]
    orientation, spacing = np.array(first.place.orientation), np.array(first.place.spacing)
    row, column = orientation.reshape(2, 3)
    if abs(np.linalg.norm(row) - 1) > 1e-3 or abs(np.linalg.norm(column) - 1) > 1e-3 or abs(row @ column) > 1e-3:
        raise Rejected("malformed", f"{first.path}: ImageOrientationPatient is not two directions at right angles")
    normal = normal_of(orientation)
    for frame in frames:
        files = f"{frame.path} and {first.path}"
        if np.abs(np.array(frame.place.orientation) - orientation).max() > MAX_DIRECTION_DIFFERENCE:
            degrees = angle(normal, normal_of(frame.place.orientation))
            raise Rejected(
                "mixed_orientations", f"the directions of {files} differ, their normals by {degrees:.3g} degrees"
            )
        if (np.abs(np.array(frame.place.spacing) / spacing - 1) > MAX_DIRECTION_DIFFERENCE).any():
            raise Rejected("mixed_spacing", f"PixelSpacing of {files} differ")
    return normal


def in_order(frames: list[Frame], normal: np.ndarray) -> list[Frame]:
    """The frames along the normal, equal slices once; by place alone, as names and instance numbers may be wrong."""

    def key(frame: Frame) -> tuple[float, str, int]:
        return float(np.dot(frame.place.position, normal)), frame.instance.sop, frame.number  # type: ignore[arg-type]

    kept: list[Frame] = []
    for frame in sorted(frames, key=key):
        if not any(_is_same_slice(one, frame) for one in kept[-4:]):
            kept.append(frame)
    return kept


def _is_same_slice(one: Frame, other: Frame) -> bool:
    """Whether two instances show the same pixels at the same place in the same phase."""
    if one.number or other.number or one.instance.frames > 1 or other.instance.frames > 1:
        return False
    return one.instance.pixels == other.instance.pixels and one.place == other.place


def find_pair_at_one_place(ordered: list[Frame], normal: np.ndarray) -> tuple[Frame, Frame] | None:
    """The first two neighbours that lie at one place, None where each slice has a place of its own."""
    return next(((place[0], place[1]) for place in places(ordered, normal) if len(place) > 1), None)


def places(ordered: list[Frame], normal: np.ndarray) -> list[list[Frame]]:
    """The frames at each place, in order along the normal."""
    found = [[ordered[0]]]
    nearest = SAME_PLACE * min(ordered[0].place.spacing or (1.0,))
    for one, other in zip(ordered, ordered[1:], strict=False):
        if float(np.dot(np.subtract(other.place.position, one.place.position), normal)) < nearest:  # type: ignore[arg-type]
            found[-1].append(other)
        else:
            found.append([other])
    return found


def check_stacking(ordered: list[Frame], normal: np.ndarray, options: Options) -> Stacking:
    """Raises:
    Rejected: The slices are not evenly stacked along their normal.
    """
    positions = np.array([frame.place.position for frame in ordered])  # (D, 3) mm
    _check_tilt(ordered, positions, normal, options)
    _check_gaps(ordered, np.diff(positions @ normal), options)
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    spacing = float(step @ normal)
    drift = np.abs((positions - positions[0]) @ normal - spacing * np.arange(len(ordered)))
    if drift.max() > max(options.params.gap_tolerance, 1e-3) * spacing * 5:
        raise Rejected("uneven_gaps", f"slice {int(drift.argmax())} is {drift.max():.3g} mm from its place")
    # Positions are decimal strings, so the difference of two may be 2.9999999 for 3: drop the digits of their error.
    return Stacking(float(f"{spacing:.7g}"), step)


def _check_gaps(ordered: list[Frame], gaps: np.ndarray, options: Options) -> None:
    """Args:
    gaps: (D - 1,) mm.
    """
    usual = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - usual) > options.params.gap_tolerance * usual)
    if not len(wrong):
        return
    i = int(wrong[np.argmax(gaps[wrong])])
    ratio = gaps[i] / usual
    missing = len(wrong) * 3 <= len(gaps) and ratio > 1.5 and abs(ratio - round(ratio)) < 0.05
    place = f"{gaps[i]:.6g} mm between slices {i} and {i + 1} ({ordered[i].path}, {ordered[i + 1].path})"
    raise Rejected("missing_slices" if missing else "uneven_gaps", f"{place}, expected {usual:.6g} mm")


def _check_tilt(ordered: list[Frame], positions: np.ndarray, normal: np.ndarray, options: Options) -> None:
    line = positions[-1] - positions[0]
    length = float(np.linalg.norm(line))
    measured = angle(line, normal)
    stated = max(abs(frame.header.tilt) for frame in ordered)
    if max(measured, stated) > options.params.max_tilt:
        source = "the slices are stacked" if measured > options.params.max_tilt else "GantryDetectorTilt is"
        degrees = f"{max(measured, stated):.3g} degrees"
        raise Rejected("tilted", f"{source} at {degrees}; ingest.max_tilt is {options.params.max_tilt:g}")
    direction = line / length
    beside = positions - positions[0] - np.outer((positions - positions[0]) @ direction, direction)  # (D, 3) mm
    distances = np.linalg.norm(beside, axis=1)
    if distances.max() > max(options.params.gap_tolerance * length / (len(ordered) - 1), 1e-3):
        i = int(distances.argmax())
        raise Rejected("uneven_gaps", f"{ordered[i].path} lies {distances[i]:.3g} mm beside the line of the others")


def axes_attributes(first: Slice, step: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Columns of cases.csv: where the axes point, and the affine from (d, h, w) to the patient's mm (LPS)."""
    along_w, along_h = np.array(first.orientation).reshape(2, 3)
    height, width = first.spacing or (math.nan, math.nan)
    columns = np.stack([step, along_h * height, along_w * width, np.array(first.position)], axis=1)  # (3, 4)
    affine = " ".join(f"{round(float(value), 6) + 0.0:.6g}" for value in columns.reshape(-1))
    return ("orientation", "".join(_direction_letter(axis) for axis in columns[:, :3].T)), ("affine", affine)


def _direction_letter(axis: np.ndarray) -> str:
    """The letter of the direction that an axis mostly runs to: L, P, H or R, A, F."""
    i = int(np.abs(axis).argmax())
    return ("LPH" if axis[i] > 0 else "RAF")[i]
