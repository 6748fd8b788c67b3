import numpy as np
import pytest
import torch

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings, roughness
from stages.lib.model.inference import predict_all
from stages.lib.validate import evaluation, out_of_distribution
from stages.lib.validate.answers import measure
from tests.conftest import write_dataset_h5, write_model_pt


@pytest.mark.parametrize("corrupt", out_of_distribution.CORRUPTIONS.values(), ids=out_of_distribution.CORRUPTIONS)
@pytest.mark.parametrize("shape", [(4, 1, 6, 6), (4, 3, 5, 6, 6)])
def test_a_corruption_keeps_shape_and_range_and_changes_every_sample(corrupt, shape):
    x = np.random.default_rng(0).uniform(0, 255, shape)
    low, high = np.zeros((shape[1], *[1] * (len(shape) - 2))), np.full((shape[1], *[1] * (len(shape) - 2)), 255.0)
    spoilt = corrupt(x, (low, high), np.random.default_rng(1))
    assert spoilt.shape == shape
    assert spoilt.min() >= 0 and spoilt.max() <= 255
    assert all(np.abs(a - b).max() > 1 for a, b in zip(spoilt, x, strict=True))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 4, 8, 8)])
def test_the_threshold_leaves_95_percent_of_cases_like_those_of_validation_below_and_spoilt_ones_beyond(
    tmp_path, shape
):
    write_dataset_h5(tmp_path / "dataset.h5", shape, per_split=120)
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5", trained=True)
    classifier, _ = checkpoint.load(tmp_path / "model.pt")
    about = tensors.read_description(tmp_path / "dataset.h5")
    test, known = (tensors.read_split(tmp_path / "dataset.h5", name).x for name in ("test", "validation"))
    settings = out_of_distribution.with_threshold(measure(classifier, known, 8, ""), Settings())
    second = predict_all(Deployed(classifier, settings, unlike=True).eval(), known, 8)[1]
    assert (second > 0).mean() == pytest.approx(0.05, abs=0.02)
    measured = measure(classifier, test, 8, "")
    report = out_of_distribution.detection(classifier, test, measured, evaluation.intensity_range(about), settings, 8)
    assert list(report) == ["none", *out_of_distribution.CORRUPTIONS]
    assert report["none"]["flagged"] < 0.12
    for name in out_of_distribution.CORRUPTIONS:
        assert report[name]["auroc"] > 0.95 and report[name]["flagged"] > 0.9, name


def test_a_few_validation_cases_give_a_threshold_that_none_of_them_is_beyond(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5, trained=True)
    classifier, _ = checkpoint.load(tmp_path / "model.pt")
    known = tensors.read_split(images_h5, "validation").x[:10]
    measured = measure(classifier, known, 8, "")
    settings = out_of_distribution.with_threshold(measured, Settings())
    limits = evaluation.intensity_range(tensors.read_description(images_h5))
    report = out_of_distribution.detection(classifier, known, measured, limits, settings, 8)
    assert report["none"]["flagged"] == pytest.approx(0, abs=0.1)  # the farthest's own last digit


def test_roughness_tells_a_picture_from_noise_and_from_a_blank():
    ramp = torch.arange(64.0).reshape(1, 1, 8, 8)
    noise = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert roughness(torch.zeros(1, 1, 8, 8)) == 0
    assert roughness(ramp) < 0.5 < 1 < roughness(noise)
    assert roughness(10 * ramp + 3) == pytest.approx(roughness(ramp).item(), rel=1e-4)
    assert roughness(torch.rand(2, 1, 1, 4, 4)).shape == (2,)  # of a single slice, a number


def test_an_empty_validation_split_settles_nothing(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    classifier, _ = checkpoint.load(tmp_path / "model.pt")
    assert out_of_distribution.with_threshold(np.empty((0, 4)), Settings()) == Settings()
    x = np.zeros((3, 1, 8, 8), np.uint8)
    assert out_of_distribution.detection(classifier, x, np.zeros((3, 4)), (0, 255), Settings(), 8) == {}
    with pytest.raises(UserError, match=r"export\.unlike needs"):
        Deployed(classifier, Settings(), unlike=True)
