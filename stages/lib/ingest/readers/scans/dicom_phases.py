"""Series of several volumes: time points, echoes, b-values, cardiac phases; told apart where that is no guess."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from stages.lib.ingest.readers.contract import Case, Options, Refusal, Rejected
from stages.lib.ingest.readers.scans import dicom_geometry
from stages.lib.ingest.readers.scans.dicom_geometry import Frame
from stages.lib.ingest.readers.scans.dicom_tags import PHASE_KEYWORDS

SAME_MM = 1e-3  # positions of two phases


def split(ordered: list[Frame], normal: np.ndarray, options: Options) -> list[list[Frame]]:
    """The slices of one volume, or under split_4d of one volume per phase.

    Raises:
        Rejected: Several slices are at one place, and splitting isn't asked for or can't be done.
    """
    pair = dicom_geometry.find_pair_at_one_place(ordered, normal)
    if pair is None:
        return [ordered]
    place = f"{pair[0].path} and {pair[1].path} are at one place"
    if options.params.split_4d is False:
        detail = "with different pixels: phases, echoes? ingest.split_4d can be all, first, mean or the number of one"
        raise Rejected("several_at_a_place", f"{place} {detail}")
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
    # Each has a slice at each place: else they are parts of a volume, as slabs or every second slice.
    same_places = len(dicom_geometry.places(ordered, normal)) in sizes
    return volumes if same_places and all(_has_own_places(volume, normal) for volume in volumes) else []


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


def check_same_places(phases: Sequence[Sequence[Frame]]) -> None:
    """Raises:
    Rejected: Phases that are to be averaged do not lie at the same places.
    """
    first = np.array([frame.place.position for frame in phases[0]])
    for phase in phases[1:]:
        apart = np.abs(np.array([frame.place.position for frame in phase]) - first).max()
        if apart > SAME_MM:
            detail = f"phases to be averaged lie {apart:.3g} mm apart ({phases[0][0].path}, {phase[0].path})"
            raise Rejected("several_at_a_place", detail)


def left_out(frames: Sequence[Frame], cases: Sequence[Case], options: Options) -> list[Refusal]:
    """The files that are in none of the cases: of other phases, or slices that are equal to others."""
    taken = {file.path for case in cases for file in case.files}
    paths = sorted({frame.path for frame in frames} - taken)
    is_split = any(value for case in cases for name, value in case.attributes if name == "phase")
    is_of_phases = is_split and options.params.split_4d not in (True, "all", "mean")
    reason = "other_phase" if is_of_phases else "same_instance"
    detail = "another phase than ingest.split_4d asks for" if is_of_phases else "equal to another slice at its place"
    return [Refusal((path,), reason, detail, ignored=True) for path in paths]
