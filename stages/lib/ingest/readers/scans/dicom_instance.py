"""What is one DICOM file's own: where its pixels lie, and the position and scale of each of its frames."""

import math
from typing import Any, NamedTuple

import xxhash
from pydicom.dataset import Dataset
from pydicom.uid import UID

from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.ingest.readers.scans.dicom_header import Header, check_params, rescale_type, thickness_text
from stages.lib.ingest.readers.scans.dicom_tags import PHASE_KEYWORDS, TAG_OF, lenient, numbers, text, values
from stages.lib.ingest.readers.scans.dicom_tags import number as number_of

PHASE_TAGS = frozenset(TAG_OF[keyword] for keyword in PHASE_KEYWORDS)
# Groups that place a frame or scale it: of several nobody knows which holds.
ONE_ITEM = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)
PIXEL_DATA_LITTLE, PIXEL_DATA_BIG = b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"  # tag (7FE0,0010) in either byte order


class Slice(NamedTuple):
    """One frame's place and scale; None where the file does not give it."""

    position: tuple[float, ...] | None  # (3,) mm, of the first pixel's centre, in the patient's coordinates
    orientation: tuple[float, ...] | None  # (6,) directions of a row and of a column
    spacing: tuple[float, ...] | None  # (2,) mm, along H and W
    slope: float | None
    intercept: float | None
    phase: tuple[float | None, ...]  # the values of PHASE_KEYWORDS; None where missing


class Instance(NamedTuple):
    """What is a file's own."""

    sop: str  # hashed SOPInstanceUID
    pixel_start: int  # byte of the first pixel in the file; -1 where they are compressed
    pixels: str  # digest of the stored pixels
    frames: int
    number: float | None  # InstanceNumber
    slices: tuple[Slice, ...]

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> "Instance":
        sop, pixel_start, pixels, frames, number, slices = plain
        return cls(sop, pixel_start, pixels, frames, number, tuple(Slice(*one) for one in slices))


class _PixelElement(NamedTuple):
    start: int  # byte of its value in the file
    length: int  # bytes


def check_has_pixels(content: bytes, end: int, little_endian: bool) -> None:
    """Raises:
    Rejected: No pixels follow the header, which ends at byte `end`.
    """
    if content[end : end + 4] != (PIXEL_DATA_LITTLE if little_endian else PIXEL_DATA_BIG):
        cut = end >= len(content)
        raise Rejected("no_pixels", "the file ends before its pixels" if cut else "no PixelData (7FE0,0010)")


def read_instance(
    content: bytes, dataset: Dataset, end: int, header: Header, options: Options
) -> tuple[Header, Instance]:
    """What is a parsed file's own; and its header with what functional groups say of all frames.

    Args:
        end: Byte at which the element of the pixels starts, -1 in a deflated file.

    Raises:
        Rejected: The file is damaged, or the params do not allow it.
    """
    frames = int(number_of(dataset, "NumberOfFrames", 0)) or 1
    if frames < 1:
        raise Rejected("malformed", f"NumberOfFrames is {frames}")
    element = _pixel_element(content, end, dataset.file_meta.TransferSyntaxUID, header)
    if element:
        _check_length(element, header, frames, len(content))
    check_params(header, frames, options)
    digest = xxhash.xxh3_128_hexdigest(memoryview(content)[max(end, 0) :])
    groups = _frame_groups(dataset, frames)
    if groups and dataset.get("ConcatenationUID") and number_of(dataset, "InConcatenationTotalNumber", 0) != 1:
        raise Rejected("concatenation", "one part of several (ConcatenationUID): put them together first")
    slices = tuple(_slice(pair, ("PixelSpacing",)) for pair in groups or ())
    if groups is None:
        slices = (_slice([dataset], ("PixelSpacing", "ImagerPixelSpacing")),)
    else:
        header = _of_groups(header, groups, options.key)
    uid = text(dataset, "SOPInstanceUID") or xxhash.xxh3_128_hexdigest(content)
    if options.params.instance_uids == "ignore":
        uid = xxhash.xxh3_128_hexdigest(f"{digest} {slices}".encode())
    start = element.start if element else -1
    number = _finite([dataset], "InstanceNumber")
    return header, Instance(options.identify("instance", uid), start, digest, frames, number, slices)


def _pixel_element(content: bytes, at: int, syntax: UID, header: Header) -> _PixelElement | None:
    """Where uncompressed pixels lie; None where pydicom has to decode them."""
    if at < 0 or syntax.is_compressed:
        return None
    if not header.little_endian and header.bits_allocated == 8:  # bytes swapped in pairs, which pydicom undoes
        return None
    start = at + (8 if syntax.is_implicit_VR else 12)  # its length is in the 4 bytes before
    return _PixelElement(start, int.from_bytes(content[start - 4 : start], "little" if header.little_endian else "big"))


