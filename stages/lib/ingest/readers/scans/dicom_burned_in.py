"""Whether a header says that text may be burned into the pixels: then the picture itself may show a patient's name.

A missing BurnedInAnnotation says nothing, and most CT, MR and PET lack it. Nor is ImageType's SECONDARY a reason: it
stands in every reformatted series.
"""

import re

from pydicom.dataset import Dataset

from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.ingest.readers.scans.dicom_tags import text, values

CAPTURES = {"1.2.840.10008.5.1.4.1.1.7"} | {f"1.2.840.10008.5.1.4.1.1.7.{i}" for i in (1, 2, 3, 4)}  # Secondary Capture
FILM_COPIES = {"1.2.840.10008.5.1.1.29", "1.2.840.10008.5.1.1.30"}  # Hardcopy Grayscale and Color, retired
CAPTURED = ("DOC", "HC", "OT", "SC")  # Modality: document, hard copy, other, and what old systems call a capture
# ConversionType, PS3.3 C.8.6.1: video, digital interface, film, scanned document or picture, drawing. Left out are WSD
# and SYN: workstations write them into reformatted slices too.
CONVERSIONS = ("DV", "DI", "DF", "SD", "SI", "DRW")
SCREEN = re.compile(
    r"SCREEN|SNAPSHOT|CAPTURE|\bSAVE|\bPROT\b|PROTOCOL|REPORT"
)  # in ImageType: SCREEN SAVE, CT_SOM5 PROT
DETAILS = {
    "burned_in_annotation": "BurnedInAnnotation is not NO",
    "secondary_capture": "a screenshot, a scanned document or another secondary capture",
}


def reason(dataset: Dataset) -> str:
    """A key of DETAILS, or "" where nothing speaks for text in the pixels."""
    image_type = "\\".join(map(str, values(dataset.get("ImageType")))).upper()
    if (
        text(dataset, "SOPClassUID") in CAPTURES | FILM_COPIES
        or text(dataset, "Modality").strip().upper() in CAPTURED
        or text(dataset, "ConversionType").strip().upper() in CONVERSIONS
        or SCREEN.search(image_type)
    ):
        return "secondary_capture"
    stated = text(dataset, "BurnedInAnnotation").strip().upper()
    return "burned_in_annotation" if stated not in ("", "NO") else ""


def check(reason: str, options: Options) -> None:
    """Raises:
    Rejected: There is a reason, and the params don't ask for such pictures.
    """
    if reason and options.params.burned_in == "reject":
        raise Rejected(reason, f"{DETAILS[reason]}; ingest.burned_in can be keep")
