import math
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from stages.lib import tensors
from stages.lib.core import outs
from stages.lib.model.deployed import Settings
from stages.lib.params.validate import LOWER_IS_BETTER, MAIN_SCORE, Score
from stages.lib.validate import bootstrap, evaluation, scores
from stages.lib.validate.kinds import classes, labels, numbers
from tests.made_project import predictions
from tools.report import comparison, snapshot
from tools.report.judging import Asked
from tools.report.simulation import rates
from tools.report.snapshot import KEYS


@pytest.mark.parametrize(("lost", "gained"), [(0, 5), (3, 9), (12, 4), (7, 7), (0, 0), (40, 41)])
def test_with_one_case_a_group_the_test_is_mcnemars(lost, gained):
    exact = binomtest(min(lost, gained), lost + gained).pvalue if lost + gained else 1.0
    at_it = math.comb(lost + gained, lost) / 2 ** (lost + gained)
    changes = np.array([-1] * lost + [1] * gained + [0] * 20)
    assert comparison.mid_p(changes) == pytest.approx(exact - at_it if lost != gained else 1.0)


def test_a_patient_of_many_scans_is_one_witness():
    ten_patients_of_one = np.ones(10, int)
    one_patient_of_ten = np.array([10])
    assert comparison.mid_p(ten_patients_of_one) < 0.01
    assert comparison.mid_p(one_patient_of_ten) > 0.3


def test_a_clear_regression_is_worse_in_every_score_and_its_mirror_image_better():
    good, bad = predictions("test", range(300), range(0, 300, 30)), predictions("test", range(300), range(0, 300, 5))
    for name, change in comparison.compare(good, bad).items():
        if name != "calibration_error":  # the same confidence may fit fewer right answers better
            assert change.verdict == "worse", name
            assert change.low <= change.new - change.old <= change.high, name
    assert comparison.compare(bad, good)["accuracy"].verdict == "better"


@pytest.mark.parametrize("score", get_args(Score))
def test_a_score_that_rises_is_better_or_worse_as_params_has_it(score):
    risen = comparison._change(score, 0.25, 0.5, np.linspace(0.2, 0.3, 100))
    assert risen.verdict == ("worse" if score in LOWER_IS_BETTER else "better")
    assert comparison._change(score, 0.5, 0.25, np.linspace(-0.3, -0.2, 100)).verdict != risen.verdict


def test_the_scores_are_those_of_the_validate_stage():
    table = predictions("test", range(60), range(0, 60, 7))
    found, probabilities, _ = Asked()._classes(table, table.iloc[:, 5:].to_numpy())

    expected = scores.overall(found, probabilities)
    changes = comparison.compare(table, predictions("test", range(60), ()))
    assert {name: change.old for name, change in changes.items()} == pytest.approx(expected)


TARGETS = {
    "multilabel": ({"kind": "multilabel", "names": ["a", "b", "c"]}, labels.Labels),
    "regression": ({"kind": "regression", "names": ["diameter"], "unit": "mm"}, numbers.Numbers),
    "ordinal": ({"kind": "ordinal", "names": ["a", "b", "c"]}, classes.Classes),
    "classes": ({"kind": "classes", "names": ["a", "b", "c"]}, classes.Classes),
}


def other_table(kind: str, quality: float, weighted: bool, tmp_path) -> tuple[pd.DataFrame, dict, dict]:
    """predictions.csv of 80 cases as the report reads it, validate.json's part, and the scores of the stage."""
    rng = np.random.default_rng(0)
    target, judge = TARGETS[kind]
    asked = tensors.Asked(**target)
    truth = rng.normal(20, 4, (80, 1)) if kind == "regression" else (rng.random((80, 3)) < 0.4).astype(float)
    said = truth + rng.normal(0, 5 * (1 - quality), (80, 1))
    said = np.concatenate([said, said - 3, said + 3], 1)
    if kind == "multilabel":
        truth[::7, 1] = np.nan
        said = (quality * np.nan_to_num(truth) + (1 - quality) * rng.random((80, 3))).clip(0, 1)
    if kind in ("ordinal", "classes"):
        truth = rng.dirichlet(np.ones(3) / 4, 80).astype(np.float32)
        said = quality * truth + (1 - quality) * rng.dirichlet(np.ones(3), 80)
    y = truth.argmax(1) if judge is classes.Classes else np.zeros(80, int)
    weight = rng.random(80).astype(np.float32) if weighted else None
    names = np.array([f"c{i:05d}" for i in range(80)], "S16")
    split = tensors.Split(np.zeros((80, 0)), y, names, names, truth.astype(np.float32), weight)
    of = judge(asked, Settings(thresholds=(0.5, 0.4, 0.6) if kind == "multilabel" else ()))
    outs.write_csv(tmp_path / "predictions.csv", evaluation.prediction_table("test", of, split, said))
    revision = SimpleNamespace()
    table = snapshot._predictions(revision, "predictions.csv", (tmp_path / "predictions.csv").read_bytes())
    told = {"target": target | {"weighted": weighted}, "deployed": of.settings.plain()}
    return table, told, of.overall(split, said)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TARGETS)
