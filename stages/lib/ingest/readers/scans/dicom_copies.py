"""The same instance or slice more than once: resent, in another transfer syntax, or as a frame of a multi-frame object.

Which file is kept is decided here, by the header; that the others show the same is checked when pixels are decoded.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
from pydicom.uid import UID

from stages.lib.ingest.readers.contract import Inspected, Refusal, Rejected
from stages.lib.ingest.readers.scans.dicom_geometry import Frame
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.readers.scans.dicom_instance import Instance

LOSSY_PARTS = ("Baseline", "Process 2", "Extended", "Near-Lossless", "Lossy")  # of names of transfer syntaxes
PERHAPS_LOSSY = ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.93", "1.2.840.10008.1.2.4.203")  # JPEG 2000, HTJ2K
LOSSY_DECIBELS = 30  # the least ratio of peak to error that lossy compression of pictures is thought fit for
SAME_MM = 1e-3  # positions are decimal strings of at most 16 characters, and converters round them


class Twin(NamedTuple):
    """A frame of another file that shows what a frame of a case shows."""

    place: int  # of the frame, among those of the case
    file: Inspected
    frame: int


def without_copies(files: Iterable[Inspected]) -> tuple[list[Inspected], list[Refusal], dict[str, list[Inspected]]]:
    """One file of each instance, that with the least loss; the others as ignored; and those to compare, by instance.

    Copies of the same bytes of pixels in the same transfer syntax need no comparison.

    Raises:
        Rejected: An instance is there twice with different sizes or places, or other pixels in one transfer syntax.
    """
    by_instance: dict[str, list[Inspected]] = defaultdict(list)
    for file in files:
        by_instance[Instance.from_plain(file.own).sop].append(file)
    kept, refused, twins = [], [], {}
    for sop, same in by_instance.items():
        best, *others = sorted(same, key=_loss_of) if len(same) > 1 else same
        kept.append(best)
        compared = [other for other in others if _needs_comparison(best, other)]
        if compared:
            twins[sop] = compared
        detail = f"a copy of {best.path}"
        refused += [Refusal((o.path,), "same_instance", detail, True, copy_of=best.path) for o in others]
    return kept, refused, twins


def _needs_comparison(best: Inspected, other: Inspected) -> bool:
    headers, instances = [], []
    for file in (best, other):
        headers.append(Header(*file.common))
        instances.append(Instance.from_plain(file.own))
    sizes = [(h.rows, h.columns, h.in_colour, i.frames, i.slices) for h, i in zip(headers, instances, strict=True)]
    one_syntax = headers[0].syntax == headers[1].syntax
    if sizes[0] != sizes[1] or (one_syntax and instances[0].pixels != instances[1].pixels):
        differ = f"{other.path} has the SOPInstanceUID of {best.path}, but differs"
        raise Rejected("instance_twice", f"{differ}; of blanked UIDs ingest.instance_uids can be ignore")
    return not one_syntax


def _loss_of(file: Inspected) -> tuple[int, bool, str]:
    """By which of several copies of an instance the one to keep is chosen: the least is."""
    syntax = Header(*file.common).syntax
    return loss(syntax), UID(syntax).is_compressed or UID(syntax).is_deflated, file.path


def loss(syntax: str) -> int:
    """0 where a transfer syntax loses nothing, 2 where it does, 1 where it may."""
    if syntax in PERHAPS_LOSSY:
        return 1
    return 2 if any(part in UID(syntax).name for part in LOSSY_PARTS) else 0


def without_frames_of_others(frames: Sequence[Frame]) -> tuple[list[Frame], list[Refusal], dict[int, Frame]]:
    """The slices of a series, without those that the frames of a multi-frame object in it show again.

    Returns:
        The slices; the objects, as ignored; and the frame to compare each slice with, by the slice's id(). Where it is
        not certain that each frame is one slice's, nothing is left out.
    """
    single = [frame for frame in frames if frame.instance.frames == 1]
    several = [frame for frame in frames if frame.instance.frames > 1]
    if not several or len(single) != len(several):
        return list(frames), [], {}
    twins: dict[int, Frame] = {}
    ordered = [sorted(some, key=_position) for some in (single, several)]
    for one, other in zip(*ordered, strict=True):
        if not _is_at_one_place(one, other):
            return list(frames), [], {}
        twins[id(one)] = other
    if any(_is_at_one_place(a, b) for a, b in zip(ordered[0], ordered[0][1:], strict=False)):
        return list(frames), [], {}  # phases: which frame is which is a guess
    paths = sorted({frame.path for frame in several})
    detail = f"shows the slices of {single[0].path} and others"
    return single, [Refusal((path,), "same_instance", detail, True, copy_of=single[0].path) for path in paths], twins


def _position(frame: Frame) -> tuple[float, ...]:
    return tuple(round(mm, 2) for mm in reversed(frame.place.position or ()))


def _is_at_one_place(one: Frame, other: Frame) -> bool:
    pairs = [(getattr(one.place, name), getattr(other.place, name)) for name in ("position", "orientation", "spacing")]
    return all(a and b and np.allclose(a, b, rtol=0, atol=SAME_MM) for a, b in pairs)


def check_same(pixels: np.ndarray, others: np.ndarray, syntaxes: Sequence[str], paths: Sequence[str]) -> None:
    """Args:
        pixels, others: What two files show.
        syntaxes, paths: Of both.

    Raises:
        Rejected: They differ; by more than lossy compression may make them, where one of them was so compressed.
    """
    if np.array_equal(pixels, others):
        return
    if pixels.shape == others.shape and max(map(loss, syntaxes)) > 0:
        peak = float(pixels.max()) - float(pixels.min())
        error = math.sqrt(float(np.square(pixels.astype(np.float64) - others).mean()))
        if peak >= error * 10 ** (LOSSY_DECIBELS / 20):
            return
    raise Rejected("instance_twice", f"{paths[1]} is a copy of {paths[0]} by its header, but its pixels differ")


def plain(twins: Iterable[Twin]) -> tuple[tuple[object, ...], ...]:
    """As a recipe wants them: plain tuples."""
    return tuple((twin.place, tuple(twin.file), twin.frame) for twin in twins)


def from_plain(given: Iterable[tuple[int, tuple, int]], places: Set[int]) -> list[Twin]:
    """Those of some places, in the order of their files."""
    twins = [Twin(place, Inspected(*file), frame) for place, file, frame in given if place in places]
    return sorted(twins, key=lambda twin: (twin.file.path, twin.frame))


def of_frames(
    frames: Sequence[Frame], by_instance: Mapping[str, list[Inspected]], by_frame: Mapping[int, Frame]
) -> list[Twin]:
    """What the frames of a case are to be compared with."""
    twins = []
    for i, frame in enumerate(frames):
        twins += [Twin(i, file, frame.number) for file in by_instance.get(frame.instance.sop, ())]
        if other := by_frame.get(id(frame)):
            twins.append(Twin(i, other.file, other.number))
            twins += [Twin(i, file, other.number) for file in by_instance.get(other.instance.sop, ())]
    return twins
