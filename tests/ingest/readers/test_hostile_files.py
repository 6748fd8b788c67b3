"""Files that cost far more than their bytes: refused before the cost, or read at a cost that grows with their bytes.

Counted are pages, frames and bytes, not seconds.
"""

import io
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import GifImagePlugin, Image, TiffImagePlugin
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from stages.lib.ingest import readers
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.ingest.readers.scans import dicom_deflated, dicom_pixels
from stages.lib.params.ingest import IngestParams
from tests import hostile_files as hostile

MEBIBYTE = 1 << 20


def options(**params: Any) -> Options:
    return Options(IngestParams(**params), OPEN)


def read(content: bytes, **params: Any) -> list[np.ndarray]:
    """The blocks of all cases of a file, by the reader's three functions."""
    given = options(**params)
    reader = readers.reader(readers.recognise(content))
    common, own = reader.inspect(content, given)
    assembly = reader.assemble([Inspected("a", b"", common, own)], [], given)
    if assembly.refused:
        raise Rejected(assembly.refused[0].reason, assembly.refused[0].detail)
    cases = assembly.cases
    return [b for c in cases for b in reader.read(c.files, c.recipe, 0, c.blocks, lambda file: content, given)]


def refused(content: bytes, **params: Any) -> str:
    with pytest.raises(Rejected) as error:
        read(content, **params)
    return error.value.reason


@pytest.fixture
def calls(monkeypatch) -> Callable[..., list[Any]]:
    """Counts the calls of a function."""

    def counted(owner: Any, name: str) -> list[Any]:
        made: list[Any] = []
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **named: (made.append(given), function(*given, **named))[1])
        return made

    return counted


