"""The geometry of a series: slices make a volume only where nothing about their places has to be guessed."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.ingest.readers.scans import axes, dicom_grid
from stages.lib.ingest.readers.scans.dicom_grid import Grid
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.readers.scans.dicom_instance import Instance, Slice

MOST_ROUNDING = 0.2  # of the gap: positions with fewer digits say too little of how even the slices are
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

    grid: Grid
    step: np.ndarray  # (3,) mm, from slice to slice
    origin: np.ndarray  # (3,) mm, of the first pixel's centre
    resampled: str  # why the slices are not taken as they are: "uneven", "tilt", "uneven tilt" or ""


def normal_of(orientation: object) -> np.ndarray:
    """The unit vector (3,) across a slice; zeros where its two directions are parallel."""
    row, column = np.array(orientation, np.float64).reshape(2, 3)
    normal = np.cross(row, column)
    return normal / (np.linalg.norm(normal) or 1)


def _degrees_between(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees between two directions: 180 where they are opposite."""
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), float(one @ other)))


def check_complete(frames: list[Frame]) -> None:
    """Raises:
    Rejected: A frame lacks its position, orientation or spacing.
    """
    for frame in frames:
        for field, (keyword, reason) in MUST_HAVE.items():
            value = getattr(frame.place, field)
            if value is None or not all(map(math.isfinite, value)) or (field == "spacing" and min(value) <= 0):
                raise Rejected(reason, f"{frame.path}: {keyword} is missing or no number")


def check_orientation(frames: list[Frame], options: Options) -> np.ndarray:
    """The normal (3,) that all slices share.

    Raises:
        Rejected: Orientations or in-plane spacings differ, or an orientation is none.
    """
    first, params = frames[0], options.params
    orientation, spacing = np.array(first.place.orientation), np.array(first.place.spacing)
    row, column = orientation.reshape(2, 3)
    if abs(np.linalg.norm(row) - 1) > 1e-3 or abs(np.linalg.norm(column) - 1) > 1e-3 or abs(row @ column) > 1e-3:
        raise Rejected("malformed", f"{first.path}: ImageOrientationPatient is not two directions at right angles")
    normal = normal_of(orientation)
    for frame in frames:
        files = f"{frame.path} and {first.path}"
        theirs = np.array(frame.place.orientation).reshape(2, 3)
        degrees = max(_degrees_between(row, theirs[0]), _degrees_between(column, theirs[1]))
        if degrees > params.orientation_tolerance:
            limit = f"ingest.orientation_tolerance is {params.orientation_tolerance:g}"
            raise Rejected("mixed_orientations", f"the directions of {files} differ by {degrees:.3g} degrees; {limit}")
        difference = float(np.abs(np.array(frame.place.spacing) / spacing - 1).max())
        if difference > params.spacing_tolerance:
            limit = f"ingest.spacing_tolerance is {params.spacing_tolerance:g}"
            raise Rejected("mixed_spacing", f"PixelSpacing of {files} differ by {difference:.3g} of it; {limit}")
    return normal


def in_order(frames: list[Frame], normal: np.ndarray, options: Options) -> list[Frame]:
    """The frames along the normal, equal slices once; by place alone, as names and instance numbers may be wrong.

    Where phases are to be split, slices of several numbers are of several phases, even if they are equal, as of air.
    """
    split = options.params.split_4d is not False

    def key(frame: Frame) -> tuple[float, str, int]:
        return float(np.dot(frame.place.position, normal)), frame.instance.sop, frame.number  # type: ignore[arg-type]

    def slice_of(frame: Frame) -> tuple[object, ...]:
        """What is the same of two instances that show the same at the same place in the same phase."""
        if frame.number or frame.instance.frames > 1:
            return (frame.path, frame.number)
        return frame.instance.pixels, frame.place, frame.instance.number if split else None

    kept: dict[tuple[object, ...], Frame] = {}
    for frame in sorted(frames, key=key):
        kept.setdefault(slice_of(frame), frame)
    return list(kept.values())


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
    """How the slices follow each other, or how they are resampled so that they do so evenly along their normal.

    Raises:
        Rejected: They are not evenly stacked along their normal, and the params don't let them be resampled.
    """
    positions = np.array([frame.place.position for frame in ordered])  # (D, 3) mm
    away = positions - positions[0]
    along = away @ normal
    is_tilted = _is_tilted(ordered, positions, normal, options)
    is_even = _is_even(ordered, positions, along, options)
    first, size = ordered[0], (ordered[0].header.rows, ordered[0].header.columns)
    step = away[-1] / (len(ordered) - 1)
    # Positions are decimal strings, so the difference of two may be 2.9999999 for 3: drop the digits of their error.
    mean = float(f"{float(step @ normal):.7g}")
    as_they_are = Stacking(dicom_grid.even_grid(len(ordered), mean, size), step, positions[0], "")
    if is_even and not is_tilted:
        return as_they_are
    along_w, along_h = np.array(first.place.orientation).reshape(2, 3)
    height, width = first.place.spacing or (math.nan, math.nan)
    beside = np.stack([away @ along_h / height, away @ along_w / width], axis=1)
    step_mm = mean if is_even else float(f"{float(np.diff(along).min()):.7g}")
    if is_even:
        along = mean * np.arange(len(ordered))
    grid = dicom_grid.plan(along, beside, step_mm, size)
    if is_even and not grid.is_moved:  # a tilt that only GantryDetectorTilt tells of
        return as_they_are
    rows, columns = beside.min(axis=0) if grid.is_moved else (0, 0)
    origin = positions[0] + rows * height * along_h + columns * width * along_w
    why = " ".join(word for word, is_so in (("uneven", not is_even), ("tilt", is_tilted and grid.is_moved)) if is_so)
    return Stacking(grid, normal * step_mm, origin, why)


