"""Every picture but the plain JPEG: by Pillow, or by tifffile or imagecodecs where Pillow would cut 16 bits to 8."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image

from stages.lib.ingest.readers import tiff
from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.picture import Decoder, Picture

# In the order in which Pillow tries them. Its other formats can start programs (EPS) or are no pictures.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF", "SGI")
GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "La": "uint8"} | dict.fromkeys(("I;16", "I;16B", "I;16L"), "uint16")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM", b"GIF8", b"RIFF")
BITS_PER_SAMPLE, SAMPLE_FORMAT, TILE_WIDTH, TILE_LENGTH = 258, 339, 322, 323  # tags of TIFF
SIGNED, FLOAT = 2, 3  # values of SAMPLE_FORMAT

PLAIN_PPM = (b"P1", b"P2", b"P3")  # pixels as text
MAX_COMMENTS = 1000
MIN_FRAME_BYTES = 8  # no format describes a frame in fewer: a header that claims more frames lies

Frames = Literal["reject", "first", "split"]  # ingest.frames


@contextmanager
def bounded(max_pixels: int) -> Iterator[None]:
    """Lets Pillow refuse whatever takes more pixels: a picture, a frame that is larger than the first, a WebP's canvas.

    Raises:
        Rejected: It does.
    """
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2  # it warns of more, and refuses more than twice as many
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of half of it, and of tags that it leaves out
            yield
    except Image.DecompressionBombError as error:
        claimed = re.search(r"\((\d+) pixels\)", str(error))
        what = claimed[1] if claimed else "more"
        raise Rejected("too_large", f"{what} pixels; ingest.max_pixels is {max_pixels}") from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


def inspect(content: bytes, frames: Frames) -> Picture:
    """Reads the header, and of a PNG every checksum.

    Args:
        frames: Frames are counted for "split" alone. For "reject" it is enough to know that there are several, which
            are then given as 2; for "first" they do not matter, and are given as 1.

    Raises:
        Rejected: It is no picture, or damaged, or one of floats or of more than 16 bits.
    """
    if content.startswith(PLAIN_PPM) and content.count(b"#") > MAX_COMMENTS:
        raise Rejected("corrupt", f"more than {MAX_COMMENTS} comments, each of which takes Pillow a copy of the file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format == "PNG":
                _check_png(content)
            decoder = _decoder(image, content)
            channels, dtype = (1, GREY[image.mode]) if image.mode in GREY else (3, "uint8")
            if decoder != "pillow":
                channels, dtype = _samples_16_bit(image, content)
            number = _frames(image, content, frames)
            width, height = image.size
            orientation = _orientation(image, decoder)
    except Image.UnidentifiedImageError:
        if content.startswith(MAGIC_NUMBERS):
            raise Rejected("corrupt", "it starts as a picture, but its header is damaged or cut") from None
        raise Rejected("not_an_image", "its content is of no known picture format") from None
    if orientation >= 5:
        height, width = width, height
    return Picture(height, width, channels, dtype, number, orientation, decoder)


def _frames(image: Image.Image, content: bytes, wanted: Frames) -> int:
    # The further frames of an MPO (a phone's JPEG) are previews of its first.
    if wanted == "first" or image.format == "MPO" or not getattr(image, "is_animated", False):
        return 1
    if wanted == "reject":
        return 2
    number = len(tiff.pages(content)) if image.format == "TIFF" else int(getattr(image, "n_frames", 1))
    if number * MIN_FRAME_BYTES > len(content):
        raise Rejected("corrupt", f"{number} frames in {len(content)} bytes")
    return number


def _tile(image: Image.Image) -> tuple[int, int]:
    """Height and width of a TIFF's tiles; 0 where it has none."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    return int(tags.get(TILE_LENGTH, 0)), int(tags.get(TILE_WIDTH, 0))


def _check_tiles(height: int, width: int) -> None:
    """Raises:
    Rejected: One tile takes more memory than any picture may.
    """
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if limit and height * width > limit:
        raise Rejected("too_large", f"tiles of {width}x{height} pixels; ingest.max_pixels is {limit}")


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
        _check_tiles(*_tile(image))
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
        with _at_frame(content, frame) as image:
            if image.mode in GREY and image.mode not in ("LA", "La", "1"):
                transparent = "transparency" in image.info
                return np.asarray(image.convert("LA") if transparent and image.mode == "L" else image)
            if image.mode in ("1", "LA", "La"):
                return np.asarray(image.convert("L" if image.mode == "1" else "LA"))
            alpha = image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
            return np.asarray(image.convert("RGBA" if alpha else "RGB"))
    except OSError as error:
        raise Rejected("truncated" if "truncated" in str(error) else "corrupt", where_raised(error)) from None


@contextmanager
def _at_frame(content: bytes, frame: int) -> Iterator[Image.Image]:
    """The picture; of several frames the one asked for, which takes no walk over those before it, if they were read."""
    if frame and content[:2] in (b"II", b"MM"):
        with Image.open(tiff.FromPage(content, frame), formats=("TIFF",)) as image:
            _check_tiles(*_tile(image))
            yield image
    elif frame:
        try:
            animation = _animation(content)
            if animation.tell() > frame:  # going back is not sound in all of Pillow's formats
                _animation.cache_clear()
                animation = _animation(content)
            animation.seek(frame)  # goes on from the frame that was read last
            yield animation
        except BaseException:
            _animation.cache_clear()
            raise
    else:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            yield image


@lru_cache(maxsize=1)
def _animation(content: bytes) -> Image.Image:
    """The animation that was read last: its frames can only be decoded one after the other."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _by_tifffile(content: bytes, frame: int) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(tiff.FromPage(content, frame) if frame else io.BytesIO(content)) as file:
        page: Any = file.pages[0]
        _check_tiles(page.tilelength, page.tilewidth)
        if page.imagedepth * page.tiledepth > 1:
            raise Rejected("unsupported_depth", f"a TIFF of {page.imagedepth} planes a page")
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
