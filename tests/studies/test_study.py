"""What a study's trainings say together: each case once, by those that did not see it; scores as scikit-learn's."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from stages import study as stage
from stages.lib import params, tensors
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings
from stages.lib.params.study import StudyParams
from stages.lib.params.validate import ValidateParams
from stages.lib.studies import pool
from tests.conftest import write_dataset_h5
from tests.studies.test_members import run as train

OUTS = ("study.json", "scores.csv", "predictions.csv", "members.csv")
WEAK = {"epochs": 1, "lr": 0.06}  # so that not all is right


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset.h5, and a study of 3 folds and 2 seeds of it."""
    folder = tmp_path_factory.mktemp("study")
    write_dataset_h5(folder / "images.h5")
    return folder, gather(folder, {"folds": 3, "seeds": (0, 1)})


def gather(folder, study, **given):
    """Trains what a study of images.h5 asks for, and gathers it: as `ask`."""
    section = StudyParams(**study)
    members = folder / "members"
    members.mkdir(exist_ok=True)
    dataset_h5 = folder / "images.h5"
    names = {s: tensors.read_split(dataset_h5, s).cases for s in ("train", "validation")}
    cases = sorted(names["train"] + names["validation"])
    dealt = [
        i // 3 % section.folds if section.folds else 0 if c in names["validation"] else "" for i, c in enumerate(cases)
    ]
    pd.DataFrame({"case": cases, "fold": dealt}).to_csv(folder / "folds.csv", index=False)
    for member in section.members():
        (folder / "work").mkdir(exist_ok=True)
        (folder / "work" / "folds.csv").write_bytes((folder / "folds.csv").read_bytes())
        train(dataset_h5, folder / "work" / member.name, member.fold, member.seed, **WEAK)
        (members / member.name).mkdir(exist_ok=True)
        (folder / "work" / member.name / "model.pt").rename(members / member.name / "model.pt")
    return ask(folder, study, **given)


def ask(folder, study, **given):
    """study.json and the three tables."""
    outs = [folder / name for name in OUTS]
    checked = params.check(ValidateParams, {"resamples": 50} | given)
    stage.main(folder / "images.h5", folder / "folds.csv", folder / "members", *outs, checked, StudyParams(**study))
    tables = [pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in outs[1:]]
    return json.loads(outs[0].read_text()), *tables


def probabilities(folder, name: str, split, temperature: float) -> np.ndarray:
    classifier, _ = checkpoint.load(folder / "members" / name / "model.pt")
    with torch.inference_mode():
        return (
            Deployed(classifier, Settings(temperature))
            .eval()(torch.from_numpy(np.array(split.x[: len(split.y)])))
            .numpy()
        )


def test_each_case_outside_of_the_test_split_is_answered_once_by_those_that_did_not_see_it(made):
    folder, (report, _, predictions, _) = made
    folds = pd.read_csv(folder / "folds.csv", dtype=str)
    held = predictions[predictions["split"] != "test"]
    assert held["case"].tolist() == folds["case"].tolist()
    assert held["split"].tolist() == [f"fold{fold}" for fold in folds["fold"]]
    cases = pool.read(folder / "images.h5", folder / "folds.csv")
    one = cases.held(2)
    p = np.mean([probabilities(folder, f"fold2-seed{seed}", one, 1.0) for seed in (0, 1)], axis=0)
    uncalibrated, *_ = ask(folder, {"folds": 3, "seeds": (0, 1)}, calibrate=False)
    again = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_allclose(again[again["split"] == "fold2"].iloc[:, 5:], p, atol=1e-5)
    assert uncalibrated["cases"] == report["cases"] == {"out_of_fold": 48, "test": 24}


def test_its_scores_are_scikit_learns(made):
    _, (report, table, predictions, _) = made
    for name, rows in (
        ("out_of_fold", predictions[predictions["split"] != "test"]),
        ("test", predictions[predictions["split"] == "test"]),
    ):
        classes, p = list(rows.columns[5:]), rows.iloc[:, 5:].to_numpy()
        p = p / p.sum(1, keepdims=True)
        assert report[name]["accuracy"] == pytest.approx(metrics.accuracy_score(rows["label"], rows["predicted"]), 1e-5)
        assert report[name]["auroc"] == pytest.approx(metrics.roc_auc_score(rows["label"], p, multi_class="ovr"), 1e-4)
        loss = metrics.log_loss(rows["label"], p, labels=classes)
        assert report[name]["log_loss"] == pytest.approx(loss, rel=1e-4)
        low, high = report[f"{name}_interval"]["accuracy"]
        assert low <= report[name]["accuracy"] <= high and low < high
    assert set(table["split"]) == {"out_of_fold", "test", "best"}


