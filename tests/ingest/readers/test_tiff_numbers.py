"""TIFFs of signed, wide and floating point numbers, and of many channels: kept to the last number, or refused."""

import numpy as np
import pytest
import tifffile

from tests import hostile_files as hostile
from tests.ingest.readers.test_image import RNG, read, reason, tiff
from tests.raw_data import ingest

HEIGHT, WIDTH = 11, 14
FLOATS = RNG.normal(0, 1e3, (HEIGHT, WIDTH))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_point_pixels_are_kept_as_float32(dtype, compression, predictor):
    pixels = FLOATS.astype(dtype)
    content = tiff(pixels, compression=compression, predictor=predictor if compression else False)
    found = read(content)[..., 0]
    assert found.dtype == np.float32
    assert np.array_equal(found, pixels.astype(np.float32))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        *[("int8", "int16"), ("int16", "int16"), ("int32", "float32"), ("uint32", "float32"), ("int64", "float32")],
        ("uint64", "float32"),
    ],
)
def test_signed_and_wide_integers_keep_their_numbers(dtype, kept, byteorder):
    least, most = (max(-(2**24), np.iinfo(dtype).min), min(2**24, np.iinfo(dtype).max))
    pixels = RNG.integers(least, most, (HEIGHT, WIDTH), endpoint=True, dtype=dtype)
    pixels[0, :2] = least, most
    found = read(tiff(pixels, byteorder=byteorder))[..., 0]
    assert found.dtype == kept
    assert np.array_equal(found.astype(np.float64), pixels.astype(np.float64))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((4, 5), 2**24 + 1, np.uint32), "out_of_range"),
        (np.full((4, 5), -(2**24) - 1, np.int64), "out_of_range"),
        (np.full((4, 5), 2.0**24 + 1), "out_of_range"),
        (np.array([[2.0**40 + 1, 1.5], [2.0**40 + 1, 2.0**40 + 1]]), "out_of_range"),
        (np.array([[2.0**24 + 1, 2.0**25 + 1], [2.0**24 + 1.5, 0.1]]), "out_of_range"),
        (np.full((4, 5), 1.23e20), "out_of_range"),
        (np.array([[1.0, 2.0], [0.0, 1e-46]]), "out_of_range"),
        (np.array([[1.0, 2.0], [0.0, -1e-300]]), "out_of_range"),
        (np.full((4, 5), 1e39), "not_finite"),
        (np.array([[0.0, np.nan], [1, 2]], np.float32), "not_finite"),
        (np.array([[0.0, -np.inf], [1, 2]], np.float16), "not_finite"),
    ],
)
def test_what_float32_cannot_hold_is_refused(pixels, expected):
    assert reason(tiff(pixels)) == expected


def test_fractions_are_rounded_to_float32_and_whole_numbers_that_it_holds_are_not():
    fractions = np.array([[0.1, 2**24 + 1.25], [1 / 3, -5]])
    assert np.array_equal(read(tiff(fractions))[..., 0], fractions.astype(np.float32))
    measured = np.random.default_rng(0).normal(0, 2.0**40, (30, 30))
    measured[0, 0] = 2.0**40 + 1  # by chance
    assert np.array_equal(read(tiff(measured))[..., 0], measured.astype(np.float32))
    small = np.array([[1e-45, 0.0], [-1e-40, 1.0]])
    assert np.array_equal(read(tiff(small))[..., 0], small.astype(np.float32)) and small.astype(np.float32)[0, 0]
    whole = np.array([[2.0**25, 4], [5, -(2.0**60)]])
    assert np.array_equal(read(tiff(whole))[..., 0], whole)


@pytest.mark.parametrize("pixels", [FLOATS.astype(np.float32), FLOATS.astype(np.int16), FLOATS.astype(np.int32)])
def test_numbers_whose_white_is_not_known_are_not_turned_round(pixels):
    assert reason(tiff(pixels, photometric="miniswhite")) == "unsupported_colours"


@pytest.mark.parametrize(("dtype", "opaque"), [(np.float32, 1.0), (np.int16, 32767)])
def test_alpha_of_numbers_without_black_and_white_is_dropped_where_it_is_opaque_and_else_refused(dtype, opaque):
    pixels = np.dstack([FLOATS.astype(dtype)] * 2)
    pixels[..., 1] = opaque
    options = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"}
    assert np.array_equal(read(tiff(pixels, **options))[..., 0], pixels[..., 0])
    pixels[3, 4, 1] = 0
    assert reason(tiff(pixels, **options), transparency="black") == "transparent"


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_refused(dtype):
    assert reason(tiff(FLOATS.astype(dtype))) == "unsupported_depth"


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [2, 5, 13])
def test_every_band_is_a_channel(bands, dtype, planar, tiled):
    pixels = RNG.integers(0, 127, (HEIGHT, WIDTH, bands)).astype(dtype)
    shown = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    tile = (16, 16) if tiled else None
    content = tiff(np.ascontiguousarray(shown), photometric="minisblack", planarconfig=planar, tile=tile)
    assert np.array_equal(read(content), pixels)


