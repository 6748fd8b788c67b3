from dataclasses import replace

import numpy as np
import pytest

from stages.lib import moments
from stages.lib.moments import Moments

PERCENTILES = (0, 0.5, 10, 33.3, 50, 99.5, 100)


def draw(dtype: str, number: int = 10_007) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return rng.normal(3, 10, number).astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(rng.normal(info.min / 2 + info.max / 2, info.max / 4, number), info.min, info.max).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_integers_are_summed_up_exactly(dtype):
    pixels = draw(dtype)
    counted = Moments(dtype)
    counted.add(pixels[:5000])
    counted.add(pixels[5000:].reshape(-1, 1))
    found = counted.summary(PERCENTILES, bins=10)
    exact = pixels.astype(np.int64)
    assert found.count == len(pixels)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-14)
    assert found.deviation == pytest.approx(exact.std(), rel=1e-13)
    assert (found.minimum, found.maximum) == (exact.min(), exact.max())
    assert list(found.percentiles.values()) == pytest.approx(np.percentile(exact, PERCENTILES).tolist(), rel=1e-12)
    counts, edges = np.histogram(exact, 10)
    assert found.counts == counts.tolist()
    assert found.edges == pytest.approx(edges.tolist())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_have_exact_moments_and_percentiles_to_a_hundredth(dtype):
    pixels = draw(dtype)
    counted = Moments(dtype)
    counted.add(pixels)
    found = counted.summary(PERCENTILES)
    exact = pixels.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-9)
    assert found.deviation == pytest.approx(exact.std(), rel=1e-9)
    assert (found.minimum, found.maximum) == (exact.min(), exact.max())
    assert list(found.percentiles.values()) == pytest.approx(np.percentile(exact, PERCENTILES).tolist(), rel=0.01)
    assert sum(found.counts) == len(pixels)


def test_the_order_and_the_size_of_the_pieces_change_nothing(monkeypatch):
    pixels = draw("int16")
    whole, pieces = Moments("int16"), Moments("int16")
    whole.add(pixels)
    monkeypatch.setattr(moments, "BLOCK_PIXELS", 7)
    pieces.add(pixels[::-1])
    assert whole.summary(PERCENTILES) == pieces.summary(PERCENTILES)


def test_large_sums_do_not_overflow():
    counted = Moments("uint16")
    counted._counts[65535] = 2**50  # as 40,000 scans of 160 megapixels have
    counted._counts[65533] = 2**50
    found = counted.summary((50,))
    assert (found.mean, found.deviation) == (65534, 1)


def test_a_single_value_has_one_bin():
    counted = Moments("uint8")
    counted.add(np.full(5, 7, np.uint8))
    found = counted.summary((50,))
    assert (found.deviation, found.counts, found.percentiles) == (0, [5], {"50": 7})


@pytest.mark.parametrize("ends", [(1e9, 1e9 + 64), (-3e38, 3e38), (3e38, 3e38), (0, 1e-40)])
def test_floats_of_any_size_have_a_histogram(ends):
    moments = Moments("float32")
    moments.add(np.resize(np.float32(ends), (1, 100)))
    found = moments.summary((50,))
    assert sum(found.counts) == 100
    assert (found.minimum, found.maximum) == tuple(np.float32(ends).tolist())


def test_a_pixel_that_is_no_number_is_refused():
    counted = Moments("float32")
    counted.add(np.array([1, np.nan], np.float32))
    with pytest.raises(ValueError, match="nan or infinite"):
        counted.count_waiting()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_pixels_that_come_in_small_parts_are_counted_like_those_that_come_at_once(dtype, monkeypatch):
    monkeypatch.setattr(moments, "BLOCK_PIXELS", 1000)
    x = np.random.default_rng(0).integers(0, 100, (7, 10, 43)).astype(dtype)
    at_once, in_parts = Moments(dtype), Moments(dtype)
    at_once.add(x)
    for part in np.split(x.reshape(-1), [1, 5, 900, 901, 2500]):
        in_parts.add(part)
    found, expected = in_parts.summary((1, 50)), at_once.summary((1, 50))
    assert found.deviation == pytest.approx(expected.deviation, rel=1e-12)
    assert replace(found, mean=0, deviation=0) == replace(expected, mean=0, deviation=0)
    assert found.mean == pytest.approx(expected.mean, rel=1e-12)


def test_an_unsupported_dtype_is_refused():
    with pytest.raises(ValueError, match="int64"):
        Moments("int64")
