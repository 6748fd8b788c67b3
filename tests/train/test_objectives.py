"""What a split asks of its samples, and losses of labels, numbers, shares and weights are torch's."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.lib.core.errors import UserError
from stages.lib.model.classifier import Normalise, OrdinalClassifier
from stages.lib.params import check
from stages.lib.params.train import LossParams
from stages.lib.tensors import Asked
from stages.lib.train import losses

RNG = np.random.default_rng(0)
ROWS = np.arange(6)


def split(target=None, y=(0, 1, 2, 2, 1, 0), weight=None):
    to_float = lambda of: None if of is None else np.array(of, np.float32)  # noqa: E731
    return SimpleNamespace(y=np.array(y), target=to_float(target), weight=to_float(weight))


def mean(objective, of, answers) -> torch.Tensor:
    """The loss of all samples as training takes it."""
    asked, weights = objective.targets(of, ROWS), losses.weights_of(of, ROWS)
    return objective.sums(answers, asked, weights)[0] / objective.weight(asked, weights)


LABELS = [[1, 0, math.nan], [0, 0, 1], [1, 1, 0], [math.nan] * 3, [0, 1, 1], [1, 0, 0]]
ANSWERS = torch.from_numpy(RNG.normal(0, 1, (6, 3)).astype(np.float32))


def labels(**given) -> losses.Objective:
    return losses.objective(check(LossParams, given), split(LABELS), Asked("multilabel", ["a", "b", "c"]))


def test_the_loss_of_labels_is_the_cross_entropy_of_the_answers_that_are_known():
    known = ~torch.isnan(torch.tensor(LABELS))
    expected = functional.binary_cross_entropy_with_logits(ANSWERS[known], torch.tensor(LABELS)[known])
    torch.testing.assert_close(mean(labels(), split(LABELS), ANSWERS), expected)
    objective = labels()
    assert objective.of_split(split(LABELS)) == (14, 14)
    right = ((ANSWERS > 0) == (torch.tensor(LABELS) > 0.5))[known].sum()
    assert objective.sums(ANSWERS, torch.tensor(LABELS), None)[1] == right


def test_balanced_labels_count_as_torchs_pos_weight():
    objective = labels(class_weights="balanced")
    table = torch.tensor(LABELS)
    positive, negative = (table == 1).sum(0), (table == 0).sum(0)
    torch.testing.assert_close(objective.class_weights, negative / positive)
    known = ~torch.isnan(table)
    each = functional.binary_cross_entropy_with_logits(
        ANSWERS, table.nan_to_num(), reduction="none", pos_weight=negative / positive
    )
    torch.testing.assert_close(objective.sums(ANSWERS, table, None)[0], each[known].sum())
    with pytest.raises(UserError, match="balanced: all training cases answer c alike"):
        target = [[1, 0, 1]] * 3 + [[0, 1, 1]] * 3
        losses.objective(
            check(LossParams, {"class_weights": "balanced"}), split(target), Asked("multilabel", ["a", "b", "c"])
        )


def test_a_batch_of_which_nothing_is_known_moves_nothing():
    objective, nothing = labels(), torch.full((2, 3), math.nan)
    answers = ANSWERS[:2].clone().requires_grad_()
    loss, _ = objective.sums(answers, nothing, None)
    loss.backward()
    assert (objective.weight(nothing, None), loss.item()) == (0, 0)
    assert torch.equal(answers.grad, torch.zeros(2, 3))


NUMBERS = [[12.0], [18.0], [15.0], [9.0], [21.0], [15.0]]
MM = Asked("regression", ["diameter"], "mm", 15.0, 3.0)


@pytest.mark.parametrize(
    "name, expected, power",
    [("mse", functional.mse_loss, 2), ("l1", functional.l1_loss, 1), (None, functional.mse_loss, 2)],
)
def test_the_loss_of_a_number_is_that_of_torch_in_its_unit(name, expected, power):
    objective = losses.objective(check(LossParams, {"name": name}), split(NUMBERS), MM)
    answers = ANSWERS[:, :1]
    in_mm = answers * 3 + 15
    assert objective.in_unit(float(mean(objective, split(NUMBERS), answers))) == pytest.approx(
        float(expected(in_mm, torch.tensor(NUMBERS))), rel=1e-5
    )
    quality = objective.sums(answers, objective.targets(split(NUMBERS), ROWS), None)[1] / 6
    assert float(quality) == pytest.approx(1 - float(functional.mse_loss(in_mm, torch.tensor(NUMBERS))) / 9, rel=1e-4)


def test_the_huber_loss_is_quadratic_up_to_one_deviation():
    objective = losses.objective(check(LossParams, {"name": "huber"}), split(NUMBERS), MM)
    answers = ANSWERS[:, :1] * 2
    expected = functional.huber_loss(answers * 3 + 15, torch.tensor(NUMBERS), delta=3.0)
    assert objective.in_unit(float(mean(objective, split(NUMBERS), answers))) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_a_logarithm_is_learnt_where_it_is_asked_for():
    asked = Asked("log_regression", ["volume"], "ml", 2.0, 0.5)
    objective = losses.objective(LossParams(), split(NUMBERS), asked)
    found = objective.targets(split(NUMBERS), ROWS)
    torch.testing.assert_close(found, (torch.tensor(NUMBERS).log() - 2) / 0.5)


@pytest.mark.parametrize("given", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"name": "cross_entropy"}])
def test_what_is_of_classes_is_refused_for_numbers(given):
    with pytest.raises(UserError, match="train.loss"):
        losses.objective(check(LossParams, given), split(NUMBERS), MM)


SHARES = [[0.7, 0.2, 0.1], [0, 1, 0], [0.25, 0.25, 0.5], [0, 0.4, 0.6], [0.1, 0.8, 0.1], [1, 0, 0]]
KINDS = {
    "hard": (split(), Asked("classes", ["a", "b", "c"])),
    "shares": (split(SHARES), Asked("classes", ["a", "b", "c"])),
    "labels": (split(LABELS), Asked("multilabel", ["a", "b", "c"])),
    "number": (split(NUMBERS), MM),
}


def test_shares_of_classes_are_what_cross_entropy_takes():
    of, asked = KINDS["shares"]
    objective = losses.objective(LossParams(), of, asked)
    torch.testing.assert_close(mean(objective, of, ANSWERS), functional.cross_entropy(ANSWERS, torch.tensor(SHARES)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_the_case_twice_and_of_nothing_none(kind):
    of, asked = KINDS[kind]
    answers = ANSWERS[:, : len(asked.names)]
    rows = np.array([0, 1, 1, 2, 4, 5])  # the second twice, the fourth not at all
    weighted = split(of.target, of.y, [1, 2, 1, 0, 1, 1])
    twice = split(None if of.target is None else of.target[rows], of.y[rows])
    one, other = (losses.objective(LossParams(), data, asked) for data in (weighted, twice))
    torch.testing.assert_close(mean(one, weighted, answers), mean(other, twice, answers[rows]))
    for found, expected in zip(one.of_split(weighted), other.of_split(twice), strict=True):
        assert found == pytest.approx(expected)
    counted = (objective.count(objective.targets(data, ROWS), losses.weights_of(data, ROWS))
               for objective, data in ((one, weighted), (other, twice)))  # fmt: skip
    assert next(counted) == pytest.approx(next(counted))


def test_ordered_classes_are_a_continuation_ratio_model():
    network = torch.nn.Flatten()
    classifier = OrdinalClassifier(Normalise([-9], [9], [0], [1], 2), network)
    x = torch.from_numpy(RNG.normal(0, 2, (50, 1, 1, 3)).astype(np.float32))
    p = classifier(x).exp()
    above = torch.sigmoid(x.flatten(1))  # the chance to be above each class, of those that are not below it
    expected = [1 - above[:, 0], above[:, 0] * (1 - above[:, 1]), above[:, 0] * above[:, 1] * (1 - above[:, 2])]
    torch.testing.assert_close(p, torch.stack([*expected, above.prod(1)], 1))
    torch.testing.assert_close(p.sum(1), torch.ones(50))
    far = classifier(torch.full((1, 1, 1, 3), 9.0).double()).isfinite()
    assert far.all()
