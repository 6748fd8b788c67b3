import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stages import validate
from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from stages.lib.params.ingest import IngestParams
from stages.lib.params.validate import ValidateParams
from stages.lib.validate import evaluation
from tests.conftest import write_dataset_h5, write_model_pt

FIGURES = ("history", "evidence", "worst", "uncertain", "explained", "explained_mistakes", "samples")
CURVES = ("confusion.csv", "roc.csv", "precision_recall.csv", "reliability.csv")
TABLES = ("validate.json", "scores.csv", "predictions.csv", *CURVES)
FILES = (*TABLES, *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")))
HISTORY = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy\n1,1.1,0.3,1.2,0.4\n2,0.5,0.8,0.7,0.6\n"


def run(folder, dataset_h5, model_pt, may_show=True, **given):
    paths = {name.replace(".", "_"): folder / name for name in (*TABLES, "figures")}
    (folder / "history.csv").write_text(HISTORY)
    settings = {"params": params.check(ValidateParams, given), "ingest": IngestParams(pictures=may_show)}
    validate.main(dataset_h5, model_pt, folder / "history.csv", **paths, **settings)
    return json.loads((folder / "validate.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 6, 8, 8)])
def test_a_network_is_measured_on_images_and_volumes(tmp_path, shape):
    write_dataset_h5(tmp_path / "dataset.h5", shape)
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5", trained=True)
    measured = run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt")
    assert measured["test"]["accuracy"] == 1.0
    assert measured["test"]["auroc"] == 1.0
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"case": str})
    assert list(table.columns) == ["case", "group", "split", "label", "predicted", "class0", "class1", "class2"]
    assert table["split"].value_counts().to_dict() == {"validation": 24, "test": 24}
    assert np.allclose(table[["class0", "class1", "class2"]].sum(axis=1), 1, atol=1e-5)
    for name in FIGURES:
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture))) > 10, name  # no blank sheet
        drawing = ElementTree.parse(tmp_path / "figures" / f"{name}.svg").getroot()
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg" and len(list(drawing.iter())) > 3, name


@pytest.mark.slow
def test_the_scores_are_those_of_the_predictions_that_are_written(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    measured = run(tmp_path, images_h5, tmp_path / "model.pt")
    table = pd.read_csv(tmp_path / "predictions.csv").query("split == 'test'")
    assert measured["test"]["accuracy"] == pytest.approx((table["label"] == table["predicted"]).mean(), rel=1e-5)
    confusion = pd.read_csv(tmp_path / "confusion.csv")
    assert confusion["actual"].tolist() == table["label"].tolist()
    assert tensors.read_split(images_h5, "test").cases == table["case"].tolist()


@pytest.mark.slow
def test_the_outs_are_the_same_bytes_twice(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, images_h5, tmp_path / "model.pt", batch_size=7)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert {path.name for path in (tmp_path / "a" / "figures").iterdir()} == {Path(name).name for name in FILES[-14:]}


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 8, 8)])
def test_any_batch_size_gives_the_same_answers_but_for_one_in_the_sixth_decimal(tmp_path, shape):
    """A matrix product of another size sums in another order: float32's last bits (1e-7) may round a digit away."""
    write_dataset_h5(tmp_path / "dataset.h5", shape)
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5")
    tables, measured = [], []
    for size in (64, 24, 23, 7, 2, 1):  # of 24 cases: beyond, all, all but one, a remainder of 3, even, alone
        measured.append(
            run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt", batch_size=size, worst=1, resamples=0)
        )
        tables.append(pd.read_csv(tmp_path / "predictions.csv", dtype={"case": str}))
    classes = ["class0", "class1", "class2"]
    for other, scores in zip(tables[1:], measured[1:], strict=True):
        assert other.drop(columns=classes).equals(tables[0].drop(columns=classes))
        assert np.abs(other[classes] - tables[0][classes]).to_numpy().max() < 1.001e-6
        for split in ("validation", "test"):
            assert scores[split] == pytest.approx(measured[0][split], rel=1e-5)


def test_intervals_that_say_little_are_said_at_the_end_and_narrow_ones_are_not(capsys, tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)  # untrained, on 24 cases
    run(tmp_path, images_h5, tmp_path / "model.pt", worst=1)
    assert "warning: intervals are wide (accuracy 0." in capsys.readouterr().out
    narrow = {"accuracy": [0.7, 0.8], "balanced_accuracy": [0.7, 0.75], "auroc": [math.nan, math.nan]}
    assert evaluation.wide_intervals(narrow) == []


