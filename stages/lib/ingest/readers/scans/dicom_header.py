"""What the files of a DICOM series have in common, and whether it describes a picture that can be read for certain.

Whatever names a patient or a series is hashed here and goes no further; of other text, dicom_terms lets known words
pass.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID, VLWholeSlideMicroscopyImageStorage

from stages.lib.ingest.identifiers import identify
from stages.lib.ingest.readers.contract import OTHER, Ignored, Options, Rejected, where_raised
from stages.lib.ingest.readers.scans import dicom_burned_in, dicom_terms
from stages.lib.ingest.readers.scans.dicom_tags import (
    SERIES_TAGS,
    VOLUMES,
    VOLUMETRIC,
    has_public_syntax,
    lenient_number,
    number,
    numbers,
    sop_class_name,
    text,
    values,
)

WHOLE_SLIDE = "tiles of one huge picture at several sizes: cut it into pictures first, as OpenSlide does"
MAX_CACHED_HEADERS = 256  # as many as a worker inspects files in one job


class Header(NamedTuple):
    """What the files of a series have in common, as a rule."""

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
    rescale_type: str  # hashed where it is none of the standard's
    tilt: float  # degrees, GantryDetectorTilt
    localizer: bool
    mosaic: int  # tiles along a side of a mosaic that was unpacked, -1 of one that was not, 0 of what is none
    lookup_table: bool
    burned_in: str  # why text may be burned into the pixels, "" if nothing says so
    palette_bits: int  # 0 without a palette
    patient: str | None  # hashed, as are the series, the study and the frame of reference
    series: str
    study: str
    series_number: str  # "" where it is not given
    frame_of_reference: str
    manufacturer: str
    body_part: str
    image_type: str
    kvp: str
    view: str
    laterality: str
    intent: str  # FOR PRESENTATION or FOR PROCESSING
    inverse: bool  # whether PresentationLUTShape is INVERSE
    slice_thickness: str  # mm, "" where it is not given
    places: int  # NumberOfSlices, which PET has, 0 where it is not given
    named: bool  # whether the file has a SeriesInstanceUID
    described: bool  # whether SeriesDescription is one that ingest.select asks for

    @property
    def is_volumetric(self) -> bool:
        """Whether its frames, or those of its series, may be slices of a volume."""
        return self.modality in VOLUMETRIC or self.sop_class in VOLUMES

    @property
    def inverted(self) -> bool:
        """Whether high values stand for dark."""
        return self.photometric == "MONOCHROME1" or self.inverse

    @property
    def in_colour(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    @property
    def pixel_bytes(self) -> int:
        """Of a frame that is not compressed."""
        return self.rows * self.columns * self.samples * (self.bits_allocated // 8)

    def attributes(self) -> tuple[tuple[str, str], ...]:
        """The columns of cases.csv that DICOM adds: an allow-list, none of it about a person."""
        return (
            ("modality", self.modality),
            ("manufacturer", self.manufacturer),
            ("body_part", self.body_part),
            ("image_type", self.image_type),
            ("kvp", self.kvp),
            ("sop_class", sop_class_name(self.sop_class)),
            ("slice_thickness", self.slice_thickness),
            ("view", self.view),
            ("laterality", self.laterality),
            ("intent", self.intent),
            ("bits_stored", str(self.bits_stored)),
        )


def check_is_image(dataset: Dataset) -> None:
    """Raises:
    Ignored: It is a sound DICOM object without a picture.
    Rejected: It may be a picture, but its SOP class or its transfer syntax is unknown.
    """
    sop_class = UID(text(dataset, "SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    if "DirectoryRecordSequence" in dataset:
        raise Ignored("Media Storage Directory Storage", "a DICOMDIR")
    if not sop_class:
        raise Rejected("malformed", "no SOPClassUID: no DICOM file, or a damaged one")
    public = not sop_class.is_private and sop_class.name != str(sop_class)
    name = sop_class.name if public else "unknown SOP class"
    if not public and "Rows" in dataset:  # a picture of a future SOP class, or a slice with a damaged UID
        raise Rejected("unknown_sop_class", "SOPClassUID is none of the DICOM dictionary")
    if "Image Storage" not in name or name.startswith("RT"):
        raise Ignored(name)
    if sop_class == VLWholeSlideMicroscopyImageStorage:
        raise Rejected("whole_slide", WHOLE_SLIDE)
    if not has_public_syntax(dataset):
        raise Rejected("unknown_transfer_syntax", "TransferSyntaxUID is none of the DICOM dictionary")


def check_params(header: Header, frames: int, options: Options) -> None:
    """Raises:
    Rejected: The picture is not one that the params allow.
    """
    if header.rows * header.columns > options.params.max_pixels:
        size = f"{header.columns}x{header.rows}"
        raise Rejected("too_large", f"{size} pixels; ingest.max_pixels is {options.params.max_pixels}")
    check_voxels(header, frames, options)


def check_voxels(header: Header, slices: int, options: Options, size_of_slice: tuple[int, int] = (0, 0)) -> None:
    """Args:
        size_of_slice: Rows and columns, where they are not the header's.

    Raises:
        Rejected: That many slices make more than a volume may have.
    """
    rows, columns = size_of_slice if any(size_of_slice) else (header.rows, header.columns)
    if slices * rows * columns > options.params.max_voxels:
        size = f"{columns}x{rows}x{slices}"
        raise Rejected("too_large", f"{size} pixels; ingest.max_voxels is {options.params.max_voxels}")


@dataclass(frozen=True)
class _Elements:
    """The elements that a header is made of; equal to those of another file that holds the same bytes."""

    values: tuple[tuple[int, str | None, Any], ...]  # tag, VR and value of each
    syntax: UID
    dataset: Dataset = field(compare=False)


def read_header(dataset: Dataset, key: bytes, issuer: bool = False, descriptions: tuple[str, ...] = ()) -> Header:
    """The header of a parsed file.

    Slices of a series hold the same elements, so their header is made once: converting values takes most of the time.

    Args:
        key: Hides the identifiers.
        issuer: As of `IngestParams`.
        descriptions: Patterns that SeriesDescription is held against, as the text itself goes no further.

    Raises:
        Rejected: The header is damaged, or lacks what a picture must have.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    held = dataset.keys()  # `tag in dataset` would make a tag of the tag first
    items = [dataset.get_item(tag) for tag in SERIES_TAGS if tag in held]
    # Without a SeriesInstanceUID, the series' identifier may be made of an element that is the file's own.
    if "SeriesInstanceUID" not in dataset or any(item.VR == "SQ" for item in items):
        return _make_header(dataset, syntax, key, issuer, descriptions)
    elements = tuple((item.tag, item.VR, item.value if item.is_raw else str(item.value)) for item in items)
    return _cached_header(_Elements(elements, syntax, dataset), key, issuer, descriptions)


