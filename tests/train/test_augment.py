from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.lib.params.train import AugmentParams
from stages.lib.train import augment as augment_module
from stages.lib.train import random_by_case
from stages.lib.train.augment import augment, mixing

N = 40
KEYS = random_by_case.epoch_keys(random_by_case.case_keys([b"case%d" % i for i in range(N)]), seed=0, epoch=1)
SHAPES = {2: (2, 7, 9), 3: (1, 4, 7, 9)}
EACH = {
    "shift": (2,),
    "flip": "HW",
    "rotate": 20.0,
    "scale": 0.2,
    "brightness": 0.5,
    "contrast": 0.3,
    "noise": 0.1,
    "cutout": 3,
}
EVERYTHING = EACH | {"fill": "edge"}


def samples(dims):
    return torch.rand(N, *SHAPES[dims], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", EACH)
def test_each_choice_changes_samples_and_keeps_their_shape(name, dims):
    x = samples(dims)
    y = augment(x, KEYS, AugmentParams(**{name: EACH[name]}))
    assert y.shape == x.shape
    assert len({float((after - before).abs().sum()) for before, after in zip(x, y, strict=True)}) > 1
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sample_changes_the_same_way_in_any_batch_and_another_in_another_epoch(dims):
    x, params = samples(dims), AugmentParams(**EVERYTHING)
    whole = augment(x, KEYS, params)
    order = torch.randperm(N)[:11]
    torch.testing.assert_close(augment(x[order], KEYS[order], params), whole[order], rtol=0, atol=0)
    later = random_by_case.epoch_keys(random_by_case.case_keys([b"case%d" % i for i in range(N)]), 0, 2)
    assert not torch.equal(augment(x, later, params), whole)


def test_nothing_asked_for_is_nothing_done():
    x = samples(2)
    assert torch.equal(augment(x, KEYS, AugmentParams()), x)


def test_shifts_are_whole_pixels_either_way_with_the_fill_asked_for():
    x = torch.arange(1.0, 7).expand(N, 1, 1, 6)
    rows = {tuple(row) for row in augment(x, KEYS, AugmentParams(shift=(0, 1), fill="zero"))[:, 0, 0].tolist()}
    assert rows == {(1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 4, 5), (2, 3, 4, 5, 6, 0)}
    rows = {tuple(row) for row in augment(x, KEYS, AugmentParams(shift=(0, 2), fill="reflect"))[:, 0, 0].tolist()}
    assert {(3, 2, 1, 2, 3, 4), (3, 4, 5, 6, 5, 4)} <= rows
    rows = {tuple(row) for row in augment(x, KEYS, AugmentParams(shift=(0, 2), fill="edge"))[:, 0, 0].tolist()}
    assert {(1, 1, 1, 2, 3, 4), (3, 4, 5, 6, 6, 6)} <= rows


def test_flips_mirror_about_half_of_the_samples():
    x = torch.arange(6.0).expand(N, 1, 1, 6)
    mirrored = augment(x, KEYS, AugmentParams(flip="W"))[:, 0, 0, 0] == 5
    assert N / 4 < mirrored.sum() < 3 * N / 4


@pytest.mark.parametrize("dims", [2, 3])
def test_a_flip_without_a_shift_is_the_flip_of_a_shift_by_nothing(dims, monkeypatch):
    x, params = samples(dims), AugmentParams(flip="DHW"[-dims:])
    alone = augment(x, KEYS, params)
    monkeypatch.setattr(augment_module, "_shifts", lambda keys, params, dims: torch.zeros(N, dims, dtype=torch.int64))
    assert torch.equal(alone, augment(x, KEYS, replace(params, shift=(1,))))


@pytest.mark.parametrize("fill", ["reflect", "edge", "zero"])
@pytest.mark.parametrize("dims", [2, 3])
def test_resampling_without_turn_is_what_whole_pixels_give(dims, fill):
    """A turn of nearly nothing takes the interpolating way; it must agree, beyond the edges, too."""
    x = samples(dims)
    exact = augment(x, KEYS, AugmentParams(shift=(2,), flip="HW", fill=fill))
    interpolated = augment(x, KEYS, AugmentParams(shift=(2,), flip="HW", rotate=1e-6, fill=fill))
    torch.testing.assert_close(interpolated, exact, atol=1e-4, rtol=0)


def test_a_quarter_turn_moves_a_pixel_to_where_geometry_says():
    x = torch.zeros(N, 1, 5, 5)
    x[:, 0, 2, 4] = 1  # right of the middle
    y = augment(x, KEYS, AugmentParams(rotate=180.0, fill="zero"))[:, 0]
    distance = ((torch.arange(5.0) - 2).square()[:, None] + (torch.arange(5.0) - 2).square()).sqrt()
    centres = (y * distance).sum((1, 2)) / y.sum((1, 2))
    torch.testing.assert_close(centres, torch.full((N,), 2.0), atol=0.35, rtol=0)
    assert len({int(image.argmax()) for image in y}) > 6  # all around


def test_cutout_zeroes_a_square_of_that_side_at_most():
    y = augment(torch.ones(N, 1, 9, 9), KEYS, AugmentParams(cutout=3))
    zeros = (y == 0).sum((1, 2, 3))
    assert zeros.max() == 9
    assert zeros.min() >= 4  # at a corner, its middle still inside


def test_noise_has_the_deviation_asked_for_and_no_two_samples_share_it():
    y = augment(torch.zeros(N, 1, 50, 50), KEYS, AugmentParams(noise=0.5))
    assert float(y.std()) == pytest.approx(0.5, rel=0.01)
    assert float(y.mean()) == pytest.approx(0, abs=0.01)
    correlation = np.corrcoef(y.reshape(N, -1).numpy()) - np.eye(N)
    assert np.abs(correlation).max() < 0.1


def test_mixup_keeps_the_larger_share_and_picks_partners_evenly():
    keys = random_by_case.epoch_keys(torch.arange(4000), 0, 1)
    partners, own = mixing(keys, AugmentParams(mixup=0.2), 10)
    assert own.min() >= 0.5 and own.max() <= 1
    assert np.bincount(partners, minlength=10).min() > 300


def test_uniform_numbers_are_uniform():
    numbers = random_by_case.uniforms(random_by_case.epoch_keys(torch.arange(500), 3, 7), 0, 200).ravel()
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.005)
    assert np.bincount((numbers * 16).long().numpy(), minlength=16).std() < 4 * (len(numbers) / 16) ** 0.5
    assert 0 <= numbers.min() and numbers.max() < 1