def test_the_test_split_is_answered_by_the_mean_of_all_trainings(made):
    folder, _ = made
    report, _, predictions, _ = ask(folder, {"folds": 3, "seeds": (0, 1)})
    test = tensors.read_split(folder / "images.h5", "test")
    temperature = report["deployed"]["temperature"]
    names = [f"fold{fold}-seed{seed}" for fold in range(3) for seed in (0, 1)]
    p = np.mean([probabilities(folder, name, test, temperature) for name in names], axis=0)
    np.testing.assert_allclose(predictions[predictions["split"] == "test"].iloc[:, 5:], p, atol=1e-5)


def test_the_spread_is_that_of_the_folds_own_scores_and_of_the_seeds(made):
    folder, (report, _, predictions, members) = made
    held = predictions[predictions["split"] != "test"]
    by_fold = (held["label"] == held["predicted"]).groupby(held["split"]).mean()
    expected = {"mean": by_fold.mean(), "deviation": by_fold.std(), "lowest": by_fold.min(), "highest": by_fold.max()}
    assert report["over_folds"]["accuracy"] == pytest.approx(expected, rel=1e-5)
    by_member = members.set_index("member")
    right = by_member["held_accuracy"] * by_member["cases"]
    seeds = [right[[f"fold{k}-seed{s}" for k in range(3)]].sum() / 48 for s in (0, 1)]
    assert report["over_seeds"]["accuracy"]["mean"] == pytest.approx(np.mean(seeds), rel=1e-5)
    assert report["test_over_trainings"]["accuracy"]["lowest"] == pytest.approx(members["test_accuracy"].min())
    assert report["best"]["member"] == members["member"][members["held_log_loss"].idxmin()]
    assert members["cases"].tolist() == [18, 18, 15, 15, 15, 15]


def test_a_fold_is_judged_with_the_temperature_of_the_others(made, monkeypatch):
    from stages.lib.validate import calibration

    seen = []
    monkeypatch.setattr(calibration, "temperature", lambda logits, y, groups, *_: seen.append(set(groups)) or 1.0)
    ask(made[0], {"folds": 3, "seeds": (0, 1)})
    folds = pd.read_csv(made[0] / "folds.csv")
    groups = [set(folds["case"][folds["fold"] == fold]) for fold in range(3)]
    everyone = set(folds["case"])
    assert seen[:4] == [*(everyone - of for of in groups), everyone]
    assert all(of in groups for of in seen[4:])  # of the best training, alone


def test_seeds_alone_are_gathered_over_the_validation_split(tmp_path):
    write_dataset_h5(tmp_path / "images.h5")
    report, _, predictions, members = gather(tmp_path, {"seeds": (3, 4)})
    held = predictions[predictions["split"] == "fold0"]
    assert held["case"].tolist() == tensors.read_split(tmp_path / "images.h5", "validation").cases
    assert members["member"].tolist() == ["seed3", "seed4"]
    assert report["over_folds"] == {} and report["over_seeds"]["accuracy"]["lowest"] >= 0


def test_without_a_test_split_all_cases_are_held_out_and_nothing_is_said_of_test(tmp_path, capsys):
    write_dataset_h5(tmp_path / "images.h5", empty=("test",))
    report, *_ = gather(tmp_path, {"folds": 2})
    assert report["cases"] == {"out_of_fold": 48, "test": 0} and report["test"]["accuracy"] is None
    assert capsys.readouterr().out.strip().splitlines()[-1].endswith("over the folds")


def test_a_folder_of_no_training_is_refused(made):
    stray = made[0] / "members" / "fold7"
    stray.mkdir()
    try:
        with pytest.raises(UserError, match="fold7 is of no training that the study asks for: `python"):
            ask(made[0], {"folds": 3, "seeds": (0, 1)})
    finally:
        stray.rmdir()


def test_folds_or_a_file_that_are_not_of_the_study_are_an_error(made, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(made[0], folder)
    study = {"folds": 3, "seeds": (0, 1)}
    text = (folder / "folds.csv").read_text()
    (folder / "folds.csv").write_text(text.replace(",2", ",7"))
    with pytest.raises(DamagedOut, match="folds.csv: its folds are 0, 1, 7, and those of the study 0, 1, 2"):
        ask(folder, study)
    (folder / "folds.csv").write_text(text)
    (folder / "members" / ".DS_Store").touch()
    with pytest.raises(UserError, match=".DS_Store is of no training that the study asks for: remove it"):
        ask(folder, study)
