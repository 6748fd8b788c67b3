"""JPEG through libjpeg-turbo's own interface: 5 times as fast as Pillow, and it reports corrupt data."""

import io
import re

import numpy as np
import simplejpeg
from PIL import Image

from stages.lib.ingest.readers import codestream
from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.pictures import orientation
from stages.lib.ingest.readers.pictures.picture import Decoded, Picture
from stages.lib.ingest.readers.pictures.pillow import bounded

# With any other warning, pixels were made up.
HARMLESS_WARNING = "Invalid SOS parameters"
LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")  # the end's
MOST_METADATA = 1000  # segments
EXIF, XMP = b"Exif\0", b"http://ns.adobe.com/xap/"  # what may hold an orientation


def inspect(content: bytes, max_pixels: int) -> Picture | None:
    """Size and orientation; None where Pillow has to read the file: it is no JPEG, or one of CMYK or RGB colours."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError):  # the latter for a chroma subsampling that it has no name for
        return None
    if colours not in ("Gray", "YCbCr"):
        return None
    channels = 1 if colours == "Gray" else 3
    # Anywhere in the file, as a search is quick where there is none, and other segments may lie before it.
    if EXIF not in content and XMP not in content:
        return Picture(height, width, channels, "uint8", 0, 1, "jpeg")
    with bounded(max_pixels):
        turning = _turning(content)
    height, width = orientation.size(height, width, turning.orientation)
    return Picture(height, width, channels, "uint8", 0, turning.orientation, "jpeg", turning.noted)


def _turning(content: bytes) -> orientation.Turning:
    if content.count(EXIF) + content.count(XMP) > MOST_METADATA:  # Pillow takes a copy of all for each
        return orientation.Turning(noted=(orientation.DAMAGED,))
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            return orientation.of(image)
    except Exception:  # a damaged segment of metadata ends Pillow's reading of the header
        return orientation.Turning(noted=(orientation.DAMAGED,))


def decode(content: bytes, channels: int) -> Decoded:
    """(H, W, C) uint8.

    Raises:
        Rejected: The data end too early or are corrupt.
    """
    colours = "GRAY" if channels == 1 else "RGB"
    try:
        return Decoded(_decoded(content, colours))
    except ValueError as error:
        message = str(error)
    # What is wrong may lie in the header, outside of all that is pixels.
    if (tidied := codestream.tidied(content)) != content:
        try:
            return Decoded(_decoded(tidied, colours))
        except ValueError as error:
            message = str(error)
    if "data precision" in message:
        raise Rejected("unsupported_depth", message)
    raise Rejected("truncated" if "remature end" in message else "corrupt", message)


def _is_padded(content: bytes, message: str) -> bool:
    """Whether what is left over at the end is padding, as cameras write it.

    Anything else tells of damaged data, which were taken for fewer bytes than they have.
    """
    told, end = LEFT_OVER.search(message), content.rfind(b"\xff\xd9")
    return told is not None and end >= 0 and len(set(content[end - min(int(told[1]), end) : end])) == 1


def _decoded(content: bytes, colours: str) -> np.ndarray:
    """Raises: ValueError: Pixels were made up."""
    try:
        return simplejpeg.decode_jpeg(content, colours)
    except ValueError as error:
        if HARMLESS_WARNING not in str(error) and not _is_padded(content, str(error)):
            raise
    return simplejpeg.decode_jpeg(content, colours, strict=False)
