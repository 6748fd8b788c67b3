"""Verdicts on invented histories; on trainings whose fault is known, `planted` has the table."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from stages.lib import params, tensors
from stages.lib.params.train import TrainParams
from stages.lib.train import losses, setup
from stages.lib.train.diagnosis import capacity, evidence, verdict
from stages.lib.train.diagnosis.capacity import Capacity
from stages.lib.train.diagnosis.evidence import Evidence, Standing
from stages.lib.train.parallel.distributed import World
from tests.conftest import write_dataset_h5
from tests.train import planted
from tests.train.test_train import LEARNS, train_on

CHANCE = Standing(loss=1.1, chance=1.1, floor=0.0, noise=0.03, gain=0.0, gain_noise=0.02, quality=0.33,
                  quality_gain=0.0, quality_gain_noise=0.06)  # fmt: skip
GOOD = replace(CHANCE, loss=0.1, gain=1.0, quality=0.97, quality_gain=0.64)
FAIR = replace(CHANCE, loss=0.6, gain=0.5, quality=0.7, quality_gain=0.37)
POOR = replace(CHANCE, loss=0.9, gain=0.2, quality=0.5, quality_gain=0.17)
WELL = [1.0, 0.5, 0.2, 0.1, 0.1]
FLAT = [1.1] * 5


def history(train, validation, gradients=(0.01, 0.02), rates=None):
    rates = rates or [0.1] * len(train)
    return [
        {
            "epoch": i + 1,
            "train_loss": t,
            "validation_loss": v,
            "lr": rate,
            "gradient first": gradients[0],
            "gradient last": gradients[1],
        }
        for i, (t, v, rate) in enumerate(zip(train, validation, rates, strict=True))
    ]


CYCLE = [0.05, 0.1, 0.05, 0.01, 0.0001]
FALLING = [1.1, 1.0, 0.9, 0.75, 0.6]
RISING = [1.0, 0.6, 0.7, 0.8, 0.9]


@pytest.mark.parametrize(
    ("rows", "train", "validation", "expected"),
    [
        (history(WELL, WELL), GOOD, GOOD, "sound"),
        (history(FLAT, FLAT), CHANCE, CHANCE, "at chance"),
        (history(FLAT[:2], FLAT[:2]), CHANCE, CHANCE, "unfinished"),
        (history(WELL, FLAT), GOOD, CHANCE, "memorisation"),
        (history(WELL, RISING), CHANCE, CHANCE, "memorisation"),  # the first epoch is kept
        (history(WELL, RISING), GOOD, FAIR, "overfitting"),
        (history(WELL, [1.0, 0.6, 0.6, 0.61, 0.62]), GOOD, FAIR, "sound"),  # an accuracy gap alone is none
        (history(WELL, [1.0, 0.9, 0.9, 0.9, 0.9]), GOOD, POOR, "overfitting"),  # half of the way lies between
        (history(WELL, [0.6, 0.6, 0.9, 0.6, 0.6]), GOOD, FAIR, "sound"),  # a peak that is no rise
        (history(FALLING, FALLING), FAIR, FAIR, "unfinished"),
        (history(FALLING, FALLING), FAIR, replace(FAIR, noise=0.4), "underfitting"),  # no more than noise
        (history(FALLING, FALLING, rates=CYCLE), GOOD, GOOD, "sound"),  # as every cycle ends
        (history(FALLING, FALLING, rates=CYCLE), GOOD, FAIR, "sound"),  # nor is it for want of fitting
        (history(FALLING, FALLING, rates=CYCLE), FAIR, FAIR, "unfinished"),
        (history([1.0, 0.9, 0.9, 0.9], [1.0, 0.9, 0.9, 0.9]), POOR, POOR, "underfitting"),
        (history([1.1, 3e4, 1.1], [1.1, 1.4e7, 1.1]), CHANCE, CHANCE, "learning rate too high"),
        (history([1.1, 9.0, 1.0], [1.1, 8.0, 1.0]), POOR, POOR, "learning rate too high"),
        (history([9.0, 1.0, 0.1, 0.1], [9.0, 1.0, 0.1, 0.1]), GOOD, GOOD, "sound"),  # what it began with is forgotten
        (history(WELL, [1.0, math.inf, 1.0, 0.2, 0.1]), GOOD, GOOD, "learning rate too high"),
        (history(WELL, [1.0, math.nan, 1.0, 0.2, 0.1]), GOOD, GOOD, "learning rate too high"),
        (history(FLAT, FLAT, (0.0, 0.1)), CHANCE, CHANCE, "dead layer"),
        (history(FLAT, FLAT, (0.0, 0.0)), CHANCE, CHANCE, "dead layer"),
        (history(FLAT, FLAT, (1e-9, 0.1)), POOR, POOR, "dead layer"),
        (history(WELL, WELL, (0.0, 0.1)), GOOD, GOOD, "sound"),  # what is fitted has no gradient
        (history(FLAT, FLAT, (1e-5, 0.1)), CHANCE, CHANCE, "vanishing gradients"),
        (history(FLAT, FLAT, (100, 0.01)), CHANCE, CHANCE, "exploding gradients"),
        (history(WELL, WELL), FAIR, replace(FAIR, errors=60, auroc=0.52, surest_errors=0.28), "label noise"),
        (history(WELL, WELL), GOOD, replace(FAIR, errors=60, auroc=0.63, surest_errors=0.1), "sound"),  # it knows where
        (history(WELL, WELL), GOOD, replace(FAIR, errors=60, auroc=0.75, surest_errors=0.05), "sound"),
        (history(WELL, WELL), GOOD, replace(FAIR, errors=6, auroc=0.5, surest_errors=0.3), "sound"),  # who knows
        (history(FLAT, FLAT), CHANCE, replace(CHANCE, gain=0.1, gain_noise=0.7), "too few validation cases"),
        (history(FLAT, FLAT), CHANCE, replace(CHANCE, gain_noise=math.inf), "too few validation cases"),
        (history(WELL, [math.nan] * 5), GOOD, Standing(), "not validated"),
        (history(FLAT, [math.nan] * 5), CHANCE, Standing(), "underfitting"),
    ],
)
def test_the_verdict_is_by_chance_and_by_noise(rows, train, validation, expected):
    found = verdict.diagnose(rows, Evidence(train, validation))
    assert found["verdict"] == expected
    assert found["sentence"].startswith(f"{expected}: {len(rows)} epochs, training loss {train.loss:.3g} (chance 1.1)")
    assert "; try " in found["sentence"]


def test_a_dead_layer_is_named():
    found = verdict.diagnose(history(FLAT, FLAT, (0.0, 0.1)), Evidence(CHANCE, CHANCE))
    assert "no gradient reaches first; try" in found["sentence"]
    assert verdict.dead_layers({"gradient a": 1e-12, "gradient b": 1e-8, "gradient c": 1e-4}) == []  # vanishing


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Capacity(0.9, 1.0), "at chance"),
        (Capacity(0.5, 10.0), "at chance"),  # it learns, if slowly
        (Capacity(0.1, 10.0), "learning rate too low"),
        (Capacity(-1.0, 0.1), "learning rate too high"),
        (Capacity(0.2, 0.0), "underfitting"),
    ],
)
def test_a_run_that_learnt_little_is_judged_by_what_a_fresh_copy_can_fit(found, expected):
    diagnosis = verdict.diagnose(history(FLAT, FLAT), Evidence(CHANCE, CHANCE), capacity=lambda: found)
    assert (diagnosis["verdict"], diagnosis["fitting_rate"]) == (expected, found.fitting_rate)


def test_errors_of_a_network_that_cannot_fit_a_few_cases_are_no_label_noise():
    evidence_ = Evidence(POOR, replace(POOR, errors=60, auroc=0.6, surest_errors=0.4))
    rows = history([1.0, 0.9, 0.9, 0.9], [1.0, 0.9, 0.9, 0.9])
    for found, expected in ((Capacity(0.3, 0.0), "underfitting"), (Capacity(0.4, 10.0), "label noise")):
        assert verdict.diagnose(rows, evidence_, capacity=lambda: found)["verdict"] == expected  # noqa: B023


def test_a_run_that_learnt_is_not_asked_for_its_capacity():
    verdict.diagnose(history(WELL, WELL), Evidence(GOOD, GOOD), capacity=lambda: pytest.fail("it was asked"))


def test_shrunk_samples_losses_are_not_compared_with_whole_ones():
    rows = history(WELL, [0.1, 0.5, 0.4, 0.35, 0.35])
    found = Evidence(GOOD, FAIR)
    assert verdict.diagnose(rows, found)["verdict"] == "overfitting"
    assert verdict.diagnose(rows, found, shrunk_epochs=1)["verdict"] == "sound"


def prepared(folder, given, **of):
    """A task, its recipe and a run at its start."""
    write_dataset_h5(folder / "dataset.h5", **of)
    chosen = params.check(TrainParams, LEARNS | given)
    task, recipe = setup.prepare(folder / "dataset.h5", chosen, "tiny", torch.device("cpu"), World())
    return task, recipe, setup.begin(task, recipe)


@pytest.mark.parametrize("kind", [None, "classes", "ordinal", "multilabel", "regression", "log_regression"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_kept_weights_have_the_loss_of_their_epoch_whatever_the_target(tmp_path, kind, weighted):
    write_dataset_h5(tmp_path / "dataset.h5", kind=kind, weighted=weighted)
    _, summary, _ = train_on(tmp_path / "dataset.h5", tmp_path / "out", LEARNS | {"epochs": 2})
    found, kept = summary["diagnosis"], summary["validation"]
    assert found["validation_loss"] == pytest.approx(kept["loss"], rel=1e-4)
    assert found["validation_quality"] == pytest.approx(kept["r2" if "r2" in kept else "accuracy"], rel=1e-4)
    assert 0 < found["validation_noise"] < found["validation_chance"]


def test_cases_that_happen_to_be_right_are_no_certainty(tmp_path):
    task, _, run = prepared(tmp_path, {}, per_split=9)
    assert evidence.gather(run.judged, task).validation.quality_gain_noise >= 1 / 3
    (tmp_path / "few").mkdir()
    task, _, run = prepared(tmp_path / "few", {}, per_split=4)
    assert evidence.gather(run.judged, task).validation.gain_noise == math.inf


def entropy(p):
    return float(-(p * np.log(p)).sum())


def test_chance_is_the_entropy_of_the_classes_and_the_floor_that_of_smoothed_labels(tmp_path):
    task, _, run = prepared(tmp_path, {"loss": {"label_smoothing": 0.3}}, classes=3)
    found = evidence.gather(run.judged, task).validation
    assert found.chance == pytest.approx(entropy(np.full(3, 1 / 3)), rel=1e-4)
    assert found.floor == pytest.approx(entropy(np.array([0.8, 0.1, 0.1])), rel=1e-3)


def test_chance_counts_classes_as_the_loss_does():
    split = planted_split(np.array([0, 0, 0, 1]))
    objective = losses.Objective(losses.LossParams(class_weights=(1.0, 3.0)), split, "ab")
    found = evidence.lowest_loss(objective, objective.targets(split, np.arange(4)), None, alike=True)
    assert found == pytest.approx(math.log(2), rel=1e-4)


def planted_split(y):
    none = np.zeros((len(y), 1, 1, 1), np.uint8)
    return tensors.Split(none, y, np.arange(len(y)).astype("S16"), np.arange(len(y)).astype("S16"))


def test_chance_is_the_variance_of_a_number_in_its_unit_and_the_prevalence_of_each_label(tmp_path):
    task, _, run = prepared(tmp_path, {}, kind="regression")
    number = evidence.gather(run.judged, task).validation
    assert number.chance == pytest.approx(float(task.validation.target.var()), rel=1e-4)
    assert number.floor == pytest.approx(0, abs=1e-4)
    (tmp_path / "labels").mkdir()
    task, _, run = prepared(tmp_path / "labels", {}, kind="multilabel")
    known = [column[~np.isnan(column)] for column in task.train.target.T]
    expected = sum(len(of) * entropy(np.array([of.mean(), 1 - of.mean()])) for of in known) / sum(map(len, known))
    assert evidence.gather(run.judged, task).train.chance == pytest.approx(expected, rel=1e-4)


def test_noise_is_that_of_a_mean_and_cases_of_a_group_count_as_one():
    values = np.array([1.0, 2.0, 4.0, 7.0, 0.0, 1.0, 2.0, 3.0, 5.0])
    ones, ids = np.ones(9), np.array(list("abcdefghi"))
    assert evidence.noise(values, ones, ids) == pytest.approx(2.306 * values.std(ddof=1) / 3, rel=1e-3)
    twice = evidence.noise(np.repeat(values, 2), np.ones(18), np.repeat(ids, 2))
    assert twice == pytest.approx(evidence.noise(values, ones, ids))
    assert evidence.noise(values, ones, np.array(list("abcdefgaa"))) == math.inf


def test_confidence_is_judged_by_the_area_under_its_curve():
    rng = torch.Generator().manual_seed(0)
    answers = torch.randn(60, 3, generator=rng).round(decimals=1)
    split = planted_split(torch.randint(0, 3, (60,), generator=rng).numpy())
    objective = losses.Objective(losses.LossParams(), split, "abc")
    errors, auroc, surest_errors = evidence.confidence(objective, answers, objective.targets(split, np.arange(60)))
    right = answers.argmax(1).numpy() == split.y
    assert errors == (~right).sum()
    assert auroc == pytest.approx(roc_auc_score(right, answers.softmax(1).amax(1).numpy()), abs=1e-6)
    assert surest_errors == (~right)[np.argsort(-answers.softmax(1).amax(1).numpy(), kind="stable")[:15]].mean()


def test_a_diagnosis_leaves_the_random_state_and_the_weights_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity, "STEPS", 10)
    task, recipe, run = prepared(
        tmp_path, {"network": {"arguments": {"dropout": 0.5}}, "loss": {"label_smoothing": 0.1}}
    )
    state, weights = torch.get_rng_state(), run.weights()
    first = evidence.gather(run.judged, task), capacity.capacity(task, recipe)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[name], value) for name, value in run.weights().items())
    assert (evidence.gather(run.judged, task), capacity.capacity(task, recipe)) == first


@pytest.mark.parametrize("optimizer", ["SGD", "LBFGS", "Muon"])
def test_a_fresh_copy_fits_a_few_cases_by_the_runs_own_optimizer(tmp_path, optimizer):
    given = {"optimizer": {"name": optimizer}, "batch_size": 16, "lr": 0.05}
    task, recipe, _ = prepared(tmp_path, given)
    assert capacity.capacity(task, recipe).fitting_rate == 1


def test_a_network_that_cannot_tell_cases_apart_fits_none(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity, "STEPS", 10)
    task, recipe, _ = prepared(tmp_path, {"network": {"arguments": {"widths": [1], "activation": "Sigmoid"}}})
    black = replace(task, train=replace(task.train, x=np.zeros_like(task.train.x)))
    assert capacity.capacity(black, recipe).fitting_rate == 0


QUICK = ("good: a constant rate", "chance: numbers", "learnt by heart: labels", "overfit: faint", "unfinished: a const",
         "lr 50, a number", "dead", "vanishing", "label noise: 25 %", "4 validation")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_fault_is_told(name, tmp_path):
    (case,) = [case for case in planted.CASES if case.what.startswith(name)]
    assert planted.diagnosed(case, tmp_path, planted.SEED)["verdict"] == case.expected