@lru_cache(MAX_CACHED_HEADERS)
def _cached_header(elements: _Elements, key: bytes, issuer: bool, descriptions: tuple[str, ...]) -> Header:
    return _make_header(elements.dataset, elements.syntax, key, issuer, descriptions)


def _make_header(d: Dataset, syntax: UID, key: bytes, issuer: bool, descriptions: tuple[str, ...]) -> Header:
    try:
        bits = int(number(d, "BitsAllocated"))
        stored = int(number(d, "BitsStored", 0)) or bits
        image_type = [str(part) for part in values(d.get("ImageType"))]
        header = Header(
            sop_class=text(d, "SOPClassUID"),
            modality=dicom_terms.known(text(d, "Modality"), dicom_terms.MODALITIES),
            syntax=str(syntax),
            rows=int(number(d, "Rows")),
            columns=int(number(d, "Columns")),
            samples=int(number(d, "SamplesPerPixel", 0)) or 1,
            photometric=dicom_terms.known(text(d, "PhotometricInterpretation"), dicom_terms.COLOUR_SPACES),
            bits_allocated=bits,
            bits_stored=stored,
            high_bit=int(number(d, "HighBit", stored - 1)),
            signed=bool(int(number(d, "PixelRepresentation", 0))),
            little_endian=syntax.is_little_endian,
            padding=_padding(d),
            rescale_type=rescale_type(d, key),
            tilt=number(d, "GantryDetectorTilt", 0),
            localizer="LOCALIZER" in image_type,
            mosaic=-1 if "MOSAIC" in image_type else 0,
            lookup_table="ModalityLUTSequence" in d,
            burned_in=dicom_burned_in.reason(d),
            palette_bits=_palette_bits(d),
            patient=_patient(d, key, issuer),
            series=identify(key, "series", _series_uid(d)),
            study=_hashed(d, key, "study", "StudyInstanceUID"),
            series_number=_series_number(d),
            frame_of_reference=_hashed(d, key, "frame of reference", "FrameOfReferenceUID"),
            manufacturer=dicom_terms.maker(text(d, "Manufacturer")),
            body_part=dicom_terms.body_part(text(d, "BodyPartExamined")),
            image_type=dicom_terms.image_type(image_type),
            kvp="\\".join(f"{kilovolts:g}" for kilovolts in numbers(d, "KVP")),
            view=dicom_terms.known(text(d, "ViewPosition").upper(), dicom_terms.VIEWS),
            laterality=dicom_terms.known(text(d, "ImageLaterality") or text(d, "Laterality"), dicom_terms.LATERALITIES),
            intent=_intent(d),
            inverse=text(d, "PresentationLUTShape").strip() == "INVERSE",
            slice_thickness=thickness_text(d),
            places=int(lenient_number(d, "NumberOfSlices") or 0),
            named=bool(text(d, "SeriesInstanceUID")),
            described=not descriptions or dicom_terms.fits(text(d, "SeriesDescription"), descriptions),
        )
    except Rejected:
        raise
    except Exception as error:  # damaged values raise many types
        raise Rejected("malformed", where_raised(error)) from None
    _check_pixel_format(header)
    return header


