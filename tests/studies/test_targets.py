"""Studies of labels and numbers: what their trainings say together, scores as scikit-learn's, and one file of all."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from stages.lib import tensors
from stages.lib.export.formats import FORMATS, file_format
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from stages.lib.validate import answers, curves
from stages.lib.validate.kinds import labels, numbers
from tests.conftest import write_cases_of, write_dataset_h5
from tests.studies.test_export_study import export
from tests.studies.test_study import ask, gather

STUDY = {"folds": 2, "seeds": (0, 1)}
MEMBERS = [f"fold{fold}-seed{seed}" for fold in range(2) for seed in (0, 1)]
NAMES = ["class0", "class1", "class2"]
NUMBER = ["diameter", "diameter low", "diameter high"]


@pytest.fixture(scope="module", params=["multilabel", "regression", "log_regression"])
def made(request, tmp_path_factory):
    """The kind of target, a folder with a weighted dataset.h5 and a study of it, and what `gather` gives."""
    folder = tmp_path_factory.mktemp(request.param)
    write_dataset_h5(folder / "images.h5", kind=request.param, weighted=True)
    return request.param, folder, gather(folder, STUDY)


def of(*kinds):
    """A test of studies of these kinds alone."""
    return pytest.mark.parametrize("made", kinds, indirect=True)


def said_by(folder, name, split, settings):
    classifier, recipe = checkpoint.load(folder / "members" / name / "model.pt")
    asked = tensors.Description(**recipe.description).asked
    with torch.inference_mode():
        return deployed(classifier, asked, settings).eval()(torch.from_numpy(np.array(split.x))).double().numpy()


def learnt(kind, values):
    return np.log(values) if kind == "log_regression" else values


def test_the_test_split_is_answered_by_the_mean_of_what_each_training_deploys(made):
    kind, folder, (report, _, predictions, _) = made
    test = tensors.read_split(folder / "images.h5", "test")
    mean = np.mean([said_by(folder, name, test, Settings(**report["deployed"])) for name in MEMBERS], axis=0)
    found = predictions[predictions["split"] == "test"][NAMES if kind == "multilabel" else NUMBER]
    np.testing.assert_allclose(found, mean, rtol=1e-5)
    target = {"kind": kind, "names": NAMES, "unit": ""} if kind == "multilabel" else None
    target = target or {"kind": kind, "names": ["diameter"], "unit": "mm"}
    assert report["target"] == target | {"weighted": True}


@of("regression", "log_regression")
def test_each_number_is_the_mean_of_those_that_did_not_see_the_case_within_bounds_from_the_other_fold(made):
    kind, folder, (report, _, predictions, _) = made
    held = predictions[predictions["split"] != "test"]
    off = np.abs(learnt(kind, held["diameter"]) - learnt(kind, held["label"].astype(float)))
    for fold in (0, 1):
        own, other = held["split"] == f"fold{fold}", held["split"] == f"fold{1 - fold}"
        cases = set(held["case"][own])
        splits = [tensors.read_split(folder / "images.h5", name) for name in ("train", "validation")]
        parts = [(split, [case in cases for case in split.cases]) for split in splits]
        x = tensors.Split(np.concatenate([split.x[which] for split, which in parts]), *[np.empty(0)] * 3)
        names = [case for split, which in parts for case, is_own in zip(split.cases, which, strict=True) if is_own]
        said = np.mean([said_by(folder, f"fold{fold}-seed{s}", x, Settings()) for s in (0, 1)], axis=0)
        expected = pd.Series(said[:, 0], names)[held["case"][own]]
        np.testing.assert_allclose(held["diameter"][own], expected, rtol=1e-5)
        width = numbers.half_width(off[other].to_numpy(), 0.9, held["weight"][other].to_numpy())
        for bound, sign in (("low", -1), ("high", 1)):
            apart = learnt(kind, held[f"diameter {bound}"][own]) - learnt(kind, held["diameter"][own])
            np.testing.assert_allclose(apart, sign * width, rtol=2e-3)
    of_all = numbers.half_width(off.to_numpy(), 0.9, held["weight"].to_numpy())
    assert report["deployed"]["half_width"] == pytest.approx(of_all, rel=2e-3)


@of("regression", "log_regression")
def test_scores_of_numbers_are_scikit_learns(made):
    _, _, (report, _, predictions, members) = made
    for name, rows in (
        ("out_of_fold", predictions[predictions["split"] != "test"]),
        ("test", predictions[predictions["split"] == "test"]),
    ):
        truth, value, weight = rows["label"].astype(float), rows["diameter"], rows["weight"]
        expected = {
            "mae": metrics.mean_absolute_error(truth, value, sample_weight=weight),
            "r2": metrics.r2_score(truth, value, sample_weight=weight),
            "coverage": np.average((truth >= rows["diameter low"]) & (truth <= rows["diameter high"]), weights=weight),
        }
        for score, number in expected.items():
            assert report[name][score] == pytest.approx(number, rel=1e-3), (name, score)
        low, high = report[f"{name}_interval"]["mae"]
        assert low <= report[name]["mae"] <= high and low < high
    assert report["over_folds"]["mae"]["lowest"] < report["out_of_fold"]["mae"] < report["over_folds"]["mae"]["highest"]
    assert report["over_seeds"]["mae"]["lowest"] > 0
    assert report["best"]["member"] == members["member"][members["held_mae"].idxmin()]


@of("multilabel")
def test_labels_are_taken_to_hold_by_thresholds_from_the_other_fold(made):
    _, folder, _ = made
    report, _, predictions, members = ask(folder, STUDY, calibrate=False)
    held = predictions[predictions["split"] != "test"].reset_index(drop=True)
    truth = held[[f"true {name}" for name in NAMES]].to_numpy(float)
    assert np.isnan(truth).any()

    def thresholds(rows):
        known = [~np.isnan(truth[:, k]) & rows for k in range(3)]
        return [
            labels.threshold(curves.ranking(name, truth[of, k] == 1, held[name][of].to_numpy(), held["weight"][of]))
            for k, (name, of) in enumerate(zip(NAMES, known, strict=True))
        ]

    fold = held["split"].to_numpy()
    of_folds = {name: thresholds(fold != name) for name in ("fold0", "fold1")}
    assert of_folds["fold0"] != of_folds["fold1"]
    limits = np.array([of_folds[name] for name in fold])
    holds = held[NAMES].to_numpy() >= limits - 1e-6
    named = [" | ".join(np.array(NAMES)[row]) for row in holds]
    assert held["predicted"].fillna("").tolist() == named
    assert report["deployed"]["thresholds"] == pytest.approx(thresholds(np.ones(len(held), bool)), rel=1e-4)
    f1 = []
    for k in range(3):
        known = ~np.isnan(truth[:, k])
        f1.append(metrics.f1_score(truth[known, k], holds[known, k], sample_weight=held["weight"][known]))
    assert report["out_of_fold"]["macro_f1"] == pytest.approx(np.mean(f1), rel=1e-4)
    assert report["best"]["member"] == members["member"][members["held_log_loss"].idxmin()]
    of_fold = report["over_folds"]["macro_f1"]
    assert of_fold["lowest"] <= report["out_of_fold"]["macro_f1"] <= of_fold["highest"]


@of("multilabel")
def test_scores_of_labels_are_scikit_learns_over_the_answers_that_are_known(made):
    _, _, (report, table, predictions, _) = made
    for name, rows in (
        ("out_of_fold", predictions[predictions["split"] != "test"]),
        ("test", predictions[predictions["split"] == "test"]),
    ):
        areas = []
        for label in NAMES:
            known = rows[rows[f"true {label}"].notna()]
            areas.append(
                metrics.roc_auc_score(known[f"true {label}"].astype(int), known[label], sample_weight=known["weight"])
            )
        assert report[name]["auroc"] == pytest.approx(np.mean(areas), rel=1e-4)
        own = table[(table["split"] == name) & (table["score"] == "auroc") & table["class"].notna()]
        np.testing.assert_allclose(own["value"], areas, rtol=1e-4)


def test_the_sentence_has_the_score_of_its_kind(made, capsys):
    kind, folder, (report, *_) = made
    ask(folder, STUDY)
    said = capsys.readouterr().out.strip().splitlines()[-1]
    if kind == "multilabel":
        assert said.startswith(f"mean AUROC {report['out_of_fold']['auroc']:.4f} of 48 cases that were held")
    else:
        assert said.startswith(f"mean absolute error {report['out_of_fold']['mae']:.4g} mm of 48 cases that were held")
        assert "mm over the folds" in said and "mm of the ensemble of 4" in said


def test_a_case_that_several_trainings_answered_counts_once_with_their_mean():
    split = tensors.Split(np.empty((4, 0)), np.arange(4), np.array([b"b", b"a", b"b", b"c"], "S16"), np.arange(4))
    cases, said = answers.once(split, np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 1.0], [4.0, 0.0]]))
    assert cases.cases == ["a", "b", "c"] and cases.y.tolist() == [1, 0, 3]
    assert said.tolist() == [[2.0, 0.0], [2.0, 0.5], [4.0, 0.0]]


@pytest.mark.slow
def test_every_file_of_a_study_gives_what_its_trainings_deploy(made, tmp_path):
    kind, whole, _ = made
    what = "best" if kind == "regression" else "ensemble"  # an export of each takes ten seconds
    folder, study = tmp_path, STUDY | {"seeds": (0,)}
    for name in ("images.h5", "folds.csv"):
        shutil.copy(whole / name, folder)
    for name in MEMBERS[::2]:
        shutil.copytree(whole / "members" / name, folder / "members" / name)
    write_cases_of(folder / "cases", folder / "images.h5")
    report, *_ = ask(folder, study)
    written = export(folder, what, study)
    chosen = report if what == "ensemble" else report["best"]
    members = MEMBERS[::2] if what == "ensemble" else [chosen["member"]]
    test = tensors.read_split(folder / "images.h5", "test")
    mean = np.mean([said_by(folder, name, test, Settings(**chosen["deployed"])) for name in members], axis=0)
    for suffix in FORMATS:
        file = file_format(suffix).load(written / f"model{suffix}", any_operator=True)
        np.testing.assert_allclose(file(test.x)[0], mean, rtol=1e-4, atol=1e-5)
        assert file.metadata["deployed"] == chosen["deployed"] and file.metadata["target"]["kind"] == kind
    card = (written / "card.md").read_text()
    assert "validation split" not in card
    if what == "ensemble":
        answer = "probabilities" if kind == "multilabel" else "numbers, and of their bounds,"
        assert f"The mean of the {answer} of 2 trainings" in card and "cases that were held out" in card
    else:
        assert f"The training {chosen['member']} of a study" in card and "cases of its own fold" in card
    score = "auroc" if kind == "multilabel" else "mae"
    assert f"| {score} |" in card and f"{chosen['test'][score]:.4g}" in card
