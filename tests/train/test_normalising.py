import numpy as np
import pytest
import torch

from stages.lib import tensors
from stages.lib.model.classifier import Normalise
from stages.lib.params.train import NormaliseParams
from stages.lib.train import normalising


@pytest.mark.parametrize("dataset", ["images_h5", "volumes_h5"])
@pytest.mark.parametrize(
    ("given", "expected"),  # lowest, highest, mean, deviation of the training split; None is not asked
    [
        ({"to": "unit"}, (0, 1, None, None)),
        ({"to": "symmetric"}, (-1, 1, None, None)),
        ({"to": "standardise"}, (None, None, 0, 1)),
        ({"to": "unit", "window": (0, 100)}, (0, 1, None, None)),
        ({"to": "standardise", "window": (0, 100)}, (None, None, 0, 1)),
    ],
)
def test_the_training_split_gets_the_range_or_moments_asked_for(dataset, given, expected, request):
    path = request.getfixturevalue(dataset)
    x = tensors.read_split(path, "train").x
    found = normalising.arguments(NormaliseParams(**given), tensors.read_description(path), x)
    y = Normalise(**found)(torch.from_numpy(x.copy()))
    for figure, wanted in zip((y.min(), y.max(), y.mean(), y.std()), expected, strict=True):
        assert wanted is None or float(figure) == pytest.approx(wanted, abs=5e-3)


def test_a_given_mean_and_deviation_are_of_data_scaled_to_one(images_h5):
    given = NormaliseParams(mean=(0.485,), deviation=(0.229,))
    found = normalising.arguments(given, tensors.read_description(images_h5), np.zeros(()))
    y = Normalise(**found)(torch.tensor([0, 255]).reshape(2, 1, 1, 1))
    assert y.ravel().tolist() == pytest.approx([-0.485 / 0.229, (1 - 0.485) / 0.229], rel=1e-5)
