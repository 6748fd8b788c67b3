"""JPEG XL: the numbers of the file, a size that is known before it is decoded, and the same case as its PNG."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from stages.lib.ingest.readers.pictures import jpeg_xl
from tests.raw_data import ingest

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (21, 17), np.uint8)
COLOUR = RNG.integers(0, 256, (21, 17, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (21, 17, 3)).astype(np.uint16)


def encoded(pixels: np.ndarray, **given) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, **given))


def webp(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def write(raw, **files: bytes) -> None:
    (raw / "a").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (raw / "a" / name).write_bytes(content)


@pytest.mark.parametrize(
    "pixels",
    [GREY, COLOUR, np.ascontiguousarray(DEEP[..., 0]), DEEP, np.dstack([COLOUR, np.full_like(GREY, 255)])],
    ids=["grey", "colour", "grey of 16 bits", "colour of 16 bits", "opaque"],
)
@pytest.mark.parametrize("container", [False, True])
def test_a_lossless_picture_is_the_case_that_its_png_makes(pixels, container, tmp_path):
    raw = tmp_path / "raw"
    write(raw, one=encoded(pixels, usecontainer=container), two=bytes(imagecodecs.png_encode(pixels)))
    made = ingest(raw, tmp_path)
    assert made.counts["duplicates"] == 1
    expected = pixels[..., :3].transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    assert np.array_equal(made.pixels[0], expected)


def test_a_lossless_webp_is_the_case_that_its_png_makes(tmp_path):
    raw = tmp_path / "raw"
    write(raw, one=webp(COLOUR), two=bytes(imagecodecs.png_encode(COLOUR)))
    made = ingest(raw, tmp_path)
    assert made.counts["duplicates"] == 1


@pytest.mark.parametrize("bits", [1, 4, 8, 10, 12, 14, 16])
def test_numbers_stay_and_those_of_fewer_than_8_bits_are_stretched(bits, tmp_path):
    pixels = (DEEP[..., 0] >> (16 - bits)).astype(np.uint8 if bits <= 8 else np.uint16)
    write(tmp_path / "raw", x=encoded(pixels, bitspersample=bits))
    (found,) = ingest(tmp_path / "raw", tmp_path).pixels
    assert np.array_equal(found[0], np.rint(pixels * (255 / (2**bits - 1))) if bits < 8 else pixels)


def test_a_lossy_picture_is_close_to_what_it_was_made_of(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50))[..., None].repeat(3, 2).astype(np.uint8)
    write(tmp_path / "raw", x=bytes(imagecodecs.jpegxl_encode(smooth, distance=1.0)))
    (found,) = ingest(tmp_path / "raw", tmp_path).pixels
    assert np.abs(found.astype(int) - smooth.transpose(2, 0, 1)).max() < 16


@pytest.mark.parametrize(
    "shape", [(1, 3), (8, 8), (256, 256), (90, 160), (513, 512), (300, 400), (100, 8200), (64, 200)]
)
@pytest.mark.parametrize("lossless", [True, False])
def test_the_header_gives_the_size_that_libjxl_decodes(shape, lossless):
    pixels = np.zeros((*shape, 3), np.uint8)
    content = bytes(imagecodecs.jpegxl_encode(pixels, lossless=lossless))
    (picture,) = jpeg_xl.inspect(content, "reject")
    assert (picture.height, picture.width, picture.channels) == (*shape, 3)
    assert imagecodecs.jpegxl_decode(content).shape == pixels.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_its_codestream_says(orientation, tmp_path):
    content = with_orientation(encoded(np.dstack([COLOUR, GREY * 0 + 255])), orientation)
    write(tmp_path / "raw", x=content)
    made = ingest(tmp_path / "raw", tmp_path)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(stream, "PNG", exif=exif)
    write(tmp_path / "other", x=stream.getvalue())
    (tmp_path / "out").mkdir()
    expected = ingest(tmp_path / "other", tmp_path / "out")
    assert np.array_equal(made.pixels[0], expected.pixels[0])
    assert made.counts["exif_rotated"] == (orientation != 1)


def with_orientation(content: bytes, orientation: int) -> bytes:
    """The same codestream with an orientation: the header behind it moves, and the frame begins at a whole byte."""
    bits = [byte >> i & 1 for byte in content[2:] for i in range(8)]
    at, colours, end = marks(content)
    assert bits[at : at + 2] == [0, 0], "neither all as usual nor extra fields"
    turned = [orientation - 1 >> i & 1 for i in range(3)]
    usual_tones = [1]  # which there are only with extra fields
    header = [*bits[: at + 1], 1, *turned, 0, 0, 0, *bits[at + 2 : colours], *usual_tones, *bits[colours:end]]
    whole = [*header, *([0] * (-len(header) % 8)), *bits[end + -end % 8 :]]
    return content[:2] + bytes(sum(bit << i for i, bit in enumerate(whole[j : j + 8])) for j in range(0, len(whole), 8))


def marks(content: bytes) -> tuple[int, int, int]:
    """Bits behind the signature at which size, colours and the header end, of a picture with usual colours."""
    bits = jpeg_xl._Bits(content[2:])
    all_of_them = bits._left
    jpeg_xl._size(bits)
    size = all_of_them - bits._left
    bits.take(2)
    jpeg_xl._depth(bits)
    bits.take(1)
    for _ in range(bits.choice(((0, 0), (1, 0), (2, 4), (1, 12)))):
        jpeg_xl._extra(bits)
    bits.take(1)
    if not bits.take(1):
        assert bits.take(1) == 0, "no ICC profile"
        for _ in range(3):  # colour space, white point, primaries
            bits.choice(jpeg_xl.ENUM)
        assert bits.take(1) == 0, "no gamma"
        for _ in range(2):  # transfer function, rendering intent
            bits.choice(jpeg_xl.ENUM)
    colours = all_of_them - bits._left
    assert bits.take(2) == 0, "no extension"
    assert bits.take(1) == 1, "the usual transform"
    return size, colours, all_of_them - bits._left


def test_a_partly_transparent_picture_is_rejected_or_laid_on_a_colour(tmp_path):
    alpha = np.full_like(GREY, 255)
    alpha[3, 4] = 51
    for name, pixels in (("colour", np.dstack([COLOUR, alpha])), ("grey", np.dstack([GREY, alpha]))):
        raw = tmp_path / name / "raw"
        write(raw, x=encoded(pixels), y=encoded(np.dstack([*pixels.transpose(2, 0, 1)[:-1], alpha | 255])))
        made = ingest(raw, tmp_path / name)
        assert made.counts["rejected"] == {"transparent": 1}
        made = ingest(raw, tmp_path / name, transparency="black")
        pixel = {int(found[0, 3, 4]) for found in made.pixels}
        assert pixel == {int(pixels[3, 4, 0]), round(int(pixels[3, 4, 0]) * 0.2)}


@pytest.mark.parametrize(("frames", "cases"), [("reject", 0), ("first", 1), ("split", 0)])
def test_of_an_animation_the_first_frame_is_read_where_it_is_asked_for(frames, cases, tmp_path):
    animation = RNG.integers(0, 256, (3, 20, 17, 3), np.uint8)
    write(tmp_path / "raw", x=encoded(animation), y=encoded(COLOUR))
    made = ingest(tmp_path / "raw", tmp_path, frames=frames)
    assert len(made.pixels) == 1 + cases
    reasons = {"reject": {"several_frames": 1}, "first": {}, "split": {"unsupported_format": 1}}
    assert made.counts["rejected"] == reasons[frames]
    if cases:
        assert any(np.array_equal(found, animation[0].transpose(2, 0, 1)) for found in made.pixels)


def test_what_is_not_read_is_rejected_before_it_is_decoded(tmp_path, monkeypatch):
    good, wide = encoded(COLOUR), encoded(np.zeros((2000, 3000), np.uint8))
    write(
        tmp_path / "raw",
        good=good,
        wide=wide,
        float=encoded(COLOUR.astype(np.float32) / 255),
        half=encoded(COLOUR.astype(np.float16)),
        cut_header=good[:5],
        no_stream=jpeg_xl.CONTAINER + b"\0\0\0\x08free",
    )
    decoded = []
    decode = jpeg_xl.decode
    monkeypatch.setattr(jpeg_xl, "decode", lambda content: decoded.append(content) or decode(content))
    made = ingest(tmp_path / "raw", tmp_path, max_pixels=1_000_000)
    assert made.counts["rejected"] == {"corrupt": 1, "float_pixels": 2, "too_large": 1, "truncated": 1}
    assert decoded == [good]


def test_a_cut_or_damaged_codestream_is_rejected(tmp_path):
    content = encoded(COLOUR)
    files = {f"cut{n}": content[:n] for n in (40, len(content) // 2, len(content) - 1)}
    write(tmp_path / "raw", good=content, **files)
    made = ingest(tmp_path / "raw", tmp_path)
    assert made.counts["rejected"] == {"truncated": 3}
