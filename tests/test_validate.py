import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import validate
from stages.lib import tensors
from stages.lib.params.validate import ValidateParams
from tests.conftest import write_dataset_h5, write_model_pt

FILES = ("validate.json", "predictions.csv", "confusion.csv", "roc.csv", "worst.png")


def run(folder, dataset_h5, model_pt, **given):
    paths = {name.replace(".", "_"): folder / name for name in FILES}
    validate.main(dataset_h5, model_pt, **paths, params=ValidateParams(**given))
    return json.loads((folder / "validate.json").read_text())


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
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.size[0] > 100


def test_the_scores_are_those_of_the_predictions_that_are_written(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    measured = run(tmp_path, images_h5, tmp_path / "model.pt")
    table = pd.read_csv(tmp_path / "predictions.csv").query("split == 'test'")
    assert measured["test"]["accuracy"] == pytest.approx((table["label"] == table["predicted"]).mean(), rel=1e-5)
    confusion = pd.read_csv(tmp_path / "confusion.csv")
    assert confusion["actual"].tolist() == table["label"].tolist()
    assert tensors.read_split(images_h5, "test").cases == table["case"].tolist()


def test_the_outs_are_the_same_bytes_twice_and_for_any_batch_size(tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5)
    for name, batch_size in (("a", 64), ("b", 64), ("c", 7)):
        (tmp_path / name).mkdir()
        run(tmp_path / name, images_h5, tmp_path / "model.pt", batch_size=batch_size)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    table, other = (pd.read_csv(tmp_path / name / "predictions.csv") for name in "ac")
    assert np.allclose(table[["class0", "class1", "class2"]], other[["class0", "class1", "class2"]], atol=1e-5)


def test_an_empty_test_split_gives_empty_tables_and_no_scores(tmp_path):
    write_dataset_h5(tmp_path / "dataset.h5", empty=("test",))
    write_model_pt(tmp_path / "model.pt", tmp_path / "dataset.h5")
    measured = run(tmp_path, tmp_path / "dataset.h5", tmp_path / "model.pt")
    assert measured["test"]["accuracy"] is None
    assert measured["validation"]["accuracy"] is not None
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == 0
