"""Scores of ordered classes, shares, labels and numbers against scikit-learn and scipy; the stage on each of them."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from stages.lib.tensors import Asked, Split
from stages.lib.validate import (
    answers,
    curves,
    evaluation,
    figures,
    label_scores,
    number_scores,
    out_of_distribution,
    scores,
)
from stages.lib.validate.kinds import labels, numbers
from stages.lib.validate.kinds.classes import Classes
from tests.conftest import write_model_pt
from tests.validate import other_targets as made

LABELS = Asked("multilabel", ["a", "b", "c"])


def split_of(y, target=None, weight=None):
    names = np.array([f"{i:04d}" for i in range(len(y))], "S16")
    return Split(np.zeros((len(y), 1, 2, 2), np.uint8), np.asarray(y), names, names, target, weight)


def some_labels(n=80, seed=0):
    """Truth with unknown answers, and probabilities, (n, 3) each."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 3)) < (0.5, 0.3, 0.2)).astype(float)
    said = (0.3 * truth + 0.7 * rng.random((n, 3))).round(2)
    truth[rng.random((n, 3)) < 0.2] = np.nan
    return truth, said


def some_numbers(n=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(20, 5, n).round(0)
    value = truth + rng.normal(0.5, 2, n).round(1)
    return truth, np.stack([value, value - 3, value + 3], 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_numbers_have_the_scores_of_scikit_learn_and_scipy(weighted):
    truth, said = some_numbers()
    times = np.random.default_rng(1).integers(0, 3, len(truth)) if weighted else np.ones(len(truth), int)
    found = {name: float(of[0]) for name, of in number_scores.weighted(truth, said, times[None].astype(float)).items()}
    t, v = np.repeat(truth, times), np.repeat(said[:, 0], times)
    assert found == pytest.approx(
        {
            "r2": metrics.r2_score(t, v),
            "spearman": stats.spearmanr(t, v).statistic,
            "mae": metrics.mean_absolute_error(t, v),
            "rmse": metrics.root_mean_squared_error(t, v),
            "median_error": metrics.median_absolute_error(t, v),
            "bias": (v - t).mean(),
            "coverage": (np.abs(v - t) <= 3).mean(),
        }
    )


def test_a_constant_truth_has_no_r2_and_no_correlation():
    said = some_numbers()[1]
    found = number_scores.weighted(np.full(len(said), 12.3), said, np.ones((1, len(said))))
    assert np.isnan(found["r2"][0]) and np.isnan(found["spearman"][0]) and np.isfinite(found["mae"][0])
    one = number_scores.weighted(np.array([1.0]), said[:1], np.ones((1, 1)))
    assert np.isnan(one["r2"][0]) and np.isfinite(one["mae"][0])


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_have_the_scores_of_scikit_learn_over_the_answers_that_are_known(weighted):
    truth, said = some_labels()
    weight = np.random.default_rng(1).integers(0, 3, len(truth)).astype(float) if weighted else np.ones(len(truth))
    thresholds = np.array([0.5, 0.4, 0.6])
    overall, per_label = label_scores.weighted(truth, said, thresholds, weight[None])
    expected = {name: [] for name in label_scores.PER_LABEL}
    for k in range(3):
        known = ~np.isnan(truth[:, k])
        t, p, w = truth[known, k], said[known, k], weight[known]
        held = p >= thresholds[k]
        expected["precision"].append(metrics.precision_score(t, held, sample_weight=w))
        expected["recall"].append(metrics.recall_score(t, held, sample_weight=w))
        expected["specificity"].append(metrics.recall_score(1 - t, ~held, sample_weight=w))
        expected["f1"].append(metrics.f1_score(t, held, sample_weight=w))
        expected["auroc"].append(metrics.roc_auc_score(t, p, sample_weight=w))
        expected["average_precision"].append(metrics.average_precision_score(t, p, sample_weight=w))
    for name, of_each in expected.items():
        assert per_label[name][0] == pytest.approx(of_each), name
    means = {"auroc": "auroc", "average_precision": "average_precision", "macro_f1": "f1"}
    for name, of in (means | {"macro_sensitivity": "recall", "macro_specificity": "specificity"}).items():
        assert overall[name][0] == pytest.approx(np.mean(expected[of])), name
    known = ~np.isnan(truth)
    t, p, w = truth[known], said[known], np.repeat(weight[:, None], 3, 1)[known]
    assert overall["log_loss"][0] == pytest.approx(metrics.log_loss(t, p, sample_weight=w))
    assert overall["brier"][0] == pytest.approx(metrics.brier_score_loss(t, p, sample_weight=w))
    bins = np.minimum((p * 15).astype(int), 14)
    gaps = [abs((w * (p - t))[bins == b].sum()) for b in range(15)]
    assert overall["calibration_error"][0] == pytest.approx(sum(gaps) / w.sum())


def test_a_label_that_nobody_knows_has_no_score_and_leaves_the_means_to_the_others():
    truth, said = some_labels()
    truth[:, 2] = np.nan
    overall, per_label = label_scores.weighted(truth, said, np.full(3, 0.5), np.ones((1, len(truth))))
    assert all(np.isnan(per_label[name][0, 2]) for name in label_scores.PER_LABEL)
    assert overall["auroc"][0] == pytest.approx(per_label["auroc"][0, :2].mean())


def test_grades_have_the_quadratic_kappa_of_scikit_learn_and_shares_are_what_losses_are_against():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, 90), rng.dirichlet(np.ones(4), 90)
    weight = rng.integers(0, 3, 90).astype(np.float32)
    shares = (0.8 * np.eye(4)[y] + 0.05).astype(np.float32)
    kind = Classes(Asked("ordinal", list("abcd")))
    found = kind.overall(split_of(y, shares, weight), p)
    kappa = metrics.cohen_kappa_score(y, p.argmax(1), weights="quadratic", sample_weight=weight)
    assert found["quadratic_kappa"] == pytest.approx(kappa)
    assert found["mae"] == pytest.approx(np.average(np.abs(y - p.argmax(1)), weights=weight))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(1), sample_weight=weight))
    assert found["log_loss"] == pytest.approx(np.average(-(shares * np.log(p)).sum(1), weights=weight))
    assert found["brier"] == pytest.approx(np.average(np.square(shares - p).sum(1), weights=weight))


