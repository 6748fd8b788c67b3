import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as torchvision_functional

from stages.lib.geometry import Geometry, crop_or_pad, recolour, resample, to_dtype

KEEP = {"colour": "keep", "resize": None, "spacing_mm": None, "fill": 0.0, "dtype": "uint8"}


def pixels(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 255, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_case_of_the_right_shape_comes_out_bit_for_bit(dtype):
    x = pixels(1, 1, 5, 6, dtype=getattr(torch, dtype))
    assert torch.equal(Geometry(**KEEP | {"dtype": dtype}, shape=(5, 6))(x), x)


@pytest.mark.parametrize("size", [(40, 60), (61, 33), (256, 256), (20, 300)])
def test_resize_and_centre_crop_agree_with_torchvision(size):
    x = pixels(1, 3, *size)
    wanted = torchvision_functional.resize(x.float(), [32], antialias=True)
    wanted = torchvision_functional.center_crop(wanted, [28, 28]).round()
    found = Geometry(**KEEP | {"resize": 32}, shape=(28, 28))(x)
    short = min(size)
    if 32 * max(size) % short:  # torchvision truncates the longer side, here it is rounded
        assert found.shape == wanted.shape
    else:
        assert_close(found.float(), wanted, atol=1, rtol=0)


def test_without_a_size_an_image_is_scaled_to_just_cover_the_shape():
    geometry = Geometry(**KEEP, shape=(20, 20))
    assert geometry.target_size((40, 80), None) == [20, 40]
    assert geometry.target_size((10, 40), None) == [20, 80]


def test_a_volume_is_resampled_to_the_spacing_and_keeps_its_extent():
    z = torch.arange(10.0).reshape(1, 1, 10, 1, 1).expand(1, 1, 10, 8, 8)
    geometry = Geometry(**KEEP | {"spacing_mm": [2.0, 2.0, 2.0], "dtype": "float32"}, shape=(5, 16, 16))
    found = geometry(z, [1.0, 4.0, 4.0])
    assert found.shape == (1, 1, 5, 16, 16)
    assert_close(found[0, 0, 1:-1, 0, 0], torch.tensor([2.5, 4.5, 6.5]))  # the middle between two slices


def test_resampling_a_volume_is_resampling_its_axes_one_by_one():
    x = pixels(1, 2, 9, 12, 10).float()
    plane = torch.stack([resample(x[:, :, i], (6, 7)) for i in range(9)], dim=2)
    wanted = torch.stack([resample(plane[:, :, :, i], (4, 7)) for i in range(6)], dim=3)
    assert_close(resample(x, (4, 6, 7)), wanted)


def test_a_volume_of_unknown_spacing_is_refused():
    geometry = Geometry(**KEEP | {"spacing_mm": [1.0, 1.0, 1.0]}, shape=(4, 4, 4))
    with pytest.raises(ValueError, match="spacing is unknown"):
        geometry(pixels(1, 1, 4, 4, 4), [float("nan")] * 3)


def test_a_small_case_is_padded_with_the_fill_and_a_large_one_cropped_at_the_centre():
    x = pixels(1, 1, 2, 6)
    found = crop_or_pad(x, (4, 4), fill=7)
    assert found[0, 0, 0].tolist() == [7, 7, 7, 7]
    assert torch.equal(found[0, 0, 1:3].byte(), x[0, 0, :, 1:5])


def test_rounding_saturates_instead_of_wrapping_around():
    assert to_dtype(torch.tensor([-5.0, 0.5, 1.5, 300.0]), torch.uint8).tolist() == [0, 0, 2, 255]
    assert to_dtype(torch.tensor([-4e4, 7e4]), torch.int16).tolist() == [-32768, 32767]
    assert to_dtype(torch.tensor([-4e4, 7e4]), torch.uint16).tolist() == [0, 65535]


def test_grey_is_the_mean_or_the_luminance_and_rgb_is_grey_three_times():
    x = torch.tensor([10, 20, 60], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert recolour(x, "grey_mean").item() == pytest.approx(30)
    assert recolour(x, "grey_luminance").item() == pytest.approx(0.2126 * 10 + 0.7152 * 20 + 0.0722 * 60)
    assert recolour(x[:, :1], "rgb").flatten().tolist() == [10, 10, 10]
    assert recolour(x[:, :1], "grey_mean") is not None
    with pytest.raises(ValueError, match="2 channels"):
        recolour(x[:, :2], "rgb")
