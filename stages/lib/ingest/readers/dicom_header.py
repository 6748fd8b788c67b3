"""The tags of a DICOM file that ingest wants to know; what names anybody is hashed here and goes no further."""

import io
from typing import Any, NamedTuple

import pydicom
import xxhash
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from stages.lib.ingest.readers import dicom_walk
from stages.lib.ingest.readers.contract import Ignored, Options, Rejected

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # it warns with the values, which may be names

PIXEL_DATA = {"little": b"\xe0\x7f\x10\x00", "big": b"\x7f\xe0\x00\x10"}
# What tells phases at one place apart, the first that does; an echo time is no name of anybody.
PHASES = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "EchoNumbers",
    "EchoTime",
    "TriggerTime",
    "DiffusionBValue",
)


# All that is asked for here: the rest of a header, its sequences above all, is skipped, which takes half the time.
ALIKE = (  # in the slices of a series, as a rule
    *("SpecificCharacterSet", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "IssuerOfPatientID", "Modality", "Manufacturer", "BodyPartExamined", "ImageType", "KVP", "Rows"),
    *("Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleType", "GantryDetectorTilt"),
    *("ModalityLUTSequence", "BurnedInAnnotation", "RedPaletteColorLookupTableDescriptor"),
)
OWN = (
    *("SOPInstanceUID", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "DirectoryRecordSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelSpacing", "ImagerPixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", *PHASES),
)
TAGS_ALIKE = [Tag(keyword) for keyword in ALIKE]
TAGS = TAGS_ALIKE + [Tag(keyword) for keyword in OWN]
WANTED = frozenset(map(int, TAGS))
FEW = 1000  # headers


