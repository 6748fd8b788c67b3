from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.lib.params.train import LossParams
from stages.lib.train import losses

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]], requires_grad=True)
Y = torch.tensor([0, 2])
ONE_HOT = losses.targets(Y, 3)


def test_each_loss_is_that_of_torch():
    shares = LOGITS.softmax(1)
    expected = {
        "cross_entropy": functional.cross_entropy(LOGITS, Y),
        "nll": functional.nll_loss(functional.log_softmax(LOGITS, 1), Y),
        "bce": functional.binary_cross_entropy(shares, ONE_HOT),
        "bce_with_logits": functional.binary_cross_entropy_with_logits(LOGITS, ONE_HOT),
        "mse": functional.mse_loss(shares, ONE_HOT),
    }
    assert expected.keys() == losses.LOSSES.keys()
    known = {*losses.LOSSES, *losses.LABEL_LOSSES, *losses.NUMBER_LOSSES}
    assert known == set(get_args(get_args(get_type_hints(LossParams)["name"])[0]))
    for name, loss in expected.items():
        torch.testing.assert_close(losses.LOSSES[name](LOGITS, ONE_HOT).mean(), loss)


def test_balanced_class_weights_give_every_class_the_same_sum():
    y = np.array([0] * 6 + [1] * 3 + [2])
    weights = losses.class_weights(LossParams(class_weights="balanced"), y, ["a", "b", "c"])
    sums = [float(weights[y[y == label]].sum()) for label in range(3)]
    assert sums == pytest.approx([10 / 3] * 3)


def test_a_class_without_cases_can_not_be_balanced():
    with pytest.raises(ValueError, match="no case of b"):
        losses.class_weights(LossParams(class_weights="balanced"), np.array([0, 0]), ["a", "b"])


def test_penalties_are_the_sums_of_magnitudes_and_squares():
    weights = [torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([[3.0]], requires_grad=True)]
    assert losses.penalty(weights, 0.1, 0).item() == pytest.approx(0.6)
    assert losses.penalty(weights, 0, 0.1).item() == pytest.approx(1.4)
    assert losses.penalty([*weights, torch.ones(9)], 0.1, 0).item() == pytest.approx(0.6)  # frozen weights are none
