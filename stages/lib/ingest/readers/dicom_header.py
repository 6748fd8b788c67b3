"""What the files of a DICOM series have in common, and whether it describes a picture that can be read for certain.

Whatever names a patient or a series is hashed here and goes no further.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID

from stages.lib.ingest.identifiers import identify
from stages.lib.ingest.readers.contract import Ignored, Options, Rejected
from stages.lib.ingest.readers.dicom_tags import SERIES_TAGS, has_public_syntax, text, values

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
    rescale_type: str
    tilt: float  # degrees, GantryDetectorTilt
    localizer: bool
    mosaic: bool
    lookup_table: bool
    burned_in: bool
    palette_bits: int  # 0 without a palette
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
        raise Rejected("unknown_sop_class", str(sop_class))
    if "Image Storage" not in name or name.startswith("RT"):
        raise Ignored(name, str(sop_class))
    if not has_public_syntax(dataset):
        raise Rejected("unknown_transfer_syntax", str(dataset.file_meta.TransferSyntaxUID))


def check_params(header: Header, options: Options) -> None:
    """Raises:
    Rejected: The picture is not one that the params allow.
    """
    if header.rows * header.columns > options.params.max_pixels:
        size = f"{header.columns}x{header.rows}"
        raise Rejected("too_large", f"{size} pixels; ingest.max_pixels is {options.params.max_pixels}")
    if header.burned_in and options.params.burned_in == "reject":
        raise Rejected("burned_in_annotation", "BurnedInAnnotation is YES")


@dataclass(frozen=True)
class _Elements:
    """The elements that a header is made of; equal to those of another file that holds the same bytes."""

    values: tuple[tuple[int, str | None, Any], ...]  # tag, VR and value of each
    syntax: UID
    dataset: Dataset = field(compare=False)


def read_header(dataset: Dataset, key: bytes) -> Header:
    """The header of a parsed file.

    Slices of a series hold the same elements, so their header is made once: converting values takes most of the time.

    Args:
        key: Hides the identifiers.

    Raises:
        Rejected: The header is damaged, or lacks what a picture must have.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    items = [dataset.get_item(tag) for tag in SERIES_TAGS if tag in dataset]
    # Without a SeriesInstanceUID, the series' identifier may be made of an element that is the file's own.
    if "SeriesInstanceUID" not in dataset or any(item.VR == "SQ" for item in items):
        return _make_header(dataset, syntax, key)
    held = tuple((item.tag, item.VR, item.value if item.is_raw else str(item.value)) for item in items)
    return _cached_header(_Elements(held, syntax, dataset), key)


@lru_cache(MAX_CACHED_HEADERS)
def _cached_header(elements: _Elements, key: bytes) -> Header:
    return _make_header(elements.dataset, elements.syntax, key)


def _make_header(d: Dataset, syntax: UID, key: bytes) -> Header:
    try:
        bits = int(d.BitsAllocated)
        stored = int(d.get("BitsStored") or bits)
        image_type = [str(part) for part in values(d.get("ImageType"))]
        header = Header(
            sop_class=text(d, "SOPClassUID"),
            modality=text(d, "Modality").strip(),
            syntax=str(syntax),
            rows=int(d.Rows),
            columns=int(d.Columns),
            samples=int(d.get("SamplesPerPixel") or 1),
            photometric=text(d, "PhotometricInterpretation"),
            bits_allocated=bits,
            bits_stored=stored,
            high_bit=int(d.get("HighBit", stored - 1)),
            signed=bool(int(d.get("PixelRepresentation") or 0)),
            little_endian=syntax.is_little_endian,
            padding=_padding(d),
            rescale_type=text(d, "RescaleType"),
            tilt=float(d.get("GantryDetectorTilt") or 0),
            localizer="LOCALIZER" in image_type,
            mosaic="MOSAIC" in image_type,
            lookup_table="ModalityLUTSequence" in d,
            burned_in=text(d, "BurnedInAnnotation").strip().upper() == "YES",
            palette_bits=_palette_bits(d),
            patient=_patient(d, key),
            series=identify(key, "series", _series_uid(d)),
            frame_of_reference=identify(key, "frame of reference", text(d, "FrameOfReferenceUID")),
            manufacturer=text(d, "Manufacturer").strip(),
            body_part=text(d, "BodyPartExamined").strip(),
            image_type="\\".join(image_type[:3]),
            kvp=f"{float(d.KVP):g}" if d.get("KVP") else "",
        )
    except Exception as error:  # damaged values raise many types
        raise Rejected("malformed", f"{type(error).__name__}: {error}") from None
    _check_pixel_format(header)
    return header


def _padding(d: Dataset) -> tuple[int, int] | None:
    if d.get("PixelPaddingValue") is None:
        return None
    first = int(d.PixelPaddingValue)
    last = int(d.get("PixelPaddingRangeLimit", first))
    return min(first, last), max(first, last)


def _palette_bits(d: Dataset) -> int:
    keyword = "RedPaletteColorLookupTableDescriptor"  # number of entries, first value that is mapped, bits of an entry
    return int(values(d.get(keyword))[-1]) if keyword in d else 0


def _patient(d: Dataset, key: bytes) -> str | None:
    """The patient's identifier, the study's where the patient is not named."""
    patient, issuer, study = (text(d, name) for name in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID"))
    if patient:
        return identify(key, "patient", f"{issuer}\0{patient}")
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
    grey = header.photometric in ("MONOCHROME1", "MONOCHROME2")
    if (header.samples == 1) != (grey or header.photometric == "PALETTE COLOR"):
        raise Rejected("unsupported_colours", f"{header.photometric or 'nothing'} with {header.samples} samples")