class Header(NamedTuple):
    """What the files of a series have alike."""

    sop_class: str
    modality: str
    syntax: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    little_endian: bool
    padding: tuple[int, int] | None  # the stored values, first to last, that stand for no measurement
    rescale_type: str
    tilt: float  # degrees, GantryDetectorTilt
    localizer: bool
    mosaic: bool
    lookup_table: bool
    burned_in: bool
    palette_bits: int
    patient: str | None  # hashed, as are the next two
    series: str
    frame_of_reference: str
    manufacturer: str
    body_part: str
    image_type: str
    kvp: str

    @property
    def in_colour(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    def attributes(self) -> tuple[tuple[str, str], ...]:
        """The columns of cases.csv that DICOM adds: an allow-list, none of it about a person."""
        return (
            ("modality", self.modality),
            ("manufacturer", self.manufacturer),
            ("body_part", self.body_part),
            ("image_type", self.image_type),
            ("kvp", self.kvp),
        )


class Slice(NamedTuple):
    """One frame's place and scale; None where the file does not say."""

    position: tuple[float, ...] | None  # (3,) mm, of the first pixel's centre, in the patient's system
    orientation: tuple[float, ...] | None  # (6,) directions of a row and of a column
    spacing: tuple[float, ...] | None  # (2,) mm, along H and W
    slope: float | None
    intercept: float | None
    phase: tuple[str, ...]


class Instance(NamedTuple):
    """What is a file's own."""

    sop: str  # hashed
    pixel_start: int  # byte of the first pixel in the file; -1 where they are compressed
    pixels: str  # digest of the stored pixels
    frames: int
    slices: tuple[Slice, ...]

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> "Instance":
        return cls(plain[0], plain[1], plain[2], plain[3], tuple(Slice(*one) for one in plain[4]))


def read_header(content: bytes, options: Options) -> tuple[Header, Instance]:
    """Reads a file's tags.

    Raises:
        Rejected: The file is damaged, or lacks what a picture must have.
        Ignored: It is a sound DICOM object without a picture.
    """
    dataset, end = parse(content)
    try:
        _check_is_image(dataset)
        return _read_header(content, dataset, end, options)
    except Rejected as error:
        if uid := str(dataset.get("SeriesInstanceUID") or ""):
            error.series = options.identify("series", uid)
        raise


def _read_header(content: bytes, dataset: Dataset, end: int, options: Options) -> tuple[Header, Instance]:
    syntax = dataset.file_meta.TransferSyntaxUID
    little = syntax.is_little_endian
    if end >= 0:
        _check_has_pixels(content, end, little)
    header = _header_alike(dataset, syntax, little, options)
    start, length = _pixel_element(content, end, syntax, little, header.bits_allocated)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames < 1:
        raise Rejected("malformed", f"NumberOfFrames is {frames}")
    _check_length(header, frames, start, length, len(content))
    _check_params(header, options)
    digest = xxhash.xxh3_128_hexdigest(memoryview(content)[max(end, 0) :])
    sop = options.identify("instance", str(dataset.get("SOPInstanceUID") or xxhash.xxh3_128_hexdigest(content)))
    return header, Instance(sop, start, digest, frames, _slices(dataset, frames))


def parse(content: bytes, pixels: bool = False) -> tuple[Dataset, int]:
    """The data set, up to its pixels unless they are wanted, and where these start.

    A file without preamble or meta header is tried, with the transfer syntax that it looks like.
    """
    stream = io.BytesIO(content)
    if content[:4] == b"DICM":  # the preamble alone is missing
        stream = io.BytesIO(bytes(128) + content)
    try:
        if not pixels and (walked := dicom_walk.read(content, WANTED)) is not None:
            return walked
        dataset = pydicom.dcmread(
            stream, stop_before_pixels=not pixels, force=True, specific_tags=None if pixels else TAGS
        )
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise Rejected("malformed", f"{type(error).__name__}: {error}") from None
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = guessed
    at = stream.tell() - (128 if content[:4] == b"DICM" else 0)
    deflated = dataset.file_meta.TransferSyntaxUID.is_deflated if _is_known(dataset) else False
    return dataset, -1 if deflated else at


def _is_known(dataset: Dataset) -> bool:
    syntax = dataset.file_meta.TransferSyntaxUID
    return syntax.is_transfer_syntax and not syntax.is_private


def _check_is_image(dataset: Dataset) -> None:
    sop_class = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    if "DirectoryRecordSequence" in dataset:
        raise Ignored("Media Storage Directory Storage", "a DICOMDIR")
    if not sop_class:
        raise Rejected("malformed", "no SOPClassUID: no DICOM file, or a damaged one")
    known = not sop_class.is_private and sop_class.name != str(sop_class)
    name = sop_class.name if known else "unknown SOP class"
    if not known and "Rows" in dataset:  # a picture of a kind to come, or a slice with a damaged UID
        raise Rejected("unknown_sop_class", str(sop_class))
    if "Image Storage" not in name or name.startswith("RT"):
        raise Ignored(name, str(sop_class))
    if not _is_known(dataset):
        raise Rejected("unknown_transfer_syntax", str(dataset.file_meta.TransferSyntaxUID))


def _check_has_pixels(content: bytes, at: int, little: bool) -> None:
    if content[at : at + 4] != PIXEL_DATA["little" if little else "big"]:
        ends = at >= len(content)
        raise Rejected("no_pixels", "the file ends before its pixels" if ends else "no PixelData (7FE0,0010)")


def _pixel_element(content: bytes, at: int, syntax: UID, little: bool, bits_allocated: int) -> tuple[int, int]:
    """The first byte of uncompressed pixels and their number; (-1, -1) where pydicom has to bring them."""
    if at < 0:
        return -1, -1
    if syntax.is_compressed or (not little and bits_allocated == 8):  # bytes swapped in pairs: pydicom knows
        return -1, -1
    order = "little" if little else "big"
    if syntax.is_implicit_VR:
        return at + 8, int.from_bytes(content[at + 4 : at + 8], order)  # type: ignore[arg-type]
    return at + 12, int.from_bytes(content[at + 8 : at + 12], order)  # type: ignore[arg-type]


def _check_params(header: Header, options: Options) -> None:
    if header.rows * header.columns > options.params.max_pixels:
        size = f"{header.columns}x{header.rows}"
        raise Rejected("too_large", f"{size} pixels; ingest.max_pixels is {options.params.max_pixels}")
    if header.burned_in and options.params.burned_in == "reject":
        raise Rejected("burned_in_annotation", "BurnedInAnnotation is YES")


def _check_length(header: Header, frames: int, start: int, length: int, size: int) -> None:
    if start < 0:
        return  # compressed: the decoder finds out
    samples = 2 if header.photometric == "YBR_FULL_422" else header.samples
    needed = header.rows * header.columns * samples * (header.bits_allocated // 8) * frames
    if size - start < needed:
        raise Rejected("truncated", f"{size - start} bytes of pixels, expected {needed}")
    if length < needed:
        raise Rejected("truncated", f"PixelData holds {length} bytes, expected {needed}")


_headers: dict[tuple[Any, ...], Header] = {}  # made a moment ago, by what they were made of


def _header_alike(d: Dataset, syntax: UID, little: bool, options: Options) -> Header:
    """As `_header`, which is asked once for slices that say the same: converting values takes most of the time."""
    items = [d.get_item(tag) for tag in TAGS_ALIKE if tag in d]
    of_a_series = "SeriesInstanceUID" in d  # else it is called by what is the file's own
    if not of_a_series or any(item.VR == "SQ" for item in items):
        return _header(d, syntax, little, options)
    values = tuple((item.tag, item.VR, item.value if item.is_raw else str(item.value)) for item in items)
    key = (options.key, syntax, little, values)
    if (header := _headers.get(key)) is None:
        header = _header(d, syntax, little, options)
        if len(_headers) >= FEW:
            _headers.clear()
        _headers[key] = header
    return header


def _header(d: Dataset, syntax: UID, little: bool, options: Options) -> Header:
    try:
        bits = int(d.BitsAllocated)
        stored = int(d.get("BitsStored") or bits)
        image_type = [str(part) for part in _values(d.get("ImageType"))]
        patient = str(d.get("PatientID") or "")
        issuer, study = str(d.get("IssuerOfPatientID") or ""), str(d.get("StudyInstanceUID") or "")
        header = Header(
            sop_class=str(d.get("SOPClassUID") or ""),
            modality=_word(d, "Modality"),
            syntax=str(syntax),
            rows=int(d.Rows),
            columns=int(d.Columns),
            samples=int(d.get("SamplesPerPixel") or 1),
            photometric=str(d.get("PhotometricInterpretation") or ""),
            bits_allocated=bits,
            bits_stored=stored,
            high_bit=int(d.get("HighBit", stored - 1)),
            signed=bool(int(d.get("PixelRepresentation") or 0)),
            little_endian=little,
            padding=_padding(d),
            rescale_type=str(d.get("RescaleType") or ""),
            tilt=float(d.get("GantryDetectorTilt") or 0),
            localizer="LOCALIZER" in image_type,
            mosaic="MOSAIC" in image_type,
            lookup_table="ModalityLUTSequence" in d,
            burned_in=str(d.get("BurnedInAnnotation") or "").strip().upper() == "YES",
            palette_bits=int(_values(d.get("RedPaletteColorLookupTableDescriptor"))[-1])
            if "RedPaletteColorLookupTableDescriptor" in d
            else 0,
            patient=options.identify("patient", f"{issuer}\0{patient}")
            if patient
            else options.identify("study", study)
            if study
            else None,
            series=options.identify("series", _series_of(d)),
            frame_of_reference=options.identify("frame of reference", str(d.get("FrameOfReferenceUID") or "")),
            manufacturer=_word(d, "Manufacturer"),
            body_part=_word(d, "BodyPartExamined"),
            image_type="\\".join(image_type[:3]),
            kvp=f"{float(d.KVP):g}" if d.get("KVP") else "",
        )
    except Rejected:
        raise
    except Exception as error:
        raise Rejected("malformed", f"{type(error).__name__}: {error}") from None
    _check_samples(header)
    return header


def _series_of(d: Dataset) -> str:
    return str(d.get("SeriesInstanceUID") or d.get("StudyInstanceUID") or d.get("SOPInstanceUID") or "")


def _check_samples(header: Header) -> None:
    if header.rows < 1 or header.columns < 1:
        raise Rejected("malformed", f"{header.rows} rows, {header.columns} columns")
    if header.bits_allocated not in (8, 16):
        raise Rejected("unsupported_depth", f"{header.bits_allocated} bits a pixel, expected 8 or 16")
    if not 1 <= header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        bits = f"{header.bits_stored} bits stored up to bit {header.high_bit} of {header.bits_allocated}"
        raise Rejected("malformed", bits)
    if header.samples not in (1, 3):
        raise Rejected("unsupported_colours", f"{header.samples} samples a pixel")
    grey = header.photometric in ("MONOCHROME1", "MONOCHROME2")
    if (header.samples == 1) != (grey or header.photometric == "PALETTE COLOR"):
        raise Rejected("unsupported_colours", f"{header.photometric or 'nothing'} with {header.samples} samples")


def _padding(d: Dataset) -> tuple[int, int] | None:
    if d.get("PixelPaddingValue") is None:
        return None
    first = int(d.PixelPaddingValue)
    last = int(d.get("PixelPaddingRangeLimit", first))
    return min(first, last), max(first, last)


def _slices(d: Dataset, frames: int) -> tuple[Slice, ...]:
    shared = _item(d.get("SharedFunctionalGroupsSequence"), 0)
    each = d.get("PerFrameFunctionalGroupsSequence")
    if shared is None and each is None:
        return (_slice([d], d),)
    if each is not None and len(each) < frames:
        raise Rejected("malformed", f"{len(each)} functional groups for {frames} frames")
    groups = [[g for g in (_item(each, i), shared) if g is not None] for i in range(frames)]
    return tuple(_slice([_flat(group) for group in pair], d) for pair in groups)


def _slice(sources: list[Dataset], whole: Dataset) -> Slice:
    def numbers(keyword: str, count: int) -> tuple[float, ...] | None:
        for source in sources:
            values = _numbers(source, keyword)
            if len(values) == count:
                return values
        return None

    try:
        single = len(sources) == 1 and sources[0] is whole
        spacing = numbers("PixelSpacing", 2) or (numbers("ImagerPixelSpacing", 2) if single else None)
        slope, intercept = numbers("RescaleSlope", 1), numbers("RescaleIntercept", 1)
        phase = tuple(next((str(v) for s in sources for v in _values(s.get(key))), "") for key in PHASES)
        return Slice(
            numbers("ImagePositionPatient", 3),
            numbers("ImageOrientationPatient", 6),
            spacing,
            slope[0] if slope else None,
            intercept[0] if intercept else None,
            phase,
        )
    except Exception as error:
        raise Rejected("malformed", f"{type(error).__name__}: {error}") from None


def _numbers(d: Dataset, keyword: str) -> tuple[float, ...]:
    """An element's values, () where it is missing or empty; of decimal strings from their bytes, which is quicker."""
    tag = Tag(keyword)
    if tag not in d:
        return ()
    element = d.get_item(tag)
    if element.is_raw and element.VR == "DS" and element.value:
        return tuple(float(part) for part in element.value.rstrip(b"\0 ").split(b"\\"))
    return tuple(float(value) for value in _values(d.get(keyword)))


def _flat(group: Dataset) -> Dataset:
    """The elements of a functional group's sequences, without the sequences."""
    flat = Dataset()
    for element in group:
        if element.VR == "SQ" and len(element.value):
            flat.update(element.value[0])
    return flat


def _item(sequence: Any, i: int) -> Dataset | None:
    return sequence[i] if sequence is not None and len(sequence) > i else None


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def _word(d: Dataset, keyword: str) -> str:
    return str(d.get(keyword) or "").strip()
