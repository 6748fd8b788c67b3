import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.nn import functional

from stages.lib.params.train import LossParams
from stages.lib.train import devices, losses
from stages.lib.train.diagnosis import gradients
from tests.train.test_train import LEARNS, train_on

LOGITS, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0])


def sums(weights=(1.0, 1.0, 1.0), **given):
    split = SimpleNamespace(y=Y.numpy(), target=None, weight=None)
    objective = losses.Objective(LossParams(class_weights=weights, **given), split, "abc")
    return objective.sums(LOGITS, losses.targets(Y, 3), None)


def test_label_smoothing_is_that_of_torch():
    expected = functional.cross_entropy(LOGITS, Y, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(sums(label_smoothing=0.2)[0], expected)


def test_class_weights_are_those_of_torch():
    weights = (1.0, 2.0, 5.0)
    expected = functional.cross_entropy(LOGITS, Y, torch.tensor(weights), reduction="sum")
    torch.testing.assert_close(sums(weights)[0], expected)


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_class_weights_with_label_smoothing_are_those_of_torch(name):
    weights = (1.0, 2.0, 5.0)
    expected = functional.cross_entropy(LOGITS, Y, torch.tensor(weights), reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(sums(weights, name=name, label_smoothing=0.2)[0], expected)


def test_float32_is_no_tensor_float_32_on_cuda(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    devices.set_deterministic(True, compiled=False)
    assert not torch.backends.cudnn.allow_tf32


def test_right_answers_are_counted():
    assert float(sums()[1]) == float((LOGITS.argmax(1) == Y).sum())


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_class_weights_say_how_much_one_class_counts_beside_the_others(images_h5, tmp_path, mixup):
    given = LEARNS | {"augment": {"mixup": mixup}}
    _, _, none = train_on(images_h5, tmp_path / "none", given)
    _, _, threes = train_on(images_h5, tmp_path / "threes", given | {"loss": {"class_weights": [3.0, 3.0, 3.0]}})
    _, _, uneven = train_on(images_h5, tmp_path / "uneven", given | {"loss": {"class_weights": [9.0, 1.0, 1.0]}})
    pd.testing.assert_frame_equal(none, threes, rtol=1e-4)
    assert (none["validation_loss"] - uneven["validation_loss"]).abs().min() > 1e-3


def test_gradients_that_float16_has_not_scaled_yet_are_not_looked_at(images_h5, tmp_path, monkeypatch):
    calls, real = [], gradients.gradient_norms

    def norms(network):
        calls.append(1)
        found = real(network)
        return found if len(calls) > 1 else dict.fromkeys(found, math.inf)

    monkeypatch.setattr(gradients, "gradient_norms", norms)
    _, _, history = train_on(images_h5, tmp_path / "out", LEARNS | {"batch_size": 8})
    assert len(calls) > 3
    assert history.filter(like="gradient").map(math.isfinite).all(axis=None)
