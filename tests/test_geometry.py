import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as torchvision_functional

from stages.lib.geometry import Geometry, weights

KEEP = {"colour": "keep", "resize": None, "spacing_mm": None, "fill": 0.0, "dtype": "uint8"}


def pixels(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 255, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("resize", [None, 20])
def test_a_picture_of_the_right_shape_comes_out_bit_for_bit(dtype, resize):
    x = pixels(1, 1, 5, 6, dtype=getattr(torch, dtype))
    found = Geometry(**KEEP | {"dtype": dtype, "resize": resize}, shape=(5, 6))(x)
    assert torch.equal(found.to(x.dtype), x)


@pytest.mark.parametrize("size", [(40, 60), (61, 33), (256, 256), (20, 300)])
def test_resize_and_centre_crop_are_torchvisions_rounded(size):
    x = pixels(1, 3, *size)
    resized = [round(32 * n / min(size)) for n in size]  # torchvision would truncate the longer side, if asked for one
    wanted = torchvision_functional.resize(x.double(), resized, antialias=True)
    wanted = torchvision_functional.center_crop(wanted, [28, 28])
    found = Geometry(**KEEP | {"resize": 32}, shape=(28, 28))(x)
    assert_close(found.double(), wanted, atol=0.5 + 1e-9, rtol=0)  # half a level: where it is rounded


@pytest.mark.parametrize("size, wanted", [((40, 80), [20, 40]), ((10, 40), [20, 80])])
def test_without_a_size_an_image_is_scaled_to_just_cover_the_shape(size, wanted):
    found = Geometry(**KEEP, shape=(20, 20)).target(torch.zeros(1, 1, *size), None)
    assert [n.item() for n in found] == wanted


@pytest.mark.parametrize("size, target", [(7, 5), (5, 7), (40, 3), (3, 40), (6, 6), (1, 4)])
def test_the_weights_are_those_of_torchs_antialiased_filter(size, target):
    found = weights(size, torch.tensor([float(target)]), target)
    # One channel per pixel, in which it alone is not 0. Two columns, as torch treats a single one as channels-last.
    picture = torch.eye(size).reshape(1, size, size, 1).repeat(1, 1, 1, 2)
    wanted = interpolate(picture, [target, 2], mode="bilinear", antialias=True)[0, :, :, 0].T
    assert_close((found / found.sum(1, keepdim=True)).float(), wanted, atol=1e-6, rtol=0)


def exact_rows(size: int, target: int, wanted: int) -> np.ndarray:
    """The antialiased triangle filter along an axis that is resampled to `target` and cropped, in fractions."""
    step = Fraction(size, target)
    width = max(step, Fraction(1))
    start = round(Fraction(target - wanted, 2))
    centres = [(i + start + Fraction(1, 2)) * step for i in range(wanted)]
    rows = [[max(Fraction(0), 1 - abs(j + Fraction(1, 2) - centre) / width) for j in range(size)] for centre in centres]
    return np.array([[weight / sum(row) for weight in row] for row in rows])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize(
    ("size", "target", "shape", "spacing"),
    [
        ((21, 33), (7, 11), (7, 9), None),
        ((8, 12), (4, 6), (4, 6), None),
        ((5, 6), (10, 12), (9, 12), None),
        ((6, 8, 12), (3, 4, 6), (3, 4, 6), [2.0, 4.0, 3.0]),
        ((5, 9, 6), (10, 6, 8), (7, 6, 5), [0.5, 3.0, 1.125]),
    ],
)
def test_a_resampled_pixel_is_rounded_by_its_exact_value(dtype, size, target, shape, spacing):
    """Rounding that depends on the order of a sum would differ between runtimes: ties above all."""
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max, size, dtype, endpoint=True)
    halved = size[-1] == 2 * target[-1]
    if halved:
        x = x // 16 * 16  # the filter has eighths along each axis: now there are ties
    x.flat[:2] = limits.min, limits.max
    exact = np.vectorize(Fraction, otypes=[object])(x.astype(int))
    for axis, (n, t, w) in enumerate(zip(size, target, shape, strict=True)):
        exact = np.moveaxis(np.tensordot(exact_rows(n, t, w), exact, (1, axis)), 0, axis)
    geometry = Geometry(**KEEP | {"dtype": dtype, "spacing_mm": spacing}, shape=shape)
    of_case = None if spacing is None else torch.tensor([1.0, 2.0, 1.5], dtype=torch.float64)
    found = geometry(torch.from_numpy(x)[None, None], of_case)[0, 0]
    assert found.tolist() == np.vectorize(round, otypes=[float])(exact).tolist()
    assert not halved or any(value % 1 == Fraction(1, 2) for value in exact.flat), "no tie was tried"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 3)])
