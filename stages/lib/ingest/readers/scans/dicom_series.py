"""From the files of a DICOM series to its volumes: copies and localizers set apart, phases split, faults refused."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

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
    where_raised,
)
from stages.lib.ingest.readers.scans import dicom_burned_in, dicom_copies, dicom_geometry, dicom_pixels
from stages.lib.ingest.readers.scans.dicom_geometry import Frame
from stages.lib.ingest.readers.scans.dicom_header import Header, check_voxels
from stages.lib.ingest.readers.scans.dicom_instance import Instance
from stages.lib.ingest.readers.scans.dicom_pixels import Recipe
from stages.lib.ingest.readers.scans.dicom_tags import PHASE_KEYWORDS

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

    def __init__(self, unread: list[Refusal]) -> None:
        self._by_series: dict[str, Refusal] = {}
        self._by_place: dict[companions.Place, Refusal] = {}
        for refusal in unread:
            if refusal.series and not refusal.ignored:
                self._by_series[refusal.series] = refusal
            elif not refusal.ignored:
                folder, ending = companions.place(refusal.paths[0])
                self._by_place[folder, ANY_ENDING if refusal.reason in DAMAGED else ending] = refusal

    def check_none_of(self, files: list[Inspected]) -> None:
        """Raises:
        Rejected: An unread file names this series in its header, or lies beside it and may belong to it.
        """
        found = self._by_series.get(Header(*files[0].common).series)
        for folder, ending in sorted(companions.of_slices(file.path for file in files)):
            found = found or self._by_place.get((folder, ANY_ENDING)) or self._by_place.get((folder, ending))
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
            for frames_of_case, case in _volumes(frames, options):
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
        if len(across) * 5 <= count:
            rest = [f for f in rest if f not in across]
    kept = {id(f) for f in rest}
    return rest, [f for f in frames if id(f) not in kept]


def _rounded(orientation: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 3) + 0.0 for value in orientation)


def _degrees_to(normal: np.ndarray, frame: Frame) -> float:
    return dicom_geometry.angle(normal, dicom_geometry.normal_of(frame.place.orientation))


def _volumes(frames: list[Frame], options: Options) -> list[tuple[list[Frame], Case]]:
    """The volumes of a series, each with its slices in order."""
    _check_agreement(frames)
    dicom_geometry.check_complete(frames)
    normal = dicom_geometry.check_orientation(frames, options)
    ordered = dicom_geometry.in_order(frames, normal)
    if len(ordered) == 1:
        raise Rejected("single_slice", f"{ordered[0].path}: a single slice has no spacing; ingest.kind can be images")
    phases = _phases(ordered, normal, options)
    return [(phase, _case(phase, normal, i if len(phases) > 1 else None, options)) for i, phase in enumerate(phases)]


def _check_agreement(frames: list[Frame]) -> None:
    first = frames[0]
    fields = MUST_AGREE | (INVERTED if first.header.photometric == "MONOCHROME1" else {})
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


def _phases(ordered: list[Frame], normal: np.ndarray, options: Options) -> list[list[Frame]]:
    """The slices of one volume, or under split_4d of one volume per phase.

    Raises:
        Rejected: Several slices are at one place, and splitting isn't asked for or can't be done.
    """
    pair = dicom_geometry.find_pair_at_one_place(ordered, normal)
    if pair is None:
        return [ordered]
    place = f"{pair[0].path} and {pair[1].path} are at one place"
    if not options.params.split_4d:
        raise Rejected("several_at_a_place", f"{place} with different pixels: 4D? ingest.split_4d can split it")
    for keys in (*combinations(range(len(PHASE_KEYWORDS)), 1), *combinations(range(len(PHASE_KEYWORDS)), 2)):
        if volumes := _by_phase(ordered, normal, keys):
            return volumes
    if volumes_by_number := _by_instance_number(ordered, normal):
        return volumes_by_number
    keywords = ", ".join((*PHASE_KEYWORDS, "InstanceNumber"))
    raise Rejected("several_at_a_place", f"{place}, and none of {keywords} splits the series into volumes")


def _by_phase(ordered: list[Frame], normal: np.ndarray, keys: Sequence[int]) -> list[list[Frame]]:
    """The volumes that some of PHASE_KEYWORDS tell apart together; none where they do not."""
    found: dict[tuple[tuple[bool, float], ...], list[Frame]] = defaultdict(list)
    for frame in ordered:
        values = (frame.place.phase[i] for i in keys)
        found[tuple((value is None, value or 0.0) for value in values)].append(frame)
    volumes = [found[phase] for phase in sorted(found)]
    sizes = {len(volume) for volume in volumes}
    if len(volumes) < 2 or len(sizes) > 1 or sizes == {1}:  # a single slice is no volume
        return []
    return volumes if all(_has_own_places(volume, normal) for volume in volumes) else []


def _by_instance_number(ordered: list[Frame], normal: np.ndarray) -> list[list[Frame]]:
    """The volumes of a series whose instances are told apart by their numbers alone; none where that is a guess.

    It is none where each place has as many instances, and the numbers go through one volume after the other, or
    through all instances of one place after the other. Then the n-th instance of each place belongs to the n-th volume.
    """
    places = dicom_geometry.places(ordered, normal)
    numbers = [(frame.instance.number, frame.number) for frame in ordered]
    if len({len(place) for place in places}) > 1 or len(set(numbers)) < len(numbers) or None in dict(numbers):
        return []
    ranked = [sorted(place, key=lambda frame: (frame.instance.number or 0, frame.number)) for place in places]
    volumes = [list(volume) for volume in zip(*ranked, strict=True)]
    if len(places) < 2 or not any(_follow_each_other(groups) for groups in (volumes, ranked)):
        return []
    return volumes


def _follow_each_other(groups: list[list[Frame]]) -> bool:
    """Whether the numbers of each group are all below those of the next one."""
    ranges = sorted(
        (min(numbers), max(numbers))
        for numbers in ([(frame.instance.number or 0, frame.number) for frame in group] for group in groups)
    )
    return all(one[1] < other[0] for one, other in zip(ranges, ranges[1:], strict=False))


def _has_own_places(ordered: list[Frame], normal: np.ndarray) -> bool:
    return dicom_geometry.find_pair_at_one_place(ordered, normal) is None


def _case(ordered: list[Frame], normal: np.ndarray, phase: int | None, options: Options) -> Case:
    stacking = dicom_geometry.check_stacking(ordered, normal, options)
    header, place = max((frame.header for frame in ordered), key=lambda h: h.bits_stored), ordered[0].place
    depth, (height, width) = len(stacking.grid.mixes), stacking.grid.size
    check_voxels(header, depth, options, (height, width))
    rescale = dicom_pixels.rescaling(header, [f.place for f in ordered])
    files = list({f.path: f.file for f in ordered}.values())
    position = {file.path: i for i, file in enumerate(files)}
    recipe = Recipe.plain(rescale.dtype, ((position[f.path], f.number) for f in ordered))
    if stacking.resampled:
        recipe = dicom_pixels.on_grid(recipe, stacking.grid)
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
        ),
        noted=tuple(what for what, is_so in noted.items() if is_so),
    )
