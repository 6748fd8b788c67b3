"""From the files of a DICOM series to its volumes: copies and localizers set apart, phases split, faults refused."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from stages.lib.ingest import companions
from stages.lib.ingest.readers.contract import (
    Assembly,
    Case,
    Inspected,
    Options,
    Refusal,
    Rejected,
    check_is_of_the_files,
    phases_taken,
    where_raised,
)
from stages.lib.ingest.readers.scans import (
    axes,
    dicom_burned_in,
    dicom_copies,
    dicom_geometry,
    dicom_mosaic,
    dicom_phases,
    dicom_pixels,
)
from stages.lib.ingest.readers.scans.dicom_geometry import Frame
from stages.lib.ingest.readers.scans.dicom_header import Header, check_voxels
from stages.lib.ingest.readers.scans.dicom_instance import Instance
from stages.lib.ingest.readers.scans.dicom_pixels import Recipe

LOCALIZER_DEGREES = 10  # a slice tilted by more against the others is a localizer, not a slice with a fault
DAMAGED = (
    "malformed",
    "no_pixels",
    "truncated",
    "unreadable",
    "crashed",
    "io_error",
)  # such a file may be a slice
ANY_ENDING = "*"
# Fields of the header in which the files of one volume must agree, with the reason that is counted when they don't.
MUST_AGREE = {
    "modality": "mixed_kinds",
    "sop_class": "mixed_kinds",
    "rows": "mixed_sizes",
    "columns": "mixed_sizes",
    "photometric": "mixed_pixels",
    "inverse": "mixed_pixels",
    "samples": "mixed_pixels",
    "bits_allocated": "mixed_pixels",
    "signed": "mixed_pixels",
    "patient": "mixed_patients",
    "rescale_type": "mixed_pixels",
}
# Likewise where values are inverted within the stored bits; else each file's own bits say what its values are.
INVERTED = {"bits_stored": "mixed_pixels", "high_bit": "mixed_pixels"}
HASHED = ("patient", "rescale_type")  # of these; the last where it is unknown


class UnreadFiles:
    """Files that can't be read and may be slices: without the one at its end, a volume is short and looks whole."""

    def __init__(self, unread: Sequence[Refusal]) -> None:
        self._by_series: dict[str, Refusal] = {}
        self._by_place: dict[companions.Place, Refusal] = {}
        self._by_above: dict[companions.Place, Refusal] = {}  # likewise by the folder around
        for refusal in unread:
            if refusal.series and not refusal.ignored:
                self._by_series[refusal.series] = refusal
            elif not refusal.ignored:
                folder, ending = companions.place(refusal.paths[0])
                place = folder, ANY_ENDING if refusal.reason in DAMAGED else ending
                self._by_place[place] = self._by_above[companions.one_up(place)] = refusal

    def check_none_of(self, files: list[Inspected]) -> None:
        """Raises:
        Rejected: An unread file names this series in its header, or lies beside it and may belong to it.
        """
        found = self._by_series.get(Header(*files[0].common).series)
        paths = [file.path for file in files]
        for unread, places in (
            (self._by_place, companions.of_slices(paths)),
            (self._by_above, companions.around(paths)),
        ):
            for folder, ending in sorted(places):
                found = found or unread.get((folder, ANY_ENDING)) or unread.get((folder, ending))
        if found:
            detail = f"{found.paths[0]} can't be read ({found.reason}) and may be one of its slices: mend or remove it"
            raise Rejected("unreadable_slice", detail)


def add_volumes(files: list[Inspected], unread: UnreadFiles, options: Options, assembly: Assembly) -> None:
    """Adds a series' volume (or volumes, under split_4d), or the reason why it is none, to the assembly."""
    refused: list[Refusal] = []
    series = Header(*files[0].common).series
    try:
        unread.check_none_of(files)
        files, copies, twins = dicom_copies.without_copies(files)
        refused += copies
        frames, objects, twin_frames = dicom_copies.without_frames_of_others(_frames(files))
        refused += objects
        frames, localizers = _without_localizers(frames)
        refused += [Refusal((f.path,), "localizer", "set apart", ignored=True) for f in localizers]
        for frame in frames:
            dicom_burned_in.check(frame.header.burned_in, options)
        if frames:
            volumes = _volumes(frames, options)
            refused += dicom_phases.left_out(frames, [case for _, case in volumes], options)
            for frames_of_case, case in volumes:
                compared = dicom_copies.of_frames(frames_of_case, twins, twin_frames)
                assembly.cases.append(dicom_pixels.compared_with(case, compared))
    except Rejected as error:
        set_apart = {path for refusal in refused for path in refusal.paths}
        paths = tuple(file.path for file in files if file.path not in set_apart)
        refused.append(Refusal(paths, error.reason, error.detail, series=series))
    except Exception as error:  # whatever else goes wrong in a series ends that series, and no other
        check_is_of_the_files(error)
        refused = [Refusal(tuple(file.path for file in files), "unreadable", where_raised(error), series=series)]
    assembly.refused += refused


def _frames(files: list[Inspected]) -> list[Frame]:
    frames = []
    for file in files:
        header, instance = Header(*file.common), Instance.from_plain(file.own)
        if instance.frames != len(instance.slices):
            raise Rejected("frames_without_geometry", f"{file.path}: {instance.frames} frames without places")
        frames += [Frame(file, header, instance, i, place) for i, place in enumerate(instance.slices)]
    return frames