@pytest.fixture
def peak() -> Iterator[Callable[[], float]]:
    """The most memory that Python has held since the test began, in MiB."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / MEBIBYTE
    tracemalloc.stop()


# Pages and frames


@pytest.mark.parametrize("frames", ["reject", "first"])
def test_one_page_of_a_tiff_is_looked_at_however_many_there_are(calls, frames):
    content = hostile.tiff(pages=500)
    loaded = calls(TiffImagePlugin.ImageFileDirectory_v2, "load")
    if frames == "reject":
        assert refused(content) == "several_frames"
    else:
        assert len(read(content, frames="first")) == 1
    assert len(loaded) <= 6  # of the first page: when it is opened, and when it is decoded


@pytest.mark.parametrize("frames", ["reject", "first"])
def test_two_frames_of_a_gif_are_looked_at_however_many_there_are(calls, frames):
    sought = calls(GifImagePlugin.GifImageFile, "_seek")
    if frames == "reject":
        assert refused(hostile.gif(500)) == "several_frames"
    else:
        assert len(read(hostile.gif(500), frames="first")) == 1
    assert len(sought) <= 4


def test_a_split_tiff_costs_the_same_for_each_page(calls):
    loaded = calls(TiffImagePlugin.ImageFileDirectory_v2, "load")
    assert len(read(hostile.tiff(pages=300), frames="split")) == 300
    assert len(loaded) <= 4 * 300


def test_a_split_gif_is_gone_through_once(calls):
    sought = calls(GifImagePlugin.GifImageFile, "_seek")
    assert len(read(hostile.gif(300), frames="split")) == 300
    assert len(sought) <= 4 * 300


def test_a_tiff_whose_pages_go_round_in_a_circle_has_each_once():
    assert len(read(hostile.tiff(pages=3, loops=True), frames="split")) == 3


def test_a_page_outside_of_its_tiff_is_told():
    assert refused(hostile.tiff(pages=3)[:-200], frames="split") == "truncated"


def moving(format: str) -> tuple[bytes, list[np.ndarray]]:
    """An animation in colour, and its frames."""
    rng = np.random.default_rng(0)
    frames = [np.kron(rng.integers(0, 2, (4, 5, 3)) * 255, np.ones((3, 3, 1))).astype(np.uint8) for _ in range(5)]
    first, *others = (Image.fromarray(frame) for frame in frames)
    how = {"lossless": True} if format == "WEBP" else {"compression": "tiff_lzw"} if format == "TIFF" else {}
    stream = io.BytesIO()
    first.save(stream, format, save_all=True, append_images=others, **how)
    return stream.getvalue(), frames


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 1, 3, 0, 2)])
def test_frames_are_the_same_in_whatever_order_they_are_read(format, order):
    content, frames = moving(format)
    given = options(frames="split")
    reader = readers.reader("image")
    cases = reader.assemble([Inspected("a", b"", *reader.inspect(content, given))], [], given).cases
    assert len(cases) == 5
    for i in order:
        (pixels,) = reader.read(cases[i].files, cases[i].recipe, 0, 1, lambda file: content, given)
        assert np.array_equal(pixels.transpose(1, 2, 0), frames[i])


def test_more_frames_than_a_file_has_bytes_for_are_a_lie():
    content = hostile.png((b"acTL", struct.pack(">II", 2_000_000_000, 0)))
    assert refused(content, frames="split") == "corrupt"


def test_the_frames_of_a_file_count_together():
    assert refused(hostile.gif(300), frames="split", max_voxels=1000) == "too_large"


# Pixels that a header claims


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"P6 60000 60000 255\n", "3600000000 pixels"),
        (b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6), "3600000000 pixels"),
        (
            b"RIFF" + struct.pack("<I", 36) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0\xfe\x3f\0\xfe\x3f\0",
            "268402689 pixels",  # for which libwebp would take 2 GiB when it is opened
        ),
        (hostile.tiff(tags=[(322, hostile.LONG, 1, 46_000), (323, hostile.LONG, 1, 46_000)]), "tiles of 46000x46000"),
        (hostile.tiff(tags=[(256, hostile.LONG, 1, 60_000), (257, hostile.LONG, 1, 60_000)]), "3600000000 pixels"),
    ],
)
def test_a_picture_that_claims_more_than_max_pixels_is_refused_before_it_takes_memory(content, said, peak):
    with pytest.raises(Rejected, match=said) as error:
        read(content)
    assert error.value.reason == "too_large"
    assert peak() < 4


def test_a_frame_that_is_larger_than_the_first_is_refused_before_it_takes_memory():
    content = bytearray(hostile.gif(2))
    struct.pack_into("<HH", content, content.rindex(b"\x2c\0\0\0\0") + 5, 0x7FFF, 0x7FFF)
    assert refused(bytes(content), frames="split") == "too_large"


def test_a_tiff_page_of_many_planes_is_refused():
    planes = (32997, hostile.LONG, 1, 10**9)
    content = hostile.tiff(tags=[(258, hostile.SHORT, 1, 16), (279, hostile.LONG, 1, 8), planes])
    assert refused(content) == "unsupported_depth"


# What is not pixels


def test_a_jpeg_of_ten_thousand_scans_is_refused_and_one_of_a_few_is_read():
    assert refused(hostile.jpeg_of_scans(10_000)) == "corrupt"
    assert len(read(hostile.jpeg(64, progressive=True))) == 1


def test_scans_behind_a_reserved_marker_between_pixels_are_counted():
    """libjpeg looks for the next marker behind it, whatever length seems to follow."""
    content = hostile.jpeg_of_scans(200)
    second = content.index(b"\xff\xda", content.index(b"\xff\xda") + 2)
    with pytest.raises(Rejected, match="a JPEG of 2.. scans"):
        read(content[:second] + b"\xff\x02\xff\xff" + content[second:])


def test_what_looks_like_scans_in_a_jpegs_comments_is_none():
    content = hostile.jpeg()
    comment = b"\xff\xda" * 1000
    spoilt = content[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + content[2:]
    assert np.array_equal(read(spoilt)[0], read(content)[0])


def test_text_of_a_png_that_unpacks_to_a_thousand_times_its_size_is_refused():
    text = (b"zTXt", b"k\0\0" + zlib.compress(bytes(2 * MEBIBYTE)))
    with pytest.raises(ValueError, match="too large"):
        read(hostile.png(text))


@pytest.mark.parametrize("wrap", [lambda content: content, lambda content: hostile.png((b"eXIf", content))])
def test_tags_that_share_their_bytes_are_not_read_more_than_once(wrap, peak):
    assert len(read(wrap(hostile.tiff_of_overlapping_tags(400, MEBIBYTE)))) == 1
    assert peak() < 40


def test_a_text_picture_of_many_comments_is_refused():
    assert refused(b"P3\n2 2\n255\n" + b"#c\n" * 100_000 + b"1 " * 12) == "corrupt"
    assert len(read(b"P3\n2 2\n255\n" + b"#c\n" * 10 + b"1 " * 12)) == 1


# DICOM


def test_a_deflated_file_gives_the_pixels_of_the_plain_one():
    assert np.array_equal(
        read(hostile.deflated(hostile.ct()), kind="images")[0], read(hostile.dicom(hostile.ct()), kind="images")[0]
    )


@pytest.fixture
def unpacked(monkeypatch) -> list[int]:
    """How many bytes were unpacked of deflated DICOM files, each time; none by pydicom, which knows no limit."""
    sizes: list[int] = []
    unpack = dicom_deflated.unpack

    def counted(*given: Any) -> bytes:
        content = unpack(*given)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(dicom_deflated, "unpack", counted)
    monkeypatch.setattr(zlib, "decompress", lambda *given: pytest.fail("unpacked without a limit"))
    return sizes


@pytest.mark.parametrize("bytes_a_time", [16, 1 << 20])
def test_of_a_deflated_file_no_more_is_unpacked_than_its_header_lets_expect(bytes_a_time, monkeypatch, request):
    content = hostile.deflated(hostile.ct(), tail=64 * MEBIBYTE)
    unpacked = request.getfixturevalue("unpacked")  # not before the file is made, which unpacks, too
    monkeypatch.setattr(dicom_deflated, "FIRST_BYTES", bytes_a_time)
    assert len(read(content, kind="images")) == 1
    assert sum(unpacked) < 3 * MEBIBYTE
    assert len(unpacked) < 15  # the pixels are unpacked once, and the header in steps that grow


def test_a_deflated_header_without_end_is_refused(request):
    content = hostile.deflated(hostile.ct())
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    squeezed = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    private = b"\x09\0\x10\x10OB\0\0" + struct.pack("<I", MEBIBYTE) + bytes(MEBIBYTE)
    content = content[:start] + b"".join(squeezed.compress(private) for _ in range(64)) + squeezed.flush()
    unpacked = request.getfixturevalue("unpacked")
    assert refused(content) == "too_large"
    assert sum(unpacked) < 10 * MEBIBYTE


@pytest.mark.parametrize("shared", [False, True])
def test_a_number_of_frames_that_lies_costs_nothing(shared, peak):
    image = hostile.of_frames([bytes(64)], RLELossless)
    image.NumberOfFrames = 2_000_000_000
    if shared:
        image.SharedFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence
        del image.PerFrameFunctionalGroupsSequence
    assert refused(hostile.dicom(image)) == "too_large"
    image.NumberOfFrames = 1_000_000
    assert refused(hostile.dicom(image)) == ("frames_without_geometry" if shared else "malformed")
    assert peak() < 16


def test_a_volume_of_more_than_max_voxels_is_refused():
    image = hostile.of_frames([hostile.compressed_frame(RLELossless, np.zeros((4, 4), np.int16))] * 9, RLELossless)
    assert refused(hostile.dicom(image), max_voxels=100) == "too_large"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_a_file_of_many_frames_is_parsed_once_and_its_frames_are_in_order(syntax, calls):
    pixels = np.arange(20 * 4096).astype(np.int16).reshape(20, 64, 64) % 4096
    frames = [hostile.compressed_frame(syntax, one - 1024) for one in pixels]
    content = hostile.dicom(hostile.of_frames(frames, syntax, 64))
    parsed, found = calls(dicom_pixels, "parse"), calls(dicom_pixels, "generate_frames")
    assert np.array_equal(np.stack(read(content)), pixels)
    assert (len(parsed), len(found)) == (1, 1)


@pytest.mark.parametrize(
    ("syntax", "marker", "at"), [(JPEG2000Lossless, b"\xff\x51", 6), (JPEGLSLossless, b"\xff\xf7", 5)]
)
def test_a_frame_of_more_pixels_than_its_file_says_is_not_given_to_a_decoder(syntax, marker, at, monkeypatch):
    frame = bytearray(hostile.compressed_frame(syntax, np.zeros((64, 64), np.int16)))
    side = ">II" if syntax == JPEG2000Lossless else ">HH"
    struct.pack_into(side, frame, frame.index(marker) + at, 60_000, 60_000)
    image = hostile.of_frames([bytes(frame)] * 2, syntax, 64)
    monkeypatch.setattr(dicom_pixels, "pixel_array", lambda *given, **named: pytest.fail("it was decoded"))
    with pytest.raises(Rejected, match="60000x60000 pixels in a file of 64x64"):
        read(hostile.dicom(image))


def test_a_jpeg_of_ten_thousand_scans_in_a_dicom_file_is_not_decoded(monkeypatch):
    image = hostile.of_frames([hostile.jpeg_of_scans(10_000)] * 2, JPEGBaseline8Bit, 64)
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    monkeypatch.setattr(dicom_pixels, "pixel_array", lambda *given, **named: pytest.fail("it was decoded"))
    assert refused(hostile.dicom(image)) == "corrupt"


def test_sequences_nested_without_end_are_refused():
    content = hostile.dicom(hostile.ct())
    at = content.index(b"\x28\0\2\0")
    nested = b"\x19\0\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * (2 * sys.getrecursionlimit())
    assert refused(content[:at] + nested + content[at:]) == "malformed"
    assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
