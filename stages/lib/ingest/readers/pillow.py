"""Every picture but the plain JPEG: by Pillow, or by tifffile or imagecodecs where Pillow would cut 16 bits to 8."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.picture import Decoder, Picture

# In the order in which Pillow tries them. Its other formats can start programs (EPS) or are no pictures.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF", "SGI")
GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "La": "uint8"} | dict.fromkeys(("I;16", "I;16B", "I;16L"), "uint16")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM", b"GIF8", b"RIFF")
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # tags of TIFF
SIGNED, FLOAT = 2, 3  # values of SAMPLE_FORMAT

Image.MAX_IMAGE_PIXELS = None  # ingest.max_pixels is checked instead, before anything is decoded


def inspect(content: bytes) -> Picture:
    """Reads the header, and of a PNG every checksum.

    Raises:
        Rejected: It is no picture, or damaged, or one of floats or of more than 16 bits.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format == "PNG":
                _check_png(content)
            decoder = _decoder(image, content)
            channels, dtype = (1, GREY[image.mode]) if image.mode in GREY else (3, "uint8")
            if decoder != "pillow":
                channels, dtype = _samples_16_bit(image, content)
            # The further frames of an MPO (a phone's JPEG) are previews of its first.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            width, height = image.size
            orientation = _orientation(image, decoder)
    except Image.UnidentifiedImageError:
        if content.startswith(MAGIC_NUMBERS):
            raise Rejected("corrupt", "it starts as a picture, but its header is damaged or cut") from None
        raise Rejected("not_an_image", "its content is of no known picture format") from None
    if orientation >= 5:
        height, width = width, height
    return Picture(height, width, channels, dtype, frames, orientation, decoder)


def _orientation(image: Image.Image, decoder: str) -> int:
    """EXIF's orientation, 1 where Pillow turns the picture itself: it does with a TIFF, and gives its turned size."""
    if image.format == "TIFF" and decoder == "pillow":
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # else Pillow decodes all pixels to look for it behind them
        return 1
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _decoder(image: Image.Image, content: bytes) -> Decoder:
    """Which decoder keeps the picture's bits per sample.

    Raises:
        Rejected: None does.
    """
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits, formats = tags.get(BITS_PER_SAMPLE, (1,)), tags.get(SAMPLE_FORMAT, (1,))
        if FLOAT in formats:
            raise Rejected("float_pixels", "floating point: write it as 8- or 16-bit integers")
        if max(bits) > 16 or SIGNED in formats:
            raise Rejected("unsupported_depth", f"{max(bits)} bits, {'signed' if SIGNED in formats else 'unsigned'}")
        return "tiff" if max(bits) > 8 else "pillow"
    if image.format == "PNG" and content[24] == 16 and image.mode != "I;16":
        return "png16"
    if image.mode not in GREY and image.mode not in COLOUR:
        raise Rejected("float_pixels" if image.mode == "F" else "unsupported_depth", f"pixels of mode {image.mode}")
    if image.mode in GREY and GREY[image.mode] == "uint16":
        return "pillow"
    if image.format in ("JPEG2000", "PPM", "SGI") and image.mode in COLOUR and _claims_16_bit(image, content):
        raise Rejected("unsupported_depth", f"{image.format} in colour with 16 bits")
    return "pillow"


def _claims_16_bit(image: Image.Image, content: bytes) -> bool:
    if image.format == "PPM":
        return any("16" in str(tile[3]) or (isinstance(tile[3], tuple) and tile[3][-1] > 255) for tile in image.tile)  # type: ignore[attr-defined]
    if image.format == "SGI":
        return content[3:4] == b"\x02"
    at = content.find(b"\xff\x51")  # JPEG 2000's SIZ marker; 40 bytes on: the first component's depth less one
    return at >= 0 and (content[at + 40] & 0x7F) > 7


def _samples_16_bit(image: Image.Image, content: bytes) -> tuple[int, str]:
    """Channels, alpha not counted, and dtype of a PNG or TIFF that Pillow does not decode."""
    if image.format == "PNG":
        return (1 if content[25] in (0, 4) else 3), "uint16"
    samples = len(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
    return (1 if samples <= 2 else 3), "uint16"


def _check_png(content: bytes) -> None:
    """Checks every chunk's checksum, as Pillow decodes a damaged chunk without an error.

    Raises:
        Rejected: A chunk is damaged, or the last one is missing.
    """
    at = 8
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(content[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise Rejected("corrupt", f"the checksum of the PNG chunk at byte {at} is wrong")
        if name == b"IEND":
            return
        at = end + 4
    raise Rejected("truncated", "the PNG file has no end")


def decode(content: bytes, decoder: str, frame: int, transparency: str) -> np.ndarray:
    """(H, W, C) uint8 or uint16, C 1 or 3, still to be turned by the orientation that `inspect` gave.

    Raises:
        Rejected: It is corrupt, or transparent in part.
    """
    pixels = {"pillow": _by_pillow, "tiff": _by_tifffile, "png16": _by_imagecodecs}[decoder](content, frame)
    return _without_alpha(pixels, transparency)


def _by_pillow(content: bytes, frame: int) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if frame:
                image.seek(frame)
            if image.mode in GREY and image.mode not in ("LA", "La", "1"):
                transparent = "transparency" in image.info
                return np.asarray(image.convert("LA") if transparent and image.mode == "L" else image)
            if image.mode in ("1", "LA", "La"):
                return np.asarray(image.convert("L" if image.mode == "1" else "LA"))
            alpha = image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
            return np.asarray(image.convert("RGBA" if alpha else "RGB"))
    except OSError as error:
        raise Rejected("truncated" if "truncated" in str(error) else "corrupt", where_raised(error)) from None


def _by_tifffile(content: bytes, frame: int) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages[frame]
        pixels = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            pixels = np.iinfo(pixels.dtype).max - pixels
        if page.photometric not in (0, 1, 2):
            raise Rejected("unsupported_colours", f"16-bit TIFF with colours as {page.photometric.name}")
        if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            pixels = pixels.transpose(1, 2, 0)
    return pixels.astype(np.uint16, copy=False)


def _by_imagecodecs(content: bytes, frame: int) -> np.ndarray:
    import imagecodecs

    try:
        return imagecodecs.png_decode(content)
    except imagecodecs.PngError as error:
        raise Rejected("corrupt", str(error)) from None


def _without_alpha(pixels: np.ndarray, transparency: str) -> np.ndarray:
    """(H, W) or (H, W, 1..4) to (H, W, 1 or 3)."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = pixels.shape[2]
    if channels in (1, 3):
        return pixels
    if channels not in (2, 4):
        raise Rejected("unsupported_colours", f"{channels} channels")
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    full = np.iinfo(pixels.dtype).max
    if (alpha == full).all():
        return colours
    if transparency == "reject":
        raise Rejected("transparent", "ingest.transparency can be black or white")
    background = 0 if transparency == "black" else full
    mixed = colours * (alpha / full) + background * (1 - alpha / full)
    return np.rint(mixed).astype(pixels.dtype)