def test_answers_that_are_the_shares_themselves_are_calibrated():
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 60).astype(np.float32)
    kind, split = Classes(Asked("classes", list("abc"))), split_of(shares.argmax(1), shares)
    assert kind.overall(split, shares.astype(float))["calibration_error"] == pytest.approx(0, abs=1e-6)
    table = kind.reliability(split, shares.astype(float))
    assert table["accuracy"].to_numpy() == pytest.approx(table["confidence"].to_numpy())
    swapped = shares[:, [1, 2, 0]].astype(float)
    gap = swapped.max(1) - shares[np.arange(60), swapped.argmax(1)]
    of_bins = [gap[scores.bin_of(swapped.max(1)) == k].sum() for k in range(scores.BINS)]
    assert kind.overall(split, swapped)["calibration_error"] == pytest.approx(np.abs(of_bins).sum() / 60)


def test_half_the_width_of_an_interval_is_the_error_of_the_rank_of_split_conformal_prediction():
    off = np.random.default_rng(0).permutation(np.arange(1.0, 100.0))  # of 99 cases, rank 90
    assert numbers.half_width(off, 0.9) == 90.0
    assert numbers.half_width(off, 0.9, np.full(99, 2.0)) == 90.0
    assert numbers.half_width(np.array([1.0, 3.0]), 0.9) == 3.0, "too few: the largest"
    assert numbers.half_width(np.array([1.0, 50.0]), 0.9, np.array([1.0, 0.0])) == 1.0, "a weight of 0 counts nothing"
    assert numbers.half_width(np.empty(0), 0.9) == 0.0
    assert numbers.half_width(np.array([1 / 3]), 0.9) >= 1 / 3, "rounded up"


