"""Models of labels and numbers asked about a whole other dataset; scores as scikit-learn's."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from stages import external as stage
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.model.deployed import Settings
from tests.studies.test_external import KEY, ask, write_clinic, write_model

NAMES = ("class0", "class1", "class2")
SETTINGS = {
    "multilabel": Settings(temperatures=[1.5, 1.0, 0.8], thresholds=[0.3, 0.5, 0.6]),
    "log_regression": Settings(half_width=0.1),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Of each kind of target a folder, and what is exported of its model."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in SETTINGS}
    return {kind: (folder, write_model(folder, (1, 9, 9), kind, SETTINGS[kind])) for kind, folder in folders.items()}


@pytest.fixture
def exported(models, monkeypatch):
    """The folders; their models are not written as ONNX, which takes ten seconds: tests/export holds files to them."""
    runners = {folder / "model.onnx": AsFile(program) for folder, program in models.values()}
    monkeypatch.setattr(stage.onnx, "load", lambda path, any_operator: runners[path])
    return {kind: folder for kind, (folder, _) in models.items()}


class AsFile:
    """What an exported file would be when it is loaded."""

    def __init__(self, program):
        self.module, self.metadata = program.module, program.metadata

    @torch.inference_mode()
    def __call__(self, x, spacing_mm):
        return (self.module(torch.from_numpy(x)).numpy(),)


def write_labels(folder, names=NAMES, **changed):
    """A clinic whose cases have the label of their stripe, of which some answers are not known: its table."""
    write_clinic(folder, **changed)
    table = pd.read_csv(folder / "clinic" / "cases.csv")
    for k, name in enumerate(names):
        held = (np.arange(len(table)) % 3 == k % 3).astype(float)
        held[k::7] = np.nan
        table[f"target.multilabel.{name}"] = held
    return save(folder, table.assign(label="multilabel"))


def write_numbers(folder, column="target.regression.diameter [mm]", **changed):
    """A clinic whose cases have the number of their stripe, and some more: its table."""
    write_clinic(folder, **changed)
    table = pd.read_csv(folder / "clinic" / "cases.csv")
    at = np.arange(len(table))
    table[column] = 10.0 + 2 * (at % 3) + at % 4 / 4
    return save(folder, table.assign(label="diameter", weight=1.0 + at % 2))


def save(folder, table):
    table.to_csv(folder / "clinic" / "cases.csv", index=False)
    return table


def test_labels_are_scored_over_the_answers_that_are_known(exported, capsys):
    folder = exported["multilabel"]
    table = write_labels(folder)
    report, found = ask(folder)
    truth = table[[f"target.multilabel.{name}" for name in NAMES]].to_numpy()
    np.testing.assert_array_equal(found[[f"true {name}" for name in NAMES]].to_numpy(float), truth)
    areas, f1 = [], []
    for k, name in enumerate(NAMES):
        known = ~np.isnan(truth[:, k])
        said = found[name][known]
        areas.append(metrics.roc_auc_score(truth[known, k], said))
        f1.append(metrics.f1_score(truth[known, k], said >= SETTINGS["multilabel"].thresholds[k]))
    assert report["external"]["auroc"] == pytest.approx(np.mean(areas), rel=1e-4)
    assert report["external"]["macro_f1"] == pytest.approx(np.mean(f1), rel=1e-4)
    low, high = report["external_interval"]["auroc"]
    assert low <= report["external"]["auroc"] <= high
    assert report["labels"]["class0"] == pytest.approx([1 / 3, np.nanmean(truth[:, 0])], rel=1e-5)
    assert report["target"] == {"kind": "multilabel", "names": list(NAMES), "unit": "", "weighted": False}
    assert f"clinic: mean AUROC {np.mean(areas):.4f} (" in capsys.readouterr().out
    drawn = {path.name for path in (folder / "clinic" / "figures").iterdir()}
    assert {"evidence.png", "shift.svg", "worst.png", "uncertain.png"} <= drawn


def test_labels_of_other_names_are_mapped_and_of_two_that_are_one_either_is_enough(exported):
    folder = exported["multilabel"]
    table = write_labels(folder, ("zero", "class1", "class2", "odd", "more"))
    report, found = ask(folder, classes={"zero": "class0", "more": "class1", "odd": None})
    one, more = (table[f"target.multilabel.{name}"] for name in ("class1", "more"))
    expected = np.where((one == 1) | (more == 1), 1, np.where((one == 0) & (more == 0), 0, np.nan))
    np.testing.assert_array_equal(found["true class1"].to_numpy(float), expected)
    np.testing.assert_array_equal(found["true class0"].to_numpy(float), table["target.multilabel.zero"])
    assert report["cases"] == 30 and report["left_out"] == {"classes": 0, "trained_on": 0}


def test_a_label_that_it_adds_or_lacks_is_an_error_unless_that_is_known(exported):
    folder = exported["multilabel"]
    write_labels(folder, ("class0", "class1", "clas2"))
    with pytest.raises(UserError, match=r"the model has no label 'clas2'.*`classes: \{clas2: class2\}`"):
        ask(folder)
    table = write_labels(folder)
    save(folder, table.assign(**{"target.multilabel.class2": np.nan}))
    with pytest.raises(UserError, match=r"no case of the model's label 'class2'.*scores are then of the other labels"):
        ask(folder)
    report, _ = ask(folder, lacks=["class2"])
    assert report["labels"]["class2"] == [pytest.approx(0.26, abs=0.1), None] and report["external"]["auroc"] > 0.5


def test_numbers_are_scored_with_their_intervals_and_weights(exported, capsys):
    folder = exported["log_regression"]
    table = write_numbers(folder)
    report, found = ask(folder)
    truth, weight = table["target.regression.diameter [mm]"], table["weight"]
    np.testing.assert_allclose(found["label"].astype(float), truth, rtol=1e-5)
    value, low, high = (found[f"diameter{bound}"] for bound in ("", " low", " high"))
    np.testing.assert_allclose(np.log(high / value), 0.1, rtol=1e-3)
    expected = metrics.mean_absolute_error(truth, value, sample_weight=weight)
    assert report["external"]["mae"] == pytest.approx(expected, rel=1e-4)
    covered = np.average((low <= truth) & (truth <= high), weights=weight)
    assert report["external"]["coverage"] == pytest.approx(covered, rel=1e-4)
    assert report["external_interval"]["mae"][0] < expected < report["external_interval"]["mae"][1]
    assert report["number"]["mean"] == pytest.approx([12.0, np.average(truth, weights=weight)], rel=1e-5)
    assert report["number"]["median"] == pytest.approx([12.0, truth.median()], rel=1e-5)
    assert report["number"]["maximum"] == pytest.approx([14.0, truth.max()], rel=1e-5)
    assert report["target"] == {"kind": "log_regression", "names": ["diameter"], "unit": "mm", "weighted": True}
    assert f"clinic: mean absolute error {expected:.4g} mm (" in capsys.readouterr().out
    drawn = {path.name for path in (folder / "clinic" / "figures").iterdir()}
    assert {"evidence.png", "shift.svg", "worst.png", "uncertain.png"} <= drawn


def test_a_number_in_another_unit_of_another_name_or_that_the_model_cannot_answer_is_an_error(exported):
    folder = exported["log_regression"]
    write_numbers(folder, "target.regression.diameter [cm]")
    with pytest.raises(UserError) as caught:
        ask(folder)
    assert f"{KEY}: the model answers diameter in mm, and its cases have it in cm: convert" in str(caught.value)
    write_numbers(folder, "target.log_regression.width [mm]")
    with pytest.raises(UserError, match=r"the model has no number 'width'.*`classes: \{width: diameter\}`"):
        ask(folder)
    ask(folder, classes={"width": "diameter"})
    with pytest.raises(UserError, match="no case is left to ask about"):
        ask(folder, classes={"width": None})
    table = write_numbers(folder)
    save(folder, table.assign(**{"target.regression.diameter [mm]": table.index - 2.0}))
    with pytest.raises(UserError, match="the model answers numbers above 0, and 3 of its cases have others, as c000"):
        ask(folder)


def test_another_kind_of_answer_is_an_error_that_names_both(exported):
    write_clinic(exported["multilabel"])
    with pytest.raises(UserError, match="the model answers labels, and its cases have one class of several"):
        ask(exported["multilabel"])
    write_labels(exported["log_regression"])
    with pytest.raises(UserError, match="the model answers a number, and its cases have labels"):
        ask(exported["log_regression"])


def test_statistics_of_another_target_are_named(exported):
    folder = exported["log_regression"]
    write_numbers(folder)
    sound = (folder / "statistics.json").read_text()
    tree = json.loads(sound)
    del tree["target"]["train"]["diameter"]["quartiles"]
    (folder / "statistics.json").write_text(json.dumps(tree))
    try:
        with pytest.raises(DamagedOut, match="not of the same target"):
            ask(folder)
    finally:
        (folder / "statistics.json").write_text(sound)


def test_patients_that_the_model_was_trained_on_are_refused_or_left_out(exported):
    folder = exported["log_regression"]
    table = write_numbers(folder, group="tr000{}", number=18)
    with pytest.raises(UserError, match=r"18 of its 18 cases are of groups \(patients\)"):
        ask(folder)
    table.loc[4:, "group"] = [f"new{i}" for i in range(14)]
    save(folder, table)
    report, found = ask(folder, trained_on="leave_out")
    assert report["left_out"]["trained_on"] == 4 and len(found) == 14


def test_a_dataset_of_which_nothing_counts_or_is_known_is_an_error(exported):
    folder = exported["log_regression"]
    table = write_numbers(folder)
    save(folder, table.assign(weight=0))
    with pytest.raises(UserError, match=f"{KEY}: all 30 cases that are left have a weight of 0"):
        ask(folder)
    folder = exported["multilabel"]
    write_labels(folder)
    with pytest.raises(UserError, match=f"{KEY}: of no label of the model is an answer known"):
        ask(folder, classes=dict.fromkeys(NAMES), lacks=list(NAMES))
