"""Labels, numbers, ordered classes and shares go from raw files and a labels.csv to every exported file's answers."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image

from stages.lib import tensors
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from tests.tools.test_agree import run_chain
from tools import agree, predict

# The columns of labels.csv beside the path, the cells of a case whose pixels are brighter by a step of 0 to 3, and what
# `ingest.target` makes of them.
TARGETS = {
    "regression": ("diameter", lambda step: 10 + step, {"kind": "regression", "column": "diameter", "unit": "mm"}),
    "log_regression": (
        "volume",
        lambda step: 10.0**step,
        {"kind": "regression", "column": "volume", "unit": "ml", "log": True},
    ),
    "multilabel": (
        "bright,odd",
        lambda step: f"{int(step > 1)},{'' if step == 2 else step % 2}",
        {"kind": "multilabel", "columns": ("bright", "odd")},
    ),
    "ordinal": (
        "label",
        lambda step: ("none", "mild", "severe", "severe")[step],
        {"kind": "ordinal", "order": ("none", "mild", "severe")},
    ),
    "classes": (
        "one,two,three",
        lambda step: ",".join("high" if step > k else "low" for k in range(3)),
        {"readers": ("one", "two", "three")},
    ),
}


def write_raw(raw, kind, volumes):
    """60 pictures or stacks of mixed sizes, and their labels.csv."""
    raw.mkdir(parents=True)
    columns, cells, _ = TARGETS[kind]
    rng = np.random.default_rng(0)
    lines = [f"path,{columns}"]
    for i in range(60):
        size = (int(rng.integers(4, 7)), 10, 11) if volumes else tuple(rng.integers(9, 30, 2))
        pixels = (rng.integers(0, 50, size) + 60 * (i % 4)).astype(np.uint8)
        name = f"{i:02}.tif" if volumes else f"{i:02}.png"
        if volumes:
            tifffile.imwrite(raw / name, pixels, photometric="minisblack", metadata=None)
        else:
            Image.fromarray(pixels).save(raw / name)
        lines.append(f"{name},{cells(i % 4)}")
    (raw / "labels.csv").write_text("\n".join([*lines, ""]))


@pytest.mark.slow
@pytest.mark.parametrize("volumes", [False, True], ids=["pictures", "volumes"])
@pytest.mark.parametrize("kind", TARGETS)
def test_raw_files_with_a_labels_csv_get_validations_answers_from_every_exported_file(
    tmp_path, monkeypatch, capsys, kind, volumes
):
    raw = tmp_path / "data/raw/small"
    write_raw(raw, kind, volumes)
    keys = {"target": TARGETS[kind][2]} | ({"frames": "stack"} if volumes else {})
    paths = run_chain(tmp_path, ingest=keys, train={"epochs": 1, "lr": 1e-4})
    models = paths["model_onnx"].parent
    monkeypatch.setattr(shutil, "which", lambda name: None)
    given = raw, paths["dataset_h5"], paths["predictions_csv"], models
    table = agree.compare(*given)
    assert len(table) == 3 and (table["cases"] >= 5).all()
    assert (table["largest difference"] < 1e-4).all()
    wrong = pd.read_csv(paths["predictions_csv"])
    wrong.iloc[:, 5] *= 2
    wrong.to_csv(paths["predictions_csv"], index=False)
    assert (agree.compare(*given)["largest difference"] > 1e-3).all()

    asked = tensors.read_description(paths["dataset_h5"]).asked
    assert asked.kind == kind
    split = tensors.read_split(paths["dataset_h5"], "test")
    settings = Settings(**json.loads(paths["validate_json"].read_text())["deployed"])
    model = deployed(checkpoint.load(paths["model_pt"])[0], asked, settings).eval()
    with torch.no_grad():
        wanted = model(torch.from_numpy(np.array(split.x))).numpy()
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        predict.main([str(models / "model.onnx"), str(raw), "--output", "jsonl", "--top", "9"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not left.value.code and len(told) == 60
    said = np.array([list(of(one, asked)) for one in told])
    for row in wanted:  # which of the files it is, is not asked here
        assert (np.abs(said - row) <= 1e-4 * np.maximum(1, np.abs(row))).all(1).any()


def of(told, asked):
    """An answer of tools.predict in the order of the model's output."""
    if asked.target.of_number:
        assert (told["number"], told["unit"]) == (asked.names[0], asked.unit)
        return told["value"], told["low"], told["high"]
    return (told["probabilities"][name] for name in asked.names)