def _is_even(ordered: list[Frame], positions: np.ndarray, along: np.ndarray, options: Options) -> bool:
    """Whether the slices follow each other in equal steps along a line.

    Raises:
        Rejected: They do not, and are not to be resampled; or a slice is missing.
    """
    params = options.params
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    mean = along[-1] / (len(ordered) - 1)
    drift = np.abs(along - mean * np.arange(len(ordered)))
    # Where positions are written with few digits, their rounding is no unevenness.
    rounding = _rounding(positions)
    numbers = np.arange(len(along))
    line_of_all = np.polynomial.Polynomial.fit(numbers, along, 1)(numbers)
    is_rounded = rounding <= MOST_ROUNDING * usual and np.abs(along - line_of_all).max() <= 0.6 * rounding
    wrong = np.flatnonzero(np.abs(gaps - usual) > params.gap_tolerance * usual) if not is_rounded else numbers[:0]
    if len(wrong):
        i = int(wrong[np.argmax(gaps[wrong])])
        ratio = gaps[i] / usual
        missing = len(wrong) * 3 <= len(gaps) and ratio > 1.5 and abs(ratio - round(ratio)) < 0.05
        place = f"{gaps[i]:.6g} mm between slices {i} and {i + 1} ({ordered[i].path}, {ordered[i + 1].path})"
        detail = f"{place}, expected {usual:.6g} mm"
        if missing:
            raise Rejected("missing_slices", detail)
        return _resample_uneven(detail, options)
    if not is_rounded and drift.max() > max(params.gap_tolerance, 1e-3) * mean * 5:
        i = int(drift.argmax())
        return _resample_uneven(f"slice {i} ({ordered[i].path}) is {drift[i]:.3g} mm from its place", options)
    line = positions[-1] - positions[0]
    length = float(np.linalg.norm(line))
    beside = positions - positions[0] - np.outer((positions - positions[0]) @ line / length, line / length)  # (D, 3) mm
    distances = np.linalg.norm(beside, axis=1)
    if distances.max() > max(params.gap_tolerance * length / (len(ordered) - 1), 1e-3, rounding * is_rounded):
        i = int(distances.argmax())
        return _resample_uneven(f"{ordered[i].path} lies {distances[i]:.3g} mm beside the line of the others", options)
    return True


def _resample_uneven(detail: str, options: Options) -> bool:
    if options.params.uneven == "reject":
        limit = f"{options.params.gap_tolerance:g}"
        raise Rejected("uneven_gaps", f"{detail}; ingest.gap_tolerance is {limit}, and ingest.uneven can be resample")
    return False


def _rounding(positions: np.ndarray) -> float:
    """The unit of the last decimal with which all positions are written, mm; 0 where that is below a hundredth."""
    for decimals in range(3):
        if np.abs(positions * 10**decimals - np.rint(positions * 10**decimals)).max() < 1e-6:
            return float(10**-decimals)
    return 0.0


def _is_tilted(ordered: list[Frame], positions: np.ndarray, normal: np.ndarray, options: Options) -> bool:
    """Raises:
    Rejected: The slices are stacked at an angle, or said to be, and are not to be resampled.
    """
    measured = axes.angle(positions[-1] - positions[0], normal)
    stated = max(abs(frame.header.tilt) for frame in ordered)
    if max(measured, stated) <= options.params.max_tilt:
        return False
    if options.params.tilt == "reject":
        source = "the slices are stacked" if measured > options.params.max_tilt else "GantryDetectorTilt is"
        limit = f"ingest.max_tilt is {options.params.max_tilt:g}, and ingest.tilt can be resample"
        raise Rejected("tilted", f"{source} at {max(measured, stated):.3g} degrees; {limit}")
    return True


def axes_attributes(first: Slice, stacking: Stacking) -> tuple[tuple[str, str], ...]:
    """Columns of cases.csv: where the axes point, and the affine from (d, h, w) to the patient's mm (LPS)."""
    along_w, along_h = np.array(first.orientation).reshape(2, 3)
    height, width = first.spacing or (math.nan, math.nan)
    return axes.attributes(np.stack([stacking.step, along_h * height, along_w * width, stacking.origin], axis=1))
