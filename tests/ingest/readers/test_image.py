"""Pictures of every format: decoded as they are meant to be seen, or rejected with the reason."""

import io
import struct
import zlib

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from PIL import Image

from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers import image, recognise
from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.params.ingest import IngestParams

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 14), np.uint8)
COLOUR = RNG.integers(0, 256, (11, 14, 3), np.uint8)
GREY_16 = RNG.integers(0, 65536, (11, 14)).astype(np.uint16)
COLOUR_16 = RNG.integers(0, 65536, (11, 14, 3)).astype(np.uint16)


def read(content: bytes, frame: int = 0, **params: object) -> np.ndarray:
    """(H, W, C), by the reader's three functions."""
    options = Options(IngestParams(**params), OPEN)  # type: ignore[arg-type]
    assert recognise(content) == "image"
    common, own = image.inspect(content, options)
    case = image.assemble([Inspected("a", "", common, own)], [], options).cases[frame]
    (pixels,) = image.read(case.files, case.recipe, 0, 1, lambda file: content, options)
    assert pixels.shape == case.shape
    assert pixels.dtype == case.dtype
    return pixels.transpose(1, 2, 0)


def reason(content: bytes, **params: object) -> str:
    with pytest.raises(Rejected) as error:
        read(content, **params)
    return error.value.reason


def encoded(pixels: np.ndarray | Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, format, **options)
    return stream.getvalue()


def png_16_in_colour() -> bytes:
    """Made by hand, as Pillow writes none."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = COLOUR_16.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in COLOUR_16)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"])
def test_eight_bits_are_those_that_imageio_reads(format, pixels):
    content = encoded(pixels, format)
    expected = np.atleast_3d(imageio.imread(content, extension=f".{format.lower()}"))
    assert np.array_equal(read(content), expected)


@pytest.mark.parametrize("quality", [10, 75, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_every_encoding_are_those_that_imageio_reads(quality, subsampling, progressive):
    smooth = np.add.outer(np.arange(37), np.arange(51))[..., None] * [3, 2, 1] % 256
    content = encoded(
        smooth.astype(np.uint8), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive
    )
    assert np.array_equal(read(content), imageio.imread(content, extension=".jpg"))


def test_sixteen_bits_are_kept_and_never_saturated():
    assert np.array_equal(read(encoded(GREY_16, "PNG"))[..., 0], GREY_16)
    assert np.array_equal(read(png_16_in_colour()), COLOUR_16)
    assert np.array_equal(read(tiff(GREY_16))[..., 0], GREY_16)
    assert np.array_equal(read(tiff(GREY_16, byteorder=">"))[..., 0], GREY_16)
    assert np.array_equal(read(tiff(COLOUR_16, photometric="rgb")), COLOUR_16)


def test_a_palette_is_looked_up():
    palette = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(read(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_cmyk_becomes_rgb():
    content = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=100)
    assert np.array_equal(read(content), imageio.imread(content, mode="RGB", extension=".jpg"))


def test_an_opaque_alpha_is_dropped_and_a_transparent_one_rejected_or_laid_on_a_colour():
    alpha = np.dstack([COLOUR, np.full(GREY.shape, 255, np.uint8)])
    assert np.array_equal(read(encoded(alpha, "PNG")), COLOUR)
    alpha[0, 0, 3] = 0
    content = encoded(alpha, "PNG")
    assert reason(content) == "transparent"
    assert (read(content, transparency="white")[0, 0] == 255).all()
    assert (read(content, transparency="black")[0, 0] == 0).all()
    assert np.array_equal(read(content, transparency="black")[1:], COLOUR[1:])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_exif_says(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if format == "WEBP" else {}
    content = encoded(COLOUR, format, exif=exif, **lossless)
    expected = imageio.imread(content, extension=f".{format.lower()}", plugin="pillow", rotate=format != "TIFF")
    if format == "TIFF":  # Pillow turns it by itself, and imageio asks it not to
        expected = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(read(content), expected)


def test_several_frames_are_rejected_or_the_first_or_all_are_read():
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for format in ("GIF", "TIFF"):
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert reason(content) == "several_frames"
        assert np.array_equal(read(content, frames="first")[..., 0], GREY)
        assert np.array_equal(read(content, frame=1, frames="split")[..., 0], 255 - GREY)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
def test_a_cut_picture_is_rejected(format, fraction):
    pixels = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(pixels, format)
    assert reason_or_unreadable(content[: int(len(content) * fraction)])


def reason_or_unreadable(content: bytes) -> bool:
    """Whether the picture is refused in some way, as ingest sees it: any exception is a rejection there."""
    try:
        read(content)
    except Exception:
        return True
    return False


def test_a_flipped_bit_in_a_png_is_noticed():
    content = bytearray(encoded(COLOUR, "PNG", compress_level=0))
    content[len(content) // 2] ^= 1
    assert reason(bytes(content)) == "corrupt"


def test_what_is_no_picture_is_rejected_whatever_its_name():
    assert reason(b"") == "empty"
    assert reason(b"<!doctype html><title>404</title>") == "not_an_image"
    assert reason(b"just a note") == "not_an_image"
    assert reason(b"%PDF-1.7 ...") == "unsupported_format"


def test_limits_name_themselves():
    with pytest.raises(Rejected, match="ingest.min_side is 2"):
        read(encoded(GREY[:1, :1], "PNG"))
    with pytest.raises(Rejected, match="14x11 pixels; ingest.max_pixels is 100"):
        read(encoded(GREY, "PNG"), max_pixels=100)


def test_a_decompression_bomb_is_rejected_by_its_header():
    content = bytearray(encoded(GREY, "PNG"))
    content[16:24] = struct.pack(">II", 60000, 60000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    assert reason(bytes(content)) == "too_large"