def test_an_empty_test_split_gives_empty_tables_and_no_scores(tmp_path):
    write_dataset_h5(tmp_path / "dataset.h5", empty=("test",))
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5")
    measured = run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt")
    assert measured["test"]["accuracy"] is None
    assert measured["validation"]["accuracy"] is not None
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == 0


@pytest.mark.slow
def test_an_underconfident_model_is_calibrated_on_the_validation_split_and_the_test_split_is_the_better_for_it(
    tmp_path, images_h5
):
    write_model_pt(tmp_path / "model.pt", images_h5, trained=True)
    classifier, recipe = checkpoint.load(tmp_path / "model.pt")
    with torch.no_grad():
        for weight in classifier.network.layers[-1].parameters():
            weight *= 0.03
    checkpoint.save(tmp_path / "model.pt", recipe, classifier)
    plain = run(tmp_path, images_h5, tmp_path / "model.pt", calibrate=False)
    assert plain["deployed"]["temperature"] == 1 and "uncalibrated" not in plain
    measured = run(tmp_path, images_h5, tmp_path / "model.pt")
    assert 0.1 < measured["deployed"]["temperature"] < 0.9
    assert measured["uncalibrated"]["test"] == plain["test"]
    assert measured["test"]["calibration_error"] < plain["test"]["calibration_error"]
    assert measured["test"]["accuracy"] == plain["test"]["accuracy"]


@pytest.mark.slow
def test_views_are_averaged_and_written_for_export(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5, trained=True)
    plain = run(tmp_path, images_h5, tmp_path / "model.pt")
    measured = run(tmp_path, images_h5, tmp_path / "model.pt", flips=["W", "H"])
    assert measured["deployed"]["flips"] == "WH"
    assert measured["test"]["log_loss"] > plain["test"]["log_loss"]  # mirrored, the outer stripes change places


@pytest.mark.slow
def test_every_score_has_an_interval_around_it(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    run(tmp_path, images_h5, tmp_path / "model.pt", resamples=200)
    table = pd.read_csv(tmp_path / "scores.csv")
    whole = table[table["class"].isna() & (table["split"] == "test")].set_index("score")
    for score in ("accuracy", "macro_f1", "auroc", "log_loss", "brier"):
        assert whole.loc[score, "low"] <= whole.loc[score, "value"] <= whole.loc[score, "high"], score
    assert set(table["class"].dropna()) == {"class0", "class1", "class2"}


@pytest.mark.slow
def test_an_operating_point_is_reported_for_a_class_and_refused_for_none(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5, trained=True)
    point = {"positive": "class1", "sensitivity": 0.9}
    measured = run(tmp_path, images_h5, tmp_path / "model.pt", operating_point=point)
    assert measured["operating_point"]["test"]["sensitivity"] == 1
    with pytest.raises(UserError, match="the classes are class0, class1, class2"):
        run(tmp_path, images_h5, tmp_path / "model.pt", operating_point=point | {"positive": "cat"})


def test_flipping_slices_of_images_is_refused(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    with pytest.raises(UserError, match="flips has D"):
        run(tmp_path, images_h5, tmp_path / "model.pt", flips=["D"])


def test_an_answer_that_is_no_number_is_refused_by_the_name_of_the_case_and_nothing_is_written(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    classifier, recipe = checkpoint.load(tmp_path / "model.pt")
    with torch.no_grad():
        next(classifier.network.parameters()).fill_(torch.nan)  # of a training that diverged
    checkpoint.save(tmp_path / "model.pt", recipe, classifier)
    with pytest.raises(UserError, match="case va0000 is no finite number, and so are 24 of 24: the training diverged"):
        run(tmp_path, images_h5, tmp_path / "model.pt")
    assert not (tmp_path / "validate.json").exists() and not (tmp_path / "scores.csv").exists()


@pytest.mark.slow
def test_a_mistake_is_explained_by_what_looked_like_the_answer_and_what_like_the_label(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    run(tmp_path, images_h5, tmp_path / "model.pt", resamples=0)
    table = pd.read_csv(tmp_path / "predictions.csv", dtype={"case": str}).query("split == 'test'")
    wrong = table[table["label"] != table["predicted"]]
    wrong = wrong.assign(chance=[row[row["label"]] for _, row in wrong.iterrows()]).sort_values("chance").iloc[0]
    drawn = (tmp_path / "figures" / "explained_mistakes.svg").read_text()
    assert f">✗ {wrong['case'][:6]}</text>" in drawn
    answer, label = (f"{kind} {wrong[kind]}: {wrong[wrong[kind]]:.0%}" for kind in ("predicted", "label"))
    assert f">{answer.replace('predicted', 'answer')}</text>" in drawn and f">{label}</text>" in drawn