@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_big_tiff_is_read_as_any_other(dtype, tile):
    pixels = RNG.integers(0, 256, (40, 50, 5)).astype(dtype)
    content = tiff(pixels, photometric="minisblack", planarconfig="contig", bigtiff=True, tile=tile)
    assert content[2] == 43
    assert np.array_equal(read(content), pixels)


def test_a_tiff_that_claims_very_many_channels_or_pixels_is_refused_before_it_is_decoded(monkeypatch):
    def claimed(side: int, samples: int, bits: int, kind: int) -> bytes:
        sizes = [(256, hostile.LONG, 1, side), (257, hostile.LONG, 1, side), (278, hostile.LONG, 1, side)]
        numbers = [(258, hostile.SHORT, 1, bits), (277, hostile.SHORT, 1, samples), (339, hostile.SHORT, 1, kind)]
        return hostile.tiff(tags=[*sizes, *numbers, (259, hostile.SHORT, 1, 8)])  # packed by Deflate

    monkeypatch.setattr(tifffile, "TiffFile", None)
    assert reason(claimed(60_000, 1, 32, 3)) == "too_large"
    assert reason(claimed(4_000, 100, 16, 1)) == "too_large"
    assert reason(claimed(4_000, 65_535, 64, 3)) == "too_large"
    assert reason(claimed(4_000, 0, 64, 3)) == "corrupt"


def write(raw, kinds, bands=1):
    for i, kind in enumerate(kinds):
        path = raw / "ab"[i % 2] / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 100, (bands, 9, 12)).astype(kind).squeeze()
        tifffile.imwrite(path, pixels, photometric="minisblack")


def test_pictures_of_signed_and_floating_numbers_are_kept_in_one_dtype_that_holds_all(tmp_path, capsys):
    write(tmp_path / "raw", ["int16", "float32", "int8", "uint32"])
    found = ingest(tmp_path / "raw", tmp_path / "out")
    assert set(found.table["dtype"]) == {"float32"}
    assert "pictures of float32, int16: all are stored as float32" in capsys.readouterr().out
    expected = [np.random.default_rng(i).integers(0, 100, (1, 9, 12)).astype(np.float32).tobytes() for i in range(4)]
    assert sorted(pixels.tobytes() for pixels in found.pixels) == sorted(expected)


def test_pictures_of_8_and_16_bits_or_of_those_and_floats_are_not_made_alike(tmp_path):
    for name, kinds in (("depths", ["uint8", "uint16"]), ("floats", ["uint16", "float32"])):
        write(tmp_path / name, kinds)
        found = ingest(tmp_path / name, tmp_path / f"{name}.out")
        assert sorted(found.table["dtype"]) == sorted(kinds)


@pytest.mark.parametrize(("dtype", "step"), [("float32", 1e-4), ("int16", 1)])
def test_colours_of_any_numbers_become_grey(tmp_path, dtype, step):
    for label in "ab":
        (tmp_path / "raw" / label).mkdir(parents=True)
        pixels = (np.random.default_rng(ord(label)).normal(0, 50, (9, 12, 3))).astype(dtype)
        tifffile.imwrite(tmp_path / "raw" / label / "x.tif", pixels, photometric="rgb")
    found = ingest(tmp_path / "raw", tmp_path / "out", colour="grey_luminance")
    assert [pixels.shape for pixels in found.pixels] == [(1, 9, 12)] * 2
    wanted = [tifffile.imread(tmp_path / "raw" / label / "x.tif") @ [0.2126, 0.7152, 0.0722] for label in "ab"]
    assert all(min(np.abs(pixels[0] - one).max() for one in wanted) <= step for pixels in found.pixels)


def test_a_picture_that_is_not_finite_is_rejected_alone_and_its_detail_tells_the_way_out(tmp_path):
    write(tmp_path / "raw", ["float32"] * 4)
    tifffile.imwrite(tmp_path / "raw" / "a" / "bad.tif", np.full((9, 12), np.nan, np.float32))
    found = ingest(tmp_path / "raw", tmp_path / "out")
    assert found.counts["rejected"] == {"not_finite": 1} and len(found.pixels) == 4
    assert "ingest.nan says what stands for nan" in found.rejected["detail"][0]