def _check_length(element: _PixelElement, header: Header, frames: int, file_bytes: int) -> None:
    samples = 2 if header.photometric == "YBR_FULL_422" else header.samples
    needed = header.rows * header.columns * samples * (header.bits_allocated // 8) * frames
    if file_bytes - element.start < needed:
        raise Rejected("truncated", f"{file_bytes - element.start} bytes of pixels, expected {needed}")
    if element.length < needed:
        raise Rejected("truncated", f"PixelData holds {element.length} bytes, expected {needed}")
    if element.length >= needed + needed // frames:
        raise Rejected("malformed", f"PixelData holds {element.length} bytes, and {frames} frames need {needed}")


def _frame_groups(dataset: Dataset, frames: int) -> list[list[Dataset]] | None:
    """The functional groups of each frame, its own before the shared ones; of one alone where frames have none of their
    own, however many there are. None in an object without such groups.

    Raises:
        Rejected: They are not as many as the frames, or one says a thing twice.
    """
    shared = _item(dataset.get("SharedFunctionalGroupsSequence"), 0)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if shared is None and per_frame is None:
        return None
    if per_frame is None:
        frames = 1  # however many there are, they have no places of their own
    elif len(per_frame) != frames:
        raise Rejected("malformed", f"{len(per_frame)} functional groups for {frames} frames")
    groups = [[g for g in (_item(per_frame, i), shared) if g is not None] for i in range(frames)]
    return [[_flat(group) for group in pair] for pair in groups]


def _of_groups(header: Header, groups: list[list[Dataset]], key: bytes) -> Header:
    """The header with what functional groups say of all frames.

    Raises:
        Rejected: They say several things that a volume must have in common.
    """
    first = [[group for group in pair if "RescaleType" in group][:1] for pair in groups]
    types = {rescale_type(group, key) for found in first for group in found}
    if len(types | {header.rescale_type} - {""}) > 1:
        raise Rejected("mixed_pixels", "RescaleType differs between frames")
    localizers = [any("LOCALIZER" in values(group.get("FrameType")) for group in pair) for pair in groups]
    if any(localizers) and not all(localizers):
        raise Rejected("mixed_kinds", f"{sum(localizers)} of {len(groups)} frames are localizers")
    thickness = {text for pair in groups for group in pair if (text := thickness_text(group))}
    return header._replace(
        rescale_type=next(iter(types), header.rescale_type),
        localizer=header.localizer or any(localizers),
        slice_thickness=header.slice_thickness or (thickness.pop() if len(thickness) == 1 else ""),
    )


def _slice(sources: list[Dataset], spacing_keywords: tuple[str, ...]) -> Slice:
    """A slice from the first of the data sets that has the element asked for."""

    def first_of(keyword: str, count: int) -> tuple[float, ...] | None:
        candidates = (numbers(source, keyword) for source in sources)
        return next((found for found in candidates if len(found) == count), None)

    spacings = (first_of(keyword, 2) for keyword in spacing_keywords)
    slope, intercept = first_of("RescaleSlope", 1), first_of("RescaleIntercept", 1)
    return Slice(
        position=first_of("ImagePositionPatient", 3),
        orientation=first_of("ImageOrientationPatient", 6),
        spacing=next((spacing for spacing in spacings if spacing), None),
        slope=slope[0] if slope else None,
        intercept=intercept[0] if intercept else None,
        phase=_phase(sources),
    )


def _phase(sources: list[Dataset]) -> tuple[float | None, ...]:
    held = {tag for source in sources for tag in PHASE_TAGS.intersection(source.keys())}  # most often few of them
    return tuple(_phase_value(sources, keyword) if TAG_OF[keyword] in held else None for keyword in PHASE_KEYWORDS)


def _phase_value(sources: list[Dataset], keyword: str) -> float | None:
    """An element's number; of three, one that no other three of as many digits give."""
    found = next((given for source in sources if (given := lenient(source, keyword))), ())
    if not found or not all(map(math.isfinite, found)):
        return None
    return sum(round(value, 4) * 1000.0**i for i, value in enumerate(found[:3]))


def _finite(sources: list[Dataset], keyword: str) -> float | None:
    found = next((value for source in sources for value in lenient(source, keyword)), None)
    return found if found is not None and math.isfinite(found) else None


def _flat(group: Dataset) -> Dataset:
    """The elements of a functional group's sequences, without the sequences."""
    flat = Dataset()
    for element in group:
        if element.VR == "SQ" and len(element.value):
            if len(element.value) > 1 and element.keyword in ONE_ITEM:
                raise Rejected("malformed", f"{element.keyword} has {len(element.value)} items")
            flat.update(element.value[0])
    return flat


def _item(sequence: Any, i: int) -> Dataset | None:
    return sequence[i] if sequence is not None and len(sequence) > i else None