def test_a_threshold_has_the_highest_f1_of_all_and_is_a_half_where_there_are_few_positives():
    truth, said = some_labels()
    one = labels.Labels(LABELS).ranking(0, split_of(np.zeros(80, int), truth), said)
    found = labels.threshold(one)
    best = max(metrics.f1_score(one.positive, one.score >= cut) for cut in one.score)
    assert metrics.f1_score(one.positive, one.score >= found) == pytest.approx(best)
    few = truth.copy()
    few[np.flatnonzero(few[:, 0] == 1)[4:], 0] = np.nan
    assert labels.threshold(labels.Labels(LABELS).ranking(0, split_of(np.zeros(80, int), few), said)) == 0.5


@pytest.mark.parametrize(
    ("lowest_with", "highest_without", "wanted"), [(0.95, 0.05, 0.5), (1.0, 0.0, 0.5), (0.4, 0.4, 0.4)]
)
def test_a_threshold_is_midway_between_the_cases_on_its_two_sides(lowest_with, highest_without, wanted):
    positive = np.repeat([True, False], 5)
    score = np.where(positive, lowest_with, highest_without).astype(np.float32)
    found = labels.threshold(curves.ranking("a", positive, score, None))
    assert found == pytest.approx(wanted, rel=1e-4) and (score[positive] >= found).all()


def test_the_limits_of_agreement_are_those_of_bland_and_altman():
    differences = np.random.default_rng(0).normal(1, 2, 30)
    mean, low, high = figures.limits_of_agreement(differences)
    wide = 1.96 * differences.std(ddof=1)
    assert (mean, low, high) == pytest.approx(
        (differences.mean(), differences.mean() - wide, differences.mean() + wide)
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 8, 8)])
@pytest.mark.parametrize("kind", made.ASKED)
def test_each_kind_of_answer_is_measured_on_pictures_and_volumes(tmp_path, kind, shape):
    made.write(tmp_path / "d.h5", kind, shape, weighted=len(shape) == 3)
    made.write_trained(tmp_path / "m.pt", tmp_path / "d.h5")
    report = made.run(tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=50)
    for name, (low, high) in report["test_interval"].items():
        assert low is None or low <= report["test"][name] <= high, name
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert len(table) == 2 * made.CASES and ("weight" in table) == (len(shape) == 3)
    asked = made.ASKED[kind]
    if asked.target.of_number:
        name, on_test = asked.names[0], table[table["split"] == "test"]
        truth = tensors.read_split(tmp_path / "d.h5", "test").target[:, 0]
        assert on_test["label"].astype(float).to_numpy() == pytest.approx(truth, rel=1e-5)
        assert (on_test[f"{name} low"] < on_test[name]).all() and report["test"]["r2"] > 0.3
        with pytest.raises(UserError, match="is a number: leave it out"):
            point = {"positive": name, "sensitivity": 0.9}
            (tmp_path / "scores.csv").unlink()
            made.run(tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=0, operating_point=point)
        assert not (tmp_path / "scores.csv").exists()
    if kind == "multilabel":
        assert set(table["true mass"].astype(str)) == {"0", "1", ""}


@pytest.mark.slow
@pytest.mark.parametrize("of_test", [0.0, np.nan])
def test_a_label_that_no_test_case_has_or_that_nobody_knows_there_has_no_scores_and_leaves_the_others_theirs(
    tmp_path, of_test
):
    made.write(tmp_path / "d.h5", "multilabel")
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file["test/target"][:, 2] = of_test
    made.write_trained(tmp_path / "m.pt", tmp_path / "d.h5")
    point = {"positive": "rare", "sensitivity": 0.9}
    report = made.run(tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=20, operating_point=point)
    table = pd.read_csv(tmp_path / "scores.csv")
    scores = table[table["split"] == "test"].pivot(index="class", columns="score", values="value")
    for name in ("auroc", "average_precision", "recall"):
        assert np.isnan(scores[name]["rare"]) and np.isfinite(scores[name][["effusion", "mass"]]).all(), name
        assert report["test"]["auroc"] == pytest.approx(scores["auroc"][["effusion", "mass"]].mean(), abs=1e-5)
    assert report["operating_point"]["positive"] == "rare"
    assert report["operating_point"]["test"]["sensitivity"] is None
    assert (report["operating_point"]["test"]["specificity"] is None) == bool(np.isnan(of_test))