def _without_localizers(frames: list[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Sets apart the pictures that a series was planned on: named so, or tilted against nearly all other slices."""
    rest = [f for f in frames if not f.header.localizer]
    directions = Counter(_rounded(f.place.orientation) for f in rest if f.place.orientation)
    if len(directions) > 1:
        most, count = directions.most_common(1)[0]
        normal = dicom_geometry.normal_of(most)
        across = [f for f in rest if f.place.orientation and _degrees_to(normal, f) > LOCALIZER_DEGREES]
        along = [f for f in rest if f not in across]
        # In the format of the others it may be a slice with a damaged orientation: without it a volume would be short.
        if len(across) * 5 <= count and not {*map(_format, along)} & {*map(_format, across)}:
            rest = along
    kept = {id(f) for f in rest}
    return rest, [f for f in frames if id(f) not in kept]


def _format(frame: Frame) -> tuple[object, ...]:
    return frame.header.rows, frame.header.columns, frame.place.spacing


def _rounded(orientation: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) + 0.0 for value in orientation)


def _degrees_to(normal: np.ndarray, frame: Frame) -> float:
    return axes.angle(normal, dicom_geometry.normal_of(frame.place.orientation))


def _volumes(frames: list[Frame], options: Options) -> list[tuple[list[Frame], Case]]:
    """The volumes of a series, each with its slices in order."""
    if mosaic := next((frame for frame in frames if frame.header.mosaic < 0), None):
        raise Rejected("mosaic", f"{mosaic.path}: {dicom_mosaic.UNCERTAIN}")
    _check_agreement(frames)
    dicom_geometry.check_complete(frames)
    normal = dicom_geometry.check_orientation(frames, options)
    ordered = dicom_geometry.in_order(frames, normal, options)
    if len(ordered) == 1:
        raise Rejected("single_slice", f"{ordered[0].path}: a single slice has no spacing; ingest.kind can be images")
    phases = dicom_phases.split(ordered, normal, options)
    places = ordered[0].header.places
    if ordered[0].header.modality == "PT" and places not in (0, len(phases[0])):
        raise Rejected("missing_slices", f"NumberOfSlices is {places}, but there are slices at {len(phases[0])} places")
    if len(phases) == 1:
        return [(ordered, _case(ordered, normal, None, options))]
    split_4d = options.params.split_4d
    if split_4d == "mean":
        dicom_phases.check_same_places(phases)
        together = [frame for phase in phases for frame in phase]
        return [(together, _case(phases[0], normal, "mean", options, phases))]
    numbers = phases_taken(len(phases), split_4d)
    return [(phases[i], _case(phases[i], normal, str(i), options)) for i in numbers]


def _check_agreement(frames: list[Frame]) -> None:
    first = frames[0]
    fields = MUST_AGREE | (INVERTED if first.header.inverted else {})
    for field, reason in fields.items():
        for frame in frames:
            one, other = getattr(first.header, field), getattr(frame.header, field)
            if one != other:
                values = "another one" if field in HASHED else f"{other}, not {one}"
                raise Rejected(reason, f"{field} of {frame.path} is {values} as in {first.path}")
    placed = {f.header.frame_of_reference: f for f in frames if f.header.frame_of_reference}
    if len(placed) > 1:  # one that lacks it is in that of its series
        one, other, *_ = (frame.path for frame in placed.values())
        raise Rejected("mixed_frames_of_reference", f"frame_of_reference of {other} is another one as in {one}")
    if first.header.samples != 1 or first.header.in_colour:
        raise Rejected("unsupported_colours", "a volume in colour")


def _case(
    ordered: list[Frame], normal: np.ndarray, phase: str | None, options: Options, averaged: Sequence[list[Frame]] = ()
) -> Case:
    """Args:
    phase: Its number or "mean", None where there is one alone.
    averaged: All phases, where the case is their mean.
    """
    stacking = dicom_geometry.check_stacking(ordered, normal, options)
    header, place = max((frame.header for frame in ordered), key=lambda h: h.bits_stored), ordered[0].place
    depth, (height, width) = len(stacking.grid.mixes), stacking.grid.size
    check_voxels(header, depth, options, (height, width))
    slices = [f.place for frames in averaged or [ordered] for f in frames]
    rescale = dicom_pixels.rescaling(header, slices, options.params.intensity)
    frames = [frame for frames_of_phase in averaged for frame in frames_of_phase] or ordered
    files = list({f.path: f.file for f in frames}.values())
    position = {file.path: i for i, file in enumerate(files)}
    grid = stacking.grid if stacking.resampled else None
    places = ((position[f.path], f.number) for f in frames)
    recipe = Recipe.plain(rescale.dtype, places, grid=grid, averaged=len(averaged))
    noted = {"burned_in": any(f.header.burned_in for f in ordered), "resampled": bool(stacking.resampled)}
    return Case(
        case=options.identify("volume", f"{header.series} {phase}"),
        patient=header.patient,
        files=tuple(files),
        dtype=rescale.dtype,
        shape=(1, depth, height, width),
        spacing_mm=(stacking.grid.step_mm, *(place.spacing or ())),
        units=rescale.units,
        series=header.series,
        recipe=recipe,
        attributes=(
            *header.attributes(),
            *dicom_geometry.axes_attributes(place, stacking),
            ("resampled", stacking.resampled),
            ("phase", phase or ""),
        ),
        noted=tuple(what for what, is_so in noted.items() if is_so),
    )
