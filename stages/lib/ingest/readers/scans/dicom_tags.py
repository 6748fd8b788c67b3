"""The elements of a DICOM header that ingest asks for: which they are, parsing a file for them, reading their values.

Names and other values that identify a person are never converted here; dicom_header hashes those that it needs.
"""

import math
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.scans import dicom_deflated, dicom_walk

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote values, names among them

VOLUMETRIC = ("CT", "MR", "PT")  # modalities whose series are volumes
# SOP classes of other modalities, an object of which is a volume: tomosynthesis and reconstructions of angiography.
VOLUMES = {f"1.2.840.10008.5.1.4.1.1.13.1.{i}" for i in (1, 2, 3)}

# What may distinguish the phases (echoes, time points) of a 4D series; the first that does is used.
PHASE_KEYWORDS = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "EchoNumbers", "EchoTime"),
    *("EffectiveEchoTime", "TriggerTime", "NominalCardiacTriggerDelayTime", "DiffusionBValue"),
    *("DiffusionGradientOrientation", "FrameAcquisitionNumber", "AcquisitionTime", "ContentTime"),
)
# Only these elements are parsed. Skipping the rest of a header, above all its sequences, halves the time.
SERIES_KEYWORDS = (  # usually the same in all slices of a series
    *("SpecificCharacterSet", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("PatientID", "IssuerOfPatientID", "Modality", "Manufacturer", "BodyPartExamined", "ImageType", "KVP", "Rows"),
    *("Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleType", "GantryDetectorTilt"),
    *("ModalityLUTSequence", "BurnedInAnnotation", "ConversionType", "RedPaletteColorLookupTableDescriptor"),
    *("SeriesDescription", "SliceThickness", "SeriesNumber", "ViewPosition", "ImageLaterality", "Laterality"),
    *("PresentationIntentType", "PresentationLUTShape", "NumberOfSlices"),
)
INSTANCE_KEYWORDS = (
    *("SOPInstanceUID", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "DirectoryRecordSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelSpacing", "ImagerPixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", *PHASE_KEYWORDS),
    *("ConcatenationUID", "InConcatenationTotalNumber"),
)
TAG_OF = {keyword: Tag(keyword) for keyword in (*SERIES_KEYWORDS, *INSTANCE_KEYWORDS)}
TAGS = list(TAG_OF.values())
SERIES_TAGS = TAGS[: len(SERIES_KEYWORDS)]
HEADER_ALONE: dict[str, Any] = {"stop_before_pixels": True, "specific_tags": TAGS}  # arguments of pydicom.dcmread
TAG_NUMBERS = frozenset(map(int, TAGS))


def parse(content: bytes, pixel_bytes: int = 0) -> tuple[Dataset, int]:
    """Parses the elements before the pixels that are in TAGS; or with `pixel_bytes` the whole file.

    A file without preamble or meta header is parsed with the transfer syntax that its first element looks like.

    Args:
        pixel_bytes: How many bytes of pixels the header lets expect: of a deflated file no more are unpacked.

    Returns:
        The data set, which always has a transfer syntax; and the byte at which the element of the pixels starts (the
        length of the file if it has none), or -1 in a deflated file.

    Raises:
        Rejected: pydicom can't parse the file.
    """
    if not pixel_bytes and (walked := dicom_walk.read(content, TAG_NUMBERS)) is not None:
        return walked
    added = 128 if content[:4] == b"DICM" else 0  # the preamble alone is missing
    stream = dicom_deflated.Stream(bytes(added) + content)
    dataset: Dataset
    try:
        try:
            dataset = pydicom.dcmread(stream, force=True, **({} if pixel_bytes else HEADER_ALONE))
        except dicom_deflated.Deflated as found:
            dataset = dicom_deflated.parse(stream.getvalue(), found.start, pixel_bytes, HEADER_ALONE)
    except Rejected:
        raise
    except Exception as error:  # damaged files raise many types
        raise Rejected("malformed", where_raised(error)) from None
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = guessed
    deflated = has_public_syntax(dataset) and dataset.file_meta.TransferSyntaxUID.is_deflated
    return dataset, -1 if deflated else stream.tell() - added


def sop_class_name(uid: str) -> str:
    """As in the DICOM dictionary: "CT Image Storage"; the UID where it has none."""
    return UID(uid).name


def has_public_syntax(dataset: Dataset) -> bool:
    """Whether the transfer syntax is one of the DICOM standard."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return syntax.is_transfer_syntax and not syntax.is_private


def values(value: Any) -> list[Any]:
    """An element's value as a list: [] where it is missing or empty."""
    if value is None or value == "":
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """An element's numbers, () where it is missing or empty; strings of numbers straight from their bytes, for speed.

    Raises:
        Rejected: It holds something else.
    """
    tag = TAG_OF.get(keyword) or Tag(keyword)
    if tag not in dataset.keys():  # noqa: SIM118: `in dataset` makes a tag of the tag first, which takes most of the time
        return ()
    try:
        element = dataset.get_item(tag)
        if element.is_raw and element.VR in ("DS", "IS") and element.value:
            return tuple(float(part) for part in element.value.rstrip(b"\0 ").split(b"\\"))
        return tuple(float(value) for value in values(dataset.get(keyword)))
    except Exception:  # damaged values raise many types, and their messages quote the value
        raise Rejected("malformed", f"{keyword} is no number") from None


def lenient(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """As `numbers`; () where it is no number, for elements that nothing depends on."""
    try:
        return numbers(dataset, keyword)
    except Rejected:
        return ()


def lenient_number(dataset: Dataset, keyword: str) -> float | None:
    """An element's only number; None where there is none, several, or one that is not finite."""
    found = lenient(dataset, keyword)
    return found[0] if len(found) == 1 and math.isfinite(found[0]) else None


def number(dataset: Dataset, keyword: str, default: float | None = None) -> float:
    """An element's only number; the default where it is missing or empty.

    Raises:
        Rejected: It is no finite number, or it is missing and there is no default.
    """
    found = numbers(dataset, keyword)
    if not found and default is not None:
        return default
    if len(found) != 1 or not math.isfinite(found[0]):
        raise Rejected("malformed", f"{keyword} is {'no finite number' if found else 'missing'}")
    return found[0]


def text(dataset: Dataset, keyword: str) -> str:
    """An element's value, "" where it is missing."""
    return str(dataset.get(keyword) or "")
