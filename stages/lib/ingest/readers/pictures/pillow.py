"""Every picture but the plain JPEG: by Pillow, or by a library that keeps what Pillow would cut or leave out."""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from stages.lib.ingest.readers.contract import Rejected, where_raised
from stages.lib.ingest.readers.pictures import jpeg_2000, jpeg_xl, netpbm, orientation, png, tiff
from stages.lib.ingest.readers.pictures.picture import Decoded, Decoder, Frames, Picture

# What Pillow decodes without starting a program, and what people have pictures in; TGA last, as its files start in no
# way of their own.
FORMATS = (
    *("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF", "SGI", "PSD", "ICO", "CUR"),
    *("ICNS", "PCX", "DCX", "QOI", "DDS", "SUN", "XBM", "XPM", "MSP", "FLI", "PIXAR", "SPIDER", "TGA"),
)
STARTS_PROGRAMS = ("EPS",)
GREY = {"1": "uint8", "L": "uint8", "LA": "uint8", "La": "uint8"} | dict.fromkeys(("I;16", "I;16B", "I;16L"), "uint16")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
ALPHA = ("RGBA", "RGBa", "PA", "LA", "La")
MAGIC_NUMBERS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"BM",
    b"GIF8",
    b"8BPS",
    b"qoif",
    b"DDS ",
    b"icns",
    b"\x59\xa6\x6a\x95",
    jpeg_2000.MAGIC_NUMBER,
)
ICONS = (b"\0\0\1\0", b"\0\0\2\0", b"icns")  # ICO, CUR, ICNS
BY_FOURTH_BYTE = (b"ftypavif", b"ftypavis", b"\x11\xaf", b"\x12\xaf")  # AVIF, and FLI's and FLC's animations

PLAIN_PPM = (b"P1", b"P2", b"P3")  # pixels as text
MAX_COMMENTS = 1000
UNKNOWN = 0  # number of frames
MIN_FRAME_BYTES = 8  # no format describes a frame in fewer: a header that claims more frames lies
BAND_PIXELS = 1 << 22  # that are converted at once: Pillow's own conversion makes two copies of the picture
CHANGING = ("GIF", "FLI", "DCX")  # formats whose frames must be decoded to know of what colours and size they are
FLOAT_DDS = ("BC6H", "BC6HS")
PSD_MODES = {0: 1, 1: 1, 2: 1, 3: 3, 4: 4, 8: 1, 9: 3}  # channels of each of Photoshop's colour modes that are read


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


