"""The network is asked about each case once, and what follows is what the deployed model says."""

import math

import numpy as np
import pytest

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings
from stages.lib.model.inference import predict
from stages.lib.validate.answers import ask
from tests.conftest import write_dataset_h5, write_model_pt


@pytest.mark.parametrize("flips", ["", "W", "HW"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 4, 8, 8)])
def test_probabilities_are_those_of_the_deployed_model_bit_for_bit(tmp_path, flips, shape):
    write_dataset_h5(tmp_path / "d.h5", shape)
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5", trained=True)
    classifier, _ = checkpoint.load(tmp_path / "m.pt")
    split = tensors.read_split(tmp_path / "d.h5", "test")
    asked: list[int] = []
    classifier.network.register_forward_hook(lambda network, given, output: asked.append(len(output)))
    answers = ask(classifier, split, flips, 7, "test")
    assert len(asked) == math.ceil(len(split.y) / 7) * (1 + len(flips))
    for temperature in (1.0, 1.7):
        deployed = Deployed(classifier, Settings(temperature=temperature, flips=flips)).eval()
        assert np.array_equal(answers.probabilities(temperature), predict(deployed, split.x, 7))


def test_an_answer_that_is_no_number_names_its_case(tmp_path):
    write_dataset_h5(tmp_path / "d.h5")
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5")
    classifier, _ = checkpoint.load(tmp_path / "m.pt")
    next(classifier.network.parameters()).data.fill_(math.nan)
    split = tensors.read_split(tmp_path / "d.h5", "test")
    with pytest.raises(UserError, match="answer to case te0000 is no finite number, and so are 24 of 24"):
        ask(classifier, split, "", 8, "test")
