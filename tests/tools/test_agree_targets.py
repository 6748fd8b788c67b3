"""Labels, numbers, ordered classes and shares go from raw files and a labels.csv to every exported file's answers."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image

from stages import validate
from stages.lib import tensors
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from stages.lib.validate.answers import ask
from tests.tools.test_agree import STAGES, run_chain
from tools import agree, predict

SETTINGS = {
    "classes": {"temperature": 2.0},
    "ordinal": {"temperature": 0.5},
    "multilabel": {"temperatures": [2.0, 0.5], "thresholds": [0.5, 0.25]},
    "regression": {"half_width": 0.5},
    "log_regression": {"half_width": 0.125},
}
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


def measured_by_hand(
    dataset_h5,
    model_pt,
    validate_json,
    scores_csv,
    predictions_csv,
    confusion_csv,
    roc_csv,
    precision_recall_csv,
    reliability_csv,
    figures,
):
    """What the export stage and tools.agree need of validate: the settings, a score, and what the model answers."""
    classifier, _, about = checkpoint.load_for(dataset_h5, model_pt)
    asked = about.asked
    given = {"temperature": 1.0, "flips": "", "unlike_means": [], "unlike_deviations": [], "unlike_threshold": None}
    settings = Settings(**given | SETTINGS[asked.kind])
    score = {"r2" if asked.target.of_number else "auroc": 0.5}
    report = {"validation": score, "test": score, "test_interval": {}, "deployed": settings.plain(), "unlike": {}}
    validate_json.write_text(json.dumps(report))
    of_class = [] if asked.target.of_number else [f"test,{name},cases,1,," for name in asked.names]
    of_class.append(f"test,,{min(score)},0.5,,")
    scores_csv.write_text("\n".join(["split,class,score,value,low,high", *of_class, ""]))
    tables = []
    for name in ("validation", "test"):
        split = tensors.read_split(dataset_h5, name)
        answers = ask(classifier, split, "", 64, name, asked).deployed(settings)
        told = pd.DataFrame({"case": split.cases, "group": split.groups, "split": name, "label": "", "predicted": ""})
        tables.append(pd.concat([told, pd.DataFrame(answers, columns=asked.target.outputs)], axis="columns"))
    table = pd.concat(tables)
    table["weight"] = 1.0  # what comes behind the answers is no part of them
    table.to_csv(predictions_csv, index=False, float_format="%.6g")


@pytest.mark.slow
@pytest.mark.parametrize("volumes", [False, True], ids=["pictures", "volumes"])
@pytest.mark.parametrize("kind", TARGETS)
def test_raw_files_with_a_labels_csv_get_validations_answers_from_every_exported_file(
    tmp_path, monkeypatch, capsys, kind, volumes
):
    raw = tmp_path / "data/raw/small"
    write_raw(raw, kind, volumes)
    by_hand = SimpleNamespace(__name__="stages.validate", main=measured_by_hand)
    stages = [by_hand if stage is validate else stage for stage in STAGES]
    keys = {"target": TARGETS[kind][2]} | ({"frames": "stack"} if volumes else {})
    paths = run_chain(tmp_path, stages, ingest=keys, train={"epochs": 1, "lr": 1e-4})
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
    model = deployed(checkpoint.load(paths["model_pt"])[0], asked, Settings(**SETTINGS[kind])).eval()
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
