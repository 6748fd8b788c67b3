import numpy as np
import pytest

from stages.lib import checkpoint, tensors, unlike, validation
from stages.lib.inference import predict
from tests.conftest import write_model_pt


def test_the_threshold_leaves_95_percent_of_the_validation_cases_below():
    logits = np.random.default_rng(0).normal(size=(1000, 3))
    assert (unlike.energies(logits) > unlike.threshold(logits)).mean() == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("corrupt", unlike.CORRUPTIONS.values(), ids=unlike.CORRUPTIONS)
@pytest.mark.parametrize("shape", [(4, 1, 6, 6), (4, 3, 5, 6, 6)])
def test_a_corruption_keeps_shape_and_range_and_changes_every_sample(corrupt, shape):
    x = np.random.default_rng(0).uniform(0, 255, shape)
    low, high = np.zeros((shape[1], *[1] * (len(shape) - 2))), np.full((shape[1], *[1] * (len(shape) - 2)), 255.0)
    spoilt = corrupt(x, (low, high), np.random.default_rng(1))
    assert spoilt.shape == shape
    assert spoilt.min() >= 0 and spoilt.max() <= 255
    assert all(np.abs(a - b).max() > 1 for a, b in zip(spoilt, x, strict=True))


def test_a_blank_stripe_picture_has_a_higher_energy_than_those_the_network_knows(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5, trained=True)
    classifier, _ = checkpoint.load(tmp_path / "model.pt")
    about, test = tensors.read_description(images_h5), tensors.read_split(images_h5, "test")
    fixed = unlike.threshold(predict(classifier, tensors.read_split(images_h5, "validation").x, 8))
    report = unlike.caught(classifier, test.x, validation.span(about), fixed, 8)
    assert list(report) == ["none", *unlike.CORRUPTIONS]
    assert report["blank"]["auroc"] > 0.9
    assert report["blank"]["flagged"] > report["none"]["flagged"]