def inspect(
    content: bytes, frames: Frames, max_voxels: int, pages: tiff.File | None = None
) -> list[Picture | Rejected]:
    """Reads the header, and of a PNG every checksum: each page or frame, or why it can't be read.

    Args:
        frames: All of them are looked at for "split" alone. For "reject" it is enough to know that there are several,
            and two are given; for "first" there is one.
        pages: Of a TIFF.

    Raises:
        Rejected: It is no picture, or damaged, or one of floats or of more than 16 bits.
    """
    if content.startswith(PLAIN_PPM) and content.count(b"#") > MAX_COMMENTS:
        raise Rejected("corrupt", f"more than {MAX_COMMENTS} comments, each of which takes Pillow a copy of the file")
    if pages is not None:
        return tiff.inspect(pages, frames)
    if (found := jpeg_xl.inspect(content, frames)) is not None:
        return found
    if (picture := netpbm.inspect(content) or jpeg_2000.inspect(content)) is not None:
        return [picture]
    if content.startswith(b"8BPS"):
        _check_psd(content)
    chunks = png.check(content) if content.startswith(png.MAGIC_NUMBER) else None
    if chunks and (picture := chunks.picture):
        return [picture]
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            picture = _with_png(image, chunks) if chunks else _by_mode(image, content)
            number = _frames(image, content, frames)
            if number == UNKNOWN:
                return _each_frame(image, picture, len(content) // MIN_FRAME_BYTES)
            if number == 1 or frames == "reject":
                return [picture] * number
            if picture.decoder != "pillow":
                raise Rejected("unsupported_depth", f"an animation of {image.format} with 16 bits")
            if number * picture.height * picture.width > max_voxels:
                size = f"{number} frames of {picture.width}x{picture.height} pixels"
                raise Rejected("too_large", f"{size}; ingest.max_voxels is {max_voxels}")
            return _each_frame(image, picture, number)
    except Image.UnidentifiedImageError:
        raise _unidentified(content) from None
    except NotImplementedError:
        raise Rejected("unsupported_format", "a kind of this format that Pillow does not read") from None
    except OSError as error:
        raise _damaged(error) from None


def _damaged(error: OSError) -> Rejected:
    """What a decoder's error means: Pillow has no other way to say that a file is cut."""
    return Rejected("truncated" if "truncated" in str(error).lower() else "corrupt", where_raised(error))


def _unidentified(content: bytes) -> Rejected:
    """Why Pillow can't open a file."""
    if content.startswith(MAGIC_NUMBERS) or content.startswith(BY_FOURTH_BYTE, 4) or content.startswith(b"WEBP", 8):
        return Rejected("corrupt", "it starts as a picture, but its header is damaged, cut, or claims what is not read")
    Image.init()
    others = [name for name in Image.ID if name not in (*FORMATS, *STARTS_PROGRAMS)]
    try:
        with Image.open(io.BytesIO(content), formats=others) as image:
            return Rejected("unsupported_format", f"{image.format_description}: convert it to PNG or TIFF")
    except Exception:  # each format's parser has errors of its own
        return Rejected("not_an_image", "its content is of no known picture format")


def _check_psd(content: bytes) -> None:
    """Raises:
    Rejected: A Photoshop file of which Pillow reads nothing, or not all channels.
    """
    if len(content) < 26:
        raise Rejected("truncated", "the header of the Photoshop file is cut")
    channels, bits, mode = (struct.unpack_from(">H", content, at)[0] for at in (12, 22, 24))
    if bits not in (1, 8):
        raise Rejected("unsupported_depth", f"a Photoshop file of {bits} bits: convert it to PNG or TIFF")
    if mode not in PSD_MODES or channels != PSD_MODES[mode] and (mode, channels) != (3, 4):
        raise Rejected("unsupported_colours", f"a Photoshop file of {channels} channels in its colour mode {mode}")
    if (mode, channels) == (3, 4) and not _psd_is_transparent(content):
        raise Rejected("unsupported_colours", "a Photoshop file with a fourth channel that is no transparency")


def _psd_is_transparent(content: bytes) -> bool:
    """Whether the fourth channel is transparency: the file says so by a negative number of layers."""
    at = 26
    try:
        for _ in range(2):  # of colour modes, and of resources
            at += 4 + struct.unpack_from(">I", content, at)[0]
        layers, info, number = struct.unpack_from(">IIh", content, at)
    except struct.error:
        return False
    return bool(layers and info and number < 0)


def _with_png(image: Image.Image, chunks: png.Chunks) -> Picture:
    if chunks.late_metadata:
        image.load()  # only then Pillow reads what lies behind the pixels
    turning = orientation.of(image) if image.info.keys() & orientation.SOURCES else orientation.Turning()
    decoder: Decoder = "pillow" if chunks.left_to_pillow else "png"
    return _picture(image, chunks.channels, chunks.dtype, turning, decoder)


def _by_mode(image: Image.Image, content: bytes) -> Picture:
    """Raises:
    Rejected: Pillow would not keep the picture's numbers.
    """
    if image.mode not in GREY and image.mode not in COLOUR:
        raise Rejected("float_pixels" if image.mode == "F" else "unsupported_depth", f"pixels of mode {image.mode}")
    if image.format == "SGI" and content[3:4] == b"\x02":
        raise Rejected("unsupported_depth", "SGI with 16 bits")
    if image.format == "DDS" and getattr(image, "pixel_format", "") in FLOAT_DDS:
        raise Rejected("float_pixels", "a DDS of floating point numbers")
    channels, dtype = (1, GREY[image.mode]) if image.mode in GREY else (3, "uint8")
    if image.format == "AVIF" and _avif_bits(content) > 8:
        return _picture(image, channels, "uint16", orientation.of(image), "avif")
    return _picture(image, channels, dtype, orientation.of(image), "pillow")


def _avif_bits(content: bytes) -> int:
    at = content.find(b"av1C")  # the box of the decoder's settings; its third byte has the depth in two bits
    flags = content[at + 6] if 0 <= at < len(content) - 6 else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _picture(
    image: Image.Image, channels: int, dtype: str, turning: orientation.Turning, decoder: Decoder, page: int = 0
) -> Picture:
    height, width = orientation.size(image.height, image.width, turning.orientation)
    return Picture(height, width, channels, dtype, page, turning.orientation, decoder, turning.noted)


def _frames(image: Image.Image, content: bytes, wanted: Frames) -> int:
    # The further frames of an MPO (a phone's JPEG) are previews of its first, those of a Photoshop file its layers.
    if wanted == "first" or image.format in ("MPO", "PSD") or not getattr(image, "is_animated", False):
        return 1
    if wanted == "reject":
        return 2
    try:
        number = int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged frame: those before it are found one by one
        return UNKNOWN
    if number * MIN_FRAME_BYTES > len(content):
        raise Rejected("corrupt", f"{number} frames in {len(content)} bytes")
    return number


def _each_frame(image: Image.Image, first: Picture, number: int) -> list[Picture | Rejected]:
    """In some formats colours and size change from frame to frame; those behind a damaged one can't be read then."""
    if image.format not in CHANGING:
        return [first._replace(page=frame) for frame in range(number)]
    found: list[Picture | Rejected] = [first]
    turning = orientation.Turning(first.orientation, first.noted)
    try:
        for frame in range(1, number):
            image.seek(frame)
            image.load()
            channels = 1 if image.mode in GREY else 3
            found.append(_picture(image, channels, first.dtype, turning, "pillow", frame))
    except Image.DecompressionBombError:
        raise
    except Exception as error:  # decoders raise many types
        found.append(Rejected("corrupt", f"and so are those behind it: {where_raised(error)}"))
    return found


def decode(content: bytes, picture: Picture, pages: tiff.File | None = None) -> Decoded:
    """(H, W) or (H, W, S) uint8 or uint16, still to be turned if the decoder is not one of TURNED.

    Args:
        pages: Of a TIFF.

    Raises:
        Rejected: It is corrupt.
    """
    if pages is not None and picture.decoder in ("tiff", "plane"):
        return (tiff.decode if picture.decoder == "tiff" else tiff.decode_plane)(pages, picture.page)
    match picture.decoder:
        case "png":
            return png.decode(content)
        case "netpbm":
            return netpbm.decode(content)
        case "jpeg_2000":
            return jpeg_2000.decode(content)
        case "jpeg_xl":
            return jpeg_xl.decode(content)
        case "avif":
            return _by_imagecodecs(content)
    if content.startswith(ICONS):
        _check_pngs(content, picture)
    try:
        with _at_frame(content, picture, pages) as image:
            return _by_pillow(image, content)
    except Image.UnidentifiedImageError:
        raise Rejected("corrupt", "its header is damaged, or in a way written that is not read") from None
    except OSError as error:
        raise _damaged(error) from None


def _check_pngs(content: bytes, icon: Picture) -> None:
    """Checks the PNGs that an icon holds in several sizes, as Pillow decodes damaged ones without an error."""
    at = -1
    while (at := content.find(png.MAGIC_NUMBER, at + 1)) >= 0:
        inside = memoryview(content)[at:]  # no copy: there may be many
        chunks = png.check(inside)
        if chunks.height * chunks.width > icon.height * icon.width:
            raise Rejected("corrupt", f"an icon of {icon.width}x{icon.height} pixels with a larger PNG inside")
        png.decode(inside)


def _by_imagecodecs(content: bytes) -> Decoded:
    import imagecodecs

    pixels = imagecodecs.avif_decode(content)
    pixels = pixels[0] if pixels.ndim == 4 else pixels  # the first of several frames
    alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    return Decoded(pixels, pixels.shape[2] - 1 if alpha else None, white=(1 << _avif_bits(content)) - 1)


def _is_alpha(image: Image.Image, content: bytes) -> bool:
    """Whether the fourth channel that Pillow gives is alpha: in a TGA without attribute bits it is not used."""
    if image.format == "TGA" and image.mode == "RGBA" and content[17] & 0x0F == 0:
        return False
    return image.mode in ALPHA or "transparency" in image.info


def _by_pillow(image: Image.Image, content: bytes) -> Decoded:
    alpha = _is_alpha(image, content)
    grey = image.mode in GREY
    if grey and GREY[image.mode] == "uint16":
        return Decoded(np.asarray(image))
    mode = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
    image.load()
    samples = len(mode)
    pixels = np.empty((image.height, image.width, samples), np.uint8)
    rows = max(1, BAND_PIXELS // image.width)
    for start in range(0, image.height, rows):
        stop = min(start + rows, image.height)
        band = image if rows >= image.height else image.crop((0, start, image.width, stop))
        pixels[start:stop] = np.asarray(band if band.mode == mode else band.convert(mode)).reshape(
            -1, image.width, samples
        )
    return Decoded(pixels, samples - 1 if alpha else None)


@contextmanager
def _at_frame(content: bytes, picture: Picture, pages: tiff.File | None) -> Iterator[Image.Image]:
    """The picture; of several frames the one asked for, which takes no walk over those before it, if they were read."""
    frame = picture.page
    if pages is not None:
        with tiff.opened(pages, frame) as image:
            yield image
    elif frame:
        try:
            animation = _animations.of(content, frame)
            animation.seek(frame)  # goes on from the frame that was read last
            yield animation
        except BaseException:
            _animations.forget()
            raise
    else:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            yield image


class _Animations:
    """The animation that was read last: its frames can only be decoded one after the other.

    It is told by the object that its content is: to compare equal ones takes as long as they are, for each frame.
    """

    def __init__(self) -> None:
        self._content = b""
        self._image: Image.Image | None = None

    def of(self, content: bytes, frame: int) -> Image.Image:
        if self._image is None or self._content is not content or self._image.tell() > frame:
            self.forget()  # going back is not sound in all of Pillow's formats
            self._content, self._image = content, Image.open(io.BytesIO(content), formats=FORMATS)
        return self._image

    def forget(self) -> None:
        self._content, self._image = b"", None


_animations = _Animations()
