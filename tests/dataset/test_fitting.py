"""Cases are fitted in NumPy to the very numbers that the exported file's geometry gives."""

import numpy as np
import pytest
import torch

from stages.lib.dataset import fitting
from stages.lib.dataset.fitting import Fitting, band
from stages.lib.geometry import Geometry, weights

RNG = np.random.default_rng(0)


def draw(dtype: str, *shape: int) -> np.ndarray:
    if dtype.startswith("float"):
        return RNG.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


def arguments(dtype: str, shape: tuple[int, ...], **others: object) -> dict[str, object]:
    return {"colour": "keep", "resize": None, "spacing_mm": None, "shape": shape, "fill": 7.6, "dtype": dtype} | others


def both(x: np.ndarray, spacing: tuple[float, ...], given: dict[str, object]) -> tuple[np.ndarray, np.ndarray]:
    geometry = Geometry(**given)  # type: ignore[arg-type]
    steps = np.array(spacing)
    expected = np.concatenate([geometry(torch.from_numpy(one[None]), torch.from_numpy(steps)).numpy() for one in x])
    return Fitting(given)(x, steps), expected


SIZES = [(32, 32), (28, 28), (40, 33), (64, 48), (7, 91), (91, 7), (3, 3), (1, 50), (57, 101), (224, 224), (29, 28)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", [None, 5, 30, 40])
def test_pictures_get_the_numbers_of_the_exported_geometry(dtype, size, resize):
    found, expected = both(draw(dtype, 3, 2, *size), (1, 1), arguments(dtype, (28, 28), resize=resize))
    assert found.dtype == dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("colour", ["keep", "grey_mean", "grey_luminance", "rgb"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("size", [(20, 20), (31, 17)])
def test_colours_and_dtypes_are_those_of_the_exported_geometry(colour, channels, dtype, size):
    kept = "uint8" if dtype.startswith("float") else dtype
    found, expected = both(draw(kept, 2, channels, *size), (1, 1), arguments(dtype, (20, 20), colour=colour))
    assert np.array_equal(found.astype(np.float32), expected)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.3, 3.1, 2.9), (5.0, 0.2, 0.9)])
@pytest.mark.parametrize("shape", [(16, 12, 12), (5, 30, 9)])
def test_volumes_get_the_numbers_of_the_exported_geometry(dtype, spacing, shape):
    for size in ((9, 20, 20), (1, 13, 40), (33, 7, 8)):
        given = arguments(dtype, shape, spacing_mm=(1.5, 1.0, 1.2), fill=-1024.0 if dtype == "int16" else 3.0)
        found, expected = both(draw(dtype, 1, 1, *size), spacing, given)
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_pictures_that_are_padded_or_stretched_get_the_numbers_of_the_exported_geometry(dtype, size, fit):
    given = arguments(dtype, (28, 20), fit=fit, fill=7.0)
    found, expected = both(draw(dtype, 3, 2, *size), (1, 1), given)
    assert np.array_equal(found, expected)
    assert Fitting(given).lost(size, np.ones(2)) == 0


def test_volumes_can_be_stretched():
    found, expected = both(draw("int16", 1, 1, 9, 20, 21), (1, 1, 1), arguments("int16", (11, 12, 25), fit="stretch"))
    assert np.array_equal(found, expected)


def test_what_a_crop_cuts_away_is_known_before():
    fitting = Fitting(arguments("uint8", (28, 28)))
    assert fitting.lost((28, 28), np.ones(2)) == fitting.lost((99, 99), np.ones(2)) == 0
    assert fitting.lost((28, 56), np.ones(2)) == fitting.lost((140, 70), np.ones(2)) == 0.5
    volume = Fitting(arguments("int16", (10, 10, 10), spacing_mm=(1.0, 1.0, 1.0)))
    assert volume.lost((10, 10, 10), np.array([2.0, 1.0, 1.0])) == 0.5
    assert volume.lost((5, 5, 5), np.ones(3)) == 0


def test_volumes_without_spacing_are_cropped_and_padded():
    found, expected = both(draw("int16", 2, 1, 9, 20, 21), (1, 1, 1), arguments("int16", (11, 12, 25)))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_agree_to_their_last_digit(dtype):
    found, expected = both(draw("float32", 2, 2, 31, 44), (1, 1), arguments(dtype, (20, 20)))
    assert np.allclose(found, expected, rtol=1e-3 if dtype == "float16" else 1e-6, atol=1e-6)


@pytest.mark.parametrize("bytes_at_once", [1, 10_000])
def test_how_many_planes_are_brought_at_once_changes_no_number(bytes_at_once, monkeypatch):
    x, volume = draw("uint16", 5, 3, 40, 31), draw("int16", 1, 1, 20, 30, 31)
    pictures, volumes = arguments("uint16", (16, 16)), arguments("int16", (7, 12, 12), spacing_mm=(2.0, 1.5, 1.5))
    before = Fitting(pictures)(x, np.ones(2)), Fitting(volumes)(volume, np.ones(3))
    monkeypatch.setattr(fitting, "PLANE_BYTES", bytes_at_once)
    after = Fitting(pictures)(x, np.ones(2)), Fitting(volumes)(volume, np.ones(3))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_sums_that_float32_can_not_hold_are_taken_in_float64():
    x = np.full((1, 1, 499, 499), 65535, np.uint16)
    x[0, 0, ::2] = 65534
    found, expected = both(x, (1, 1), arguments("uint16", (31, 31)))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("size", [(512, 512), (640, 480), (521, 509), (1021, 64)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("wanted", [(224, 224), (17, 100)])
def test_the_fewest_bits_that_hold_all_sums_give_the_same_numbers(dtype, size, wanted):
    extremes = [np.iinfo(dtype).min, np.iinfo(dtype).max] if dtype != "uint16" else [0, 700]
    x = np.random.default_rng(0).choice(extremes, (1, 1, *size)).astype(dtype)  # means near halves, and largest sums
    found, expected = both(x, (1, 1), arguments(dtype, wanted))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 33])
@pytest.mark.parametrize("target", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("wanted", [1, 4, 16, 21])
def test_the_weights_are_those_of_the_exported_geometry_but_for_a_factor(size, target, wanted):
    expected = weights(size, torch.tensor([float(target)]), wanted).numpy()
    found = band(size, target, wanted)
    matrix = found.apply(np.eye(size)[:, None], np.dtype(np.float64))[:, 0]
    assert np.array_equal(matrix * np.gcd(size, target), expected)
    assert np.array_equal(found.totals * np.gcd(size, target), expected.sum(1))


def test_a_number_beyond_half_precision_becomes_infinite_as_in_torch():
    found, expected = both(np.full((1, 1, 4, 4), 65535, np.uint16), (1, 1), arguments("float16", (4, 4)))
    assert np.isinf(found).all() and np.isinf(expected).all()
