"""A model asked about a whole other dataset: its own cases, classes and drift; scores as scikit-learn's."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from stages import external as stage
from stages import statistics
from stages.lib import cases, params, tensors
from stages.lib.core.errors import UserError
from stages.lib.export import end_to_end, metadata
from stages.lib.export.formats import file_format
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from stages.lib.params.ingest import IngestParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.params.study import ExternalParams
from stages.lib.params.validate import ValidateParams
from stages.lib.splits import SPLITS
from tests.conftest import write_cases_of, write_dataset_h5, write_model_pt

OUTS = ("scores.csv", "predictions.csv", "external.json", "figures")
KEY = "datasets.mine.study.external.clinic"

pytestmark = pytest.mark.slow  # its fixtures export ONNX files


@pytest.fixture(scope="module", params=[(1, 9, 9), (1, 6, 9, 9)], ids=["pictures", "volumes"])
def made(request, tmp_path_factory):
    """A model that knows where the stripe lies, exported."""
    folder = tmp_path_factory.mktemp("external")
    file_format(".onnx").write(folder / "model.onnx", write_model(folder, request.param))
    return folder


def write_model(folder, shape, kind=None, settings=None) -> Program:
    """A model of such a target, as it is exported, with the statistics and the split of its data."""
    dataset_h5, settings = folder / "mine.h5", settings or Settings(1.5)
    write_dataset_h5(dataset_h5, shape, kind=kind)
    write_model_pt(folder / "model.pt", dataset_h5, trained=True)
    write_cases_of(folder / "own_cases", dataset_h5)
    about = tensors.read_description(dataset_h5)
    tables = []
    for name in SPLITS:
        split = tensors.read_split(dataset_h5, name)
        labels = [about.asked.target.name] * len(split.y) if kind else [f"class{y}" for y in split.y]
        tables.append(pd.DataFrame({"case": split.cases, "group": split.cases, "label": labels, "split": name}))
        if kind:
            tables[-1][about.asked.target.columns] = split.target
    pd.concat(tables).sort_values("case").to_csv(folder / "split.csv", index=False)
    statistics.main(folder / "own_cases", folder / "split.csv", folder / "statistics.json", StatisticsParams())
    classifier, recipe = checkpoint.load(folder / "model.pt")
    model = deployed(classifier, about.asked, settings).eval()
    module = end_to_end.behind(Geometry(**about.geometry), model, "fitted", 1)
    facts = metadata.collect("mine", recipe, settings, dataset_h5, folder / "model.pt")
    return Program(module, tuple(about.shape), facts["input"]["dtype"], facts)


def write_clinic(folder, names=("class0", "class1", "class2"), number: int = 30, dim: float = 0.0, **changed) -> dict:
    """Cases of two sizes with a stripe each, some of it hidden by noise; by their names."""
    about = tensors.read_description(folder / "mine.h5")
    rng, volume = np.random.default_rng(1), about.axes == "NCDHW"
    low, high = (-1000, 400) if volume else (0, 255)
    high -= int(dim * (high - low))
    pixels, rows = {}, []
    for i in range(number):
        size = about.shape[-1] + 3 * (i % 2)
        shape = (1, *about.shape[1:-2], size, size)
        x = rng.integers(low, high, shape)
        k = i % len(names)
        wide = size // 3
        x[..., k * wide : (k + 1) * wide] = high if i % 5 else x[..., k * wide : (k + 1) * wide]
        pixels[f"c{i:03d}"] = x.astype(changed.get("dtype", about.dtype))
        rows.append((f"c{i:03d}", changed.get("group", "p{}").format(i // 2), names[k]))
    clinic = folder / "clinic"
    for old in clinic.glob("cases/*"):
        old.unlink()
    spacing = [(2.0, 1.0, 1.0)] * number if volume else None
    cases.write_cases(clinic / "cases", pixels, about.axes[1:], changed.get("units", about.units), spacing)
    pd.DataFrame(rows, columns=["case", "group", "label"]).to_csv(clinic / "cases.csv", index=False)
    return pixels


def ask(folder, ingest: IngestParams | None = None, **external):
    """external.json and the predictions."""
    ingest = ingest or IngestParams(identifiers="open")
    given = vars(params.check(ExternalParams, external))
    entry = {"dataset": "mine", "other": "clinic", "model": "mine"} | given
    clinic = folder / "clinic"
    outs = [clinic / name for name in OUTS]
    stage.main(
        *(
            clinic / "cases",
            clinic / "cases.csv",
            folder / "split.csv",
            folder / "model.onnx",
            folder / "statistics.json",
        ),
        *(*outs, ValidateParams(resamples=50, worst=4), entry, ingest),
    )
    return json.loads(outs[2].read_text()), pd.read_csv(outs[1])


def test_each_case_gets_what_the_exported_file_says_of_it_as_it_was_read(made):
    pixels = write_clinic(made)
    report, found = ask(made)
    assert found["case"].tolist() == sorted(pixels) and report["cases"] == 30 and report["groups"] == 15
    model = file_format(".onnx").load(made / "model.onnx")
    for i in (0, 1, 29):
        (said,) = model(pixels[found["case"][i]][None])
        np.testing.assert_allclose(found.iloc[i, 5:].to_numpy(float), said[0], atol=2e-6)


def test_its_scores_are_scikit_learns_and_lie_in_their_intervals(made):
    write_clinic(made)
    report, found = ask(made)
    p = found.iloc[:, 5:].to_numpy()
    labels = found["label"]
    assert 0.5 < report["external"]["accuracy"] < 1
    assert report["external"]["accuracy"] == pytest.approx(metrics.accuracy_score(labels, found["predicted"]), 1e-5)
    auroc = metrics.roc_auc_score(labels, p / p.sum(1, keepdims=True), multi_class="ovr")
    assert report["external"]["auroc"] == pytest.approx(auroc, rel=1e-3)
    low, high = report["external_interval"]["accuracy"]
    assert low < report["external"]["accuracy"] < high
    table = pd.read_csv(made / "clinic" / "scores.csv", keep_default_na=False)
    recall = metrics.recall_score(labels, found["predicted"], average=None)
    of_classes = table[(table["score"] == "recall") & (table["class"] != "")]
    np.testing.assert_allclose(of_classes["value"].astype(float), recall, rtol=1e-5)
    drawn = {path.name for path in (made / "clinic" / "figures").iterdir()}
    assert {"evidence.png", "shift.svg", "worst.png", "uncertain.png"} <= drawn


def test_figures_that_show_cases_stay_on_the_machine_where_the_others_data_must(made):
    write_clinic(made)
    ask(made, IngestParams(identifiers="keyed"))
    drawn = {path.name for path in (made / "clinic" / "figures").iterdir()}
    assert "shift.png" in drawn and "worst.png" not in drawn
    assert (made / "clinic" / "figures_mine" / "worst.png").exists()


def test_classes_of_other_names_are_mapped_and_classes_that_are_not_meant_left_out(made):
    write_clinic(made, ("class0", "zero", "uno", "class2", "odd"), 50)
    report, found = ask(made, classes={"zero": "class0", "uno": "class1", "odd": None})
    assert report["left_out"] == {"classes": 10, "trained_on": 0} and report["cases"] == 40
    assert found["label"].value_counts().to_dict() == {"class0": 20, "class1": 10, "class2": 10}


def test_a_class_that_it_adds_is_an_error_with_both_ways_out(made):
    write_clinic(made, ("class0", "class1", "class2", "clas1"), 40)
    with pytest.raises(UserError) as caught:
        ask(made)
    assert str(caught.value).startswith(f"{KEY}: the model has no class 'clas1'; it has 'class0', 'class1', 'class2'")
    assert "`classes: {clas1: class1}` or `{clas1: null}`" in str(caught.value)
    ask(made, classes={"clas1": None})


def test_a_class_that_it_lacks_is_an_error_unless_that_is_known(made):
    write_clinic(made, ("class0", "class1"))
    with pytest.raises(UserError) as caught:
        ask(made)
    assert f"{KEY}: it has no case of the model's class 'class2'" in str(caught.value)
    assert "`classes: {its name: class2}`; if none is: `lacks: [class2]`" in str(caught.value)
    report, _ = ask(made, lacks=["class2"])
    assert report["classes"]["class2"][1] == 0 and report["external"]["auroc"] > 0.5


@pytest.mark.parametrize(
    ("external", "message"),
    [
        ({"classes": {"dog": "class1"}}, "classes names 'dog', and it has 'class0', 'class1', 'class2'"),
        (
            {"classes": {"class0": "clas1"}},
            r"says that 'class0' is 'clas1', and the model has no such class; .*\{class0: class1\}`",
        ),
        ({"lacks": ["class1"]}, "lacks names 'class1', which it has"),
        ({"lacks": ["dog"]}, "lacks names 'dog', which it has, or which is no class"),
    ],
)
def test_a_name_in_params_yaml_that_is_none_is_told(made, external, message):
    write_clinic(made)
    with pytest.raises(UserError, match=message):
        ask(made, **external)


def test_patients_that_the_model_was_trained_on_are_refused_or_left_out(made):
    write_clinic(made, group="tr000{}", number=18)
    with pytest.raises(UserError, match=r"18 of its 18 cases are of groups \(patients\).*`trained_on: leave_out`"):
        ask(made)
    table = pd.read_csv(made / "clinic" / "cases.csv")
    table.loc[4:, "group"] = [f"new{i}" for i in range(14)]
    table.loc[4, "group"] = "te0003"  # of the test split: nobody was trained on it
    table.to_csv(made / "clinic" / "cases.csv", index=False)
    report, found = ask(made, trained_on="leave_out")
    assert report["left_out"]["trained_on"] == 4 and len(found) == 14


def test_cases_that_the_model_does_not_take_are_refused_with_what_to_do(made):
    volume = tensors.read_description(made / "mine.h5").axes == "NCDHW"
    write_clinic(made, dtype="float32")
    with pytest.raises(UserError, match=f"the model takes {'int16' if volume else 'uint8'}, and cases are float32"):
        ask(made)
    write_clinic(made, units="" if volume else "HU")
    with pytest.raises(UserError, match="the model takes .* and its cases are"):
        ask(made)
    write_clinic(made)
    with pytest.raises(UserError, match="read with ingest.intensity: its default, its own with hu: read both alike"):
        ask(made, IngestParams(intensity="hu"))


def test_how_far_intensities_and_classes_are_from_training_is_measured(made):
    write_clinic(made)
    near, _ = ask(made)
    write_clinic(made, number=60, dim=0.6)
    far, _ = ask(made)
    assert far["intensities"][0]["distance"] > near["intensities"][0]["distance"] + 0.1
    assert 0 <= far["intensities"][0]["p"] < near["intensities"][0]["p"] <= 1
    assert far["intensities"][0]["mean"][1] < near["intensities"][0]["mean"][1]
    assert all(shares == pytest.approx([1 / 3, 1 / 3], abs=1e-5) for shares in near["classes"].values())
    assert near["unlike"] is None