@pytest.mark.slow
def test_an_operating_point_of_a_label_is_of_its_known_answers_and_of_no_other_label(tmp_path):
    made.write(tmp_path / "d.h5", "multilabel")
    made.write_trained(tmp_path / "m.pt", tmp_path / "d.h5")
    point = {"positive": "effusion", "sensitivity": 0.9}
    report = made.run(tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=0, operating_point=point)
    found = report["operating_point"]
    table = pd.read_csv(tmp_path / "predictions.csv")
    for split in ("validation", "test"):
        known = table[(table["split"] == split) & table["true effusion"].notna()]
        positive, above = known["true effusion"] == 1, known["effusion"] >= found["threshold"]
        assert found[split]["sensitivity"] == pytest.approx(above[positive].mean(), abs=1e-5)
        assert found[split]["specificity"] == pytest.approx((~above)[~positive].mean(), abs=1e-5)
    assert found["validation"]["sensitivity"] >= 0.9
    with pytest.raises(UserError, match="effusion, mass, rare"):
        made.run(
            tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=0, operating_point=point | {"positive": "cat"}
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", made.ASKED)
@pytest.mark.parametrize("cases", [0, 1])
def test_a_test_split_of_one_case_or_none_is_measured_as_far_as_it_goes(tmp_path, kind, cases):
    made.write(tmp_path / "d.h5", kind, cases={"test": cases})
    made.write_trained(tmp_path / "m.pt", tmp_path / "d.h5")
    report = made.run(tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=20)
    name = "log_loss" if not made.ASKED[kind].target.of_number else "mae"
    assert (report["test"][name] is None) == (cases == 0)


def test_a_number_without_a_validation_case_that_counts_is_warned_of_as_it_has_no_interval():
    kind = numbers.Numbers(made.ASKED["regression"])
    none, two = (split_of(np.zeros(n, int), np.ones((n, 1))) for n in (0, 2))
    (warning,) = evaluation.no_bounds(kind, none)
    assert "diameter has no interval" in warning and "raise split.validation" in warning
    assert evaluation.no_bounds(kind, split_of(np.zeros(2, int), np.ones((2, 1)), np.zeros(2)))
    assert evaluation.no_bounds(kind, two) == [] == evaluation.no_bounds(Classes(made.ASKED["classes"]), none)


@pytest.mark.slow
def test_the_stage_warns_of_a_number_without_an_interval(tmp_path, capsys):
    made.write(tmp_path / "d.h5", "regression", cases={"validation": 0})
    made.write_trained(tmp_path / "m.pt", tmp_path / "d.h5")
    made.run(tmp_path, tmp_path / "d.h5", tmp_path / "m.pt", resamples=0)
    assert "warning: diameter has no interval" in capsys.readouterr().out


def test_ordered_classes_are_told_from_others_without_an_energy_which_is_that_of_no_case(tmp_path):
    made.write(tmp_path / "d.h5", "ordinal")
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5")
    classifier, _ = checkpoint.load(tmp_path / "m.pt")
    x, asked = tensors.read_split(tmp_path / "d.h5", "validation").x, made.ASKED["ordinal"]
    measured = answers.measure(classifier, x, 8, "", asked)
    assert (measured[:, 0] == 0).all() and (measured[:, 1:].std(0) > 0).all()
    settings = out_of_distribution.with_threshold(measured, Settings())
    model = deployed(classifier, asked, settings, unlike=True).eval()
    with torch.no_grad():
        away = model(torch.from_numpy(np.array(x)))[1].numpy() + settings.unlike_threshold
    assert away == pytest.approx(out_of_distribution.distances(measured, settings), abs=1e-4)
    others = np.abs((measured[:, 1:] - settings.unlike_means[1:]) / settings.unlike_deviations[1:]).max(1)
    assert away == pytest.approx(others, abs=1e-3), "the energy says nothing"


def test_a_score_that_the_cases_do_not_have_is_told_as_unknown():
    asked = {"multilabel": Asked("multilabel", ["a"]), "regression": Asked("regression", ["d"], "mm")}
    assert labels.Labels(asked["multilabel"], Settings()).told(float("nan")) == "mean AUROC unknown"
    assert numbers.Numbers(asked["regression"], Settings()).told(float("nan")) == "mean absolute error unknown"