def test_torchscript_rounds_to_the_same_integers_as_python(dtype, shape):
    spacing = [1.0, 1.0, 1.0] if len(shape) == 3 else None
    geometry = Geometry(**KEEP | {"dtype": dtype, "spacing_mm": spacing}, shape=shape)
    limits = np.iinfo(dtype)
    x = np.random.default_rng(1).integers(limits.min, limits.max, (2, 1, *(2 * n for n in shape)), dtype)
    of_case = None if spacing is None else torch.full((3,), 0.5, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        compiled = torch.jit.script(geometry)
    assert torch.equal(compiled(torch.from_numpy(x), of_case), geometry(torch.from_numpy(x), of_case))


def test_a_volume_is_resampled_to_the_spacing_and_keeps_its_extent():
    z = torch.arange(10.0).reshape(1, 1, 10, 1, 1).expand(1, 1, 10, 8, 8)
    geometry = Geometry(**KEEP | {"spacing_mm": [2.0, 2.0, 2.0], "dtype": "float32"}, shape=(5, 16, 16))
    found = geometry(z, torch.tensor([1.0, 4.0, 4.0]))
    assert found.shape == (1, 1, 5, 16, 16)
    assert_close(found[0, 0, 1:-1, 0, 0], torch.tensor([2.5, 4.5, 6.5]))  # halfway between two slices


def test_a_volume_of_the_shape_but_of_another_spacing_is_resampled():
    x = pixels(1, 1, 4, 4, 4)
    geometry = Geometry(**KEEP | {"spacing_mm": [1.0, 1.0, 1.0]}, shape=(4, 4, 4))
    assert torch.equal(geometry(x, torch.ones(3)), x.float())
    assert not torch.equal(geometry(x, torch.tensor([2.0, 1.0, 1.0])), x.float())


def test_a_case_that_cannot_be_brought_to_the_shape_says_why():
    spaced = Geometry(**KEEP | {"spacing_mm": [1.0, 1.0, 1.0]}, shape=(4, 4, 4))
    assert "spacing is unknown" in spaced.trouble((1, 4, 4, 4), [float("nan")] * 3)
    assert spaced.trouble((1, 9, 9, 9), [1.0, 2.0, 3.0]) == ""
    coloured = Geometry(**KEEP | {"colour": "rgb"}, shape=(4, 4))
    assert coloured.trouble((2, 4, 4), None) == "its 2 channels can't be made rgb"
    with pytest.raises((IndexError, RuntimeError)):
        coloured(pixels(1, 2, 4, 4))


def test_a_small_case_is_padded_with_the_fill_and_a_large_one_cropped_at_the_centre():
    x = pixels(1, 1, 2, 6, 3)
    found = Geometry(**KEEP | {"fill": 7.0}, shape=(4, 4, 3))(x)
    assert (found[0, 0, [0, 3]] == 7).all()
    assert torch.equal(found[0, 0, 1:3].byte(), x[0, 0, :, 1:5])


def test_rounding_saturates_instead_of_wrapping_around():
    def rounded(dtype: str, values: list[float]) -> list[float]:
        x = torch.tensor(values).reshape(1, 1, 1, -1)
        return Geometry(**KEEP | {"dtype": dtype}, shape=(1, len(values)))(x).flatten().tolist()

    assert rounded("uint8", [-5.0, 0.5, 1.5, 300.0]) == [0, 0, 2, 255]
    assert rounded("int16", [-4e4, 7e4]) == [-32768, 32767]
    assert rounded("uint16", [-4e4, 7e4]) == [0, 65535]


def test_grey_is_the_mean_or_the_luminance_and_rgb_is_grey_three_times():
    x = torch.tensor([10, 20, 60], dtype=torch.uint8).reshape(1, 3, 1, 1)

    def recoloured(colour: str, x: torch.Tensor) -> list[float]:
        return Geometry(**KEEP | {"colour": colour, "dtype": "float32"}, shape=(1, 1))(x).flatten().tolist()

    assert recoloured("grey_mean", x) == [30]
    assert recoloured("grey_luminance", x) == pytest.approx([0.2126 * 10 + 0.7152 * 20 + 0.0722 * 60])
    assert recoloured("rgb", x[:, :1]) == [10, 10, 10]
    for colour in ("grey_mean", "grey_luminance"):
        assert recoloured(colour, x[:, :1]) == [10]


@pytest.mark.parametrize("colour", ["keep", "rgb", "grey_mean", "grey_luminance"])
def test_torchscript_compiles_to_the_same_numbers(colour):
    geometry = Geometry(**KEEP | {"colour": colour}, shape=(5, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        compiled = torch.jit.script(geometry)
    for size in ((3, 5, 7), (3, 12, 9), (3, 2, 40)):
        assert torch.equal(compiled(pixels(2, *size)), geometry(pixels(2, *size)))
