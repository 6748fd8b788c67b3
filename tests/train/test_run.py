import math

import numpy as np
import pytest
import torch

from stages.lib import params
from stages.lib.params.train import TrainParams
from stages.lib.train import loop, setup, step
from stages.lib.train.parallel.distributed import World
from tests.train.test_train import LEARNS


def values(model):
    """A model's floating-point weights and statistics by name, in NumPy's double precision."""
    return {n: v.numpy().astype(np.float64) for n, v in model.state_dict().items() if v.is_floating_point()}


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_the_average_decays_by_the_rate_asked_for_once_the_first_steps_are_over(images_h5, decay):
    network = {"name": "convolutional", "arguments": {"norm": "BatchNorm"}}
    given = params.check(TrainParams, LEARNS | {"network": network, "batch_size": 4, "average": decay})
    task, recipe = setup.prepare(images_h5, given, "tiny", torch.device("cpu"), World())
    run = setup.begin(task, recipe)
    expected = values(run.model)
    for i in range(1, 13):
        step.train_batch(run, task, np.arange(4) + 4 * (i % 6), False)
        rate = min(decay, i / (i + 9))  # 0.3 from the fourth step on; 0.9 only from the 81st
        expected = {n: rate * expected[n] + (1 - rate) * value for n, value in values(run.model).items()}
        found = values(run.averaged)
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=f"{name}, step {i}")
    counters = [v for n, v in run.averaged.state_dict().items() if n.endswith("num_batches_tracked")]
    assert counters and all(int(counter) == 12 for counter in counters)


@pytest.mark.parametrize("losses", [[math.nan, 0.5, 0.4], [math.nan, math.nan, 0.4], [0.6, math.nan, 0.4]])
def test_an_epoch_whose_validation_loss_is_no_number_is_not_the_best_one(images_h5, losses):
    given = params.check(TrainParams, LEARNS | {"batch_size": 4, "keep": "best_loss", "patience": 1, "epochs": 4})
    task, recipe = setup.prepare(images_h5, given, "tiny", torch.device("cpu"), World())
    run = setup.begin(task, recipe)
    for value in losses:
        run.sums = step.train_batch(run, task, np.arange(4), False)
        loop.finish_epoch(run, task, {"loss": value, "quality": 0.5})
    assert (run.best.epoch, run.best.value) == (3, 0.4)
    assert not loop.out_of_patience(run, given)