def thickness_text(d: Dataset) -> str:
    """SliceThickness in mm, "" where there is none that can be."""
    thickness = lenient_number(d, "SliceThickness")
    return f"{thickness:g}" if thickness is not None and thickness > 0 else ""


def _series_number(d: Dataset) -> str:
    found = lenient_number(d, "SeriesNumber")
    return "" if found is None else f"{int(found)}"


def _intent(d: Dataset) -> str:
    """FOR PRESENTATION or FOR PROCESSING; where the element is empty, as the SOP class says."""
    given = dicom_terms.known(text(d, "PresentationIntentType"), dicom_terms.INTENTS)
    name = sop_class_name(text(d, "SOPClassUID")).upper()
    return given or next((intent for intent in sorted(dicom_terms.INTENTS) if name.endswith(f"- {intent}")), "")


def _hashed(d: Dataset, key: bytes, kind: str, keyword: str) -> str:
    given = text(d, keyword)
    return identify(key, kind, given) if given else ""


def _padding(d: Dataset) -> tuple[int, int] | None:
    if d.get("PixelPaddingValue") is None:
        return None
    first = int(number(d, "PixelPaddingValue"))
    last = int(number(d, "PixelPaddingRangeLimit", first))
    return min(first, last), max(first, last)


def rescale_type(d: Dataset, key: bytes) -> str:
    """Slices must agree in it, so one that is unknown is told from others by a hash."""
    given = text(d, "RescaleType")
    return (
        identify(key, "rescale type", given) if dicom_terms.known(given, dicom_terms.RESCALE_TYPES) == OTHER else given
    )


def _palette_bits(d: Dataset) -> int:
    keyword = "RedPaletteColorLookupTableDescriptor"  # number of entries, first value that is mapped, bits of an entry
    return int(values(d.get(keyword))[-1]) if keyword in d else 0


def _patient(d: Dataset, key: bytes, with_issuer: bool) -> str | None:
    """The patient's identifier, the study's where the patient is not named."""
    patient, issuer, study = (text(d, name) for name in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID"))
    if patient:
        return identify(key, "patient", f"{issuer if with_issuer else ''}\0{patient}")
    return identify(key, "study", study) if study else None


def _series_uid(d: Dataset) -> str:
    return text(d, "SeriesInstanceUID") or text(d, "StudyInstanceUID") or text(d, "SOPInstanceUID")


def _check_pixel_format(header: Header) -> None:
    if header.rows < 1 or header.columns < 1:
        raise Rejected("malformed", f"{header.rows} rows, {header.columns} columns")
    if header.bits_allocated not in (8, 16):
        raise Rejected("unsupported_depth", f"{header.bits_allocated} bits a pixel, expected 8 or 16")
    if not 1 <= header.bits_stored <= header.high_bit + 1 <= header.bits_allocated:
        bits = f"{header.bits_stored} bits stored up to bit {header.high_bit} of {header.bits_allocated}"
        raise Rejected("malformed", bits)
    if header.samples not in (1, 3):
        raise Rejected("unsupported_colours", f"{header.samples} samples a pixel")
    if header.photometric == OTHER:
        raise Rejected("unsupported_colours", "PhotometricInterpretation is none that is read")
    grey = header.photometric in ("MONOCHROME1", "MONOCHROME2")
    if (header.samples == 1) != (grey or header.photometric == "PALETTE COLOR"):
        raise Rejected("unsupported_colours", f"{header.photometric or 'nothing'} with {header.samples} samples")