def test_other_targets_are_compared_by_the_scores_of_the_validate_stage(kind, weighted, tmp_path):
    old, told, expected = other_table(kind, 0.2, weighted, tmp_path)
    new, *_ = other_table(kind, 0.9, weighted, tmp_path)
    asked = Asked.of(told)
    changes = comparison.compare(old, new, asked, asked)
    assert set(expected) - set(changes) <= {"bias", "coverage"}
    for name, change in changes.items():
        assert change.old == pytest.approx(expected[name], rel=1e-3, abs=2e-4), name
    main = MAIN_SCORE.get(kind, "log_loss")
    assert changes[main].verdict == "better"
    assert comparison.compare(old, new, asked, Asked("log_regression", ("x",))) == {}


@pytest.mark.parametrize("truth", [0.0, np.nan])
def test_a_label_that_no_test_case_has_leaves_the_verdict_to_the_others_and_where_there_is_none_there_is_no_verdict(
    truth, tmp_path
):
    (old, told, _), (new, *_) = (other_table("multilabel", quality, False, tmp_path) for quality in (0.2, 0.9))
    asked, changes = Asked.of(told), []
    answers, truths = (list(new.columns[start : start + 3]) for start in (len(KEYS), len(KEYS) + 3))
    assert truths[0].endswith("true a")
    for lost in (truths[:1], truths):
        for table in (old, new):
            table[lost] = truth
        changes.append(comparison.compare(old, new, asked, asked)["auroc"])
        if len(lost) == 1:
            known = [new[name].notna() for name in truths]
            others = [roc_auc_score(new[truths[k]][known[k]], new[answers[k]][known[k]]) for k in (1, 2)]
    assert changes[0].new == pytest.approx(np.mean(others)) and changes[0].verdict == "better"
    assert math.isnan(changes[1].new) and changes[1].verdict == "no difference"


def test_cases_that_both_have_are_found_whatever_their_order():
    old, new = predictions("test", range(20), ()), predictions("test", range(10, 30), ())
    both = comparison.shared(old.sample(frac=1, random_state=0), new)
    assert both[0]["case"].tolist() == both[1]["case"].tolist() == [f"te{i:05d}" for i in range(10, 20)]


def test_overlapping_test_sets_cancel_what_they_share():
    old, same = predictions("test", range(300), range(0, 300, 10)), predictions("test", range(300), range(5, 300, 10))
    other = predictions("test", range(1000, 1300), range(1000, 1300, 10))
    paired = comparison.compare(old, old.copy())["log_loss"]
    apart = comparison.compare(old, other)["log_loss"]
    assert paired.high - paired.low == 0
    assert apart.high - apart.low > 0.05
    assert comparison.compare(old, same)["accuracy"].verdict == "no difference"


def test_a_label_that_the_older_model_never_saw_counts_as_wrong():
    new = predictions("test", range(30), ()).rename(columns={"owl": "eagle"}).replace("owl", "eagle")
    old = predictions("test", range(30), ()).assign(label=new["label"])
    changes = comparison.compare(old, new)
    assert (changes["accuracy"].old, changes["accuracy"].new) == (pytest.approx(2 / 3), 1)


def test_what_cases_could_show_shrinks_with_their_number():
    def would_show(cases):
        table = predictions("test", range(cases), range(0, cases, 10))
        return comparison.compare(table, predictions("test", range(cases), range(5, cases, 10)))["accuracy"].smallest

    assert would_show(1200) == pytest.approx(would_show(300) / 2)
    assert would_show(300) == pytest.approx(2.8 * math.sqrt(60) / 300, rel=0.01)


def test_a_split_with_one_case_has_a_verdict_and_no_crash():
    table = predictions("test", range(1), ())
    change = comparison.compare(table, predictions("test", range(1), range(1)))["auroc"]
    assert math.isnan(change.low) and change.verdict == "no difference"


@pytest.mark.slow
def test_equal_models_are_told_apart_no_more_often_than_one_time_in_twenty():
    found = rates(pairs=1000, cases=300, accuracy=0.9, loss=0.0, correlation=0.7, seed=0)
    assert found["better"] + found["worse"] <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)


def test_five_points_lost_on_300_cases_are_seen_four_times_in_five():
    found = rates(pairs=200, cases=300, accuracy=0.95, loss=0.05, correlation=0.8, seed=0)
    assert found["worse"] >= 0.8 and found["better"] == 0


def test_groups_do_not_inflate_the_false_alarms():
    found = rates(pairs=200, cases=300, accuracy=0.9, loss=0.0, correlation=0.7, seed=1, groups_of=5)
    assert found["better"] + found["worse"] <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)


def test_a_shared_group_is_drawn_into_both_sides_at_once():
    block = next(bootstrap.weights(["a", "b", "a", "b"], 20, 0))
    assert (block[:, 0] == block[:, 2]).all() and (block[:, 1] == block[:, 3]).all()
