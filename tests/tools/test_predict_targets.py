"""tools.predict with models that answer labels or a number, on a folder of PNG files."""

import csv
import io
import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from stages.lib import tensors
from stages.lib.export import formats, metadata
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, deployed
from tests.conftest import write_dataset_h5, write_model_pt
from tests.tools.test_predict import run
from tools import answers
from tools.raw_cases import RawCase

FITTED = {
    "multilabel": Settings(thresholds=[0.25, 0.5, 0.75]),
    "regression": Settings(half_width=1.5),
    "log_regression": Settings(half_width=0.125),
    "ordinal": Settings(),
}


def write_model(folder, kind):
    """Writes model.onnx of a kind of target, and the test split's cases as PNG files; returns what it says of them."""
    write_dataset_h5(folder / "d.h5", kind=kind)
    write_model_pt(folder / "model.pt", folder / "d.h5", trained=True)
    about = tensors.read_description(folder / "d.h5")
    settings = FITTED[kind]
    model = deployed(checkpoint.load(folder / "model.pt")[0], about.asked, settings).eval()
    plain = about.plain()
    facts = {"classes": about.classes, "deployed": settings.plain(), "geometry": about.geometry}
    facts |= metadata.answer(plain) | {"input": metadata.contract(plain, "fitted")}
    native = Native(Geometry(**about.geometry), model).eval()
    formats.file_format(".onnx").write(folder / "model.onnx", Program(native, (1, 8, 8), "uint8", facts))
    x = np.array(tensors.read_split(folder / "d.h5", "test").x)
    (folder / "pictures").mkdir()
    for i, one in enumerate(x):
        Image.fromarray(one[0]).save(folder / "pictures" / f"{i:02}.png")
    with torch.no_grad():
        return model(torch.from_numpy(x)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "log_regression"])
def test_a_folder_of_pictures_gets_a_number_each_with_unit_and_interval(tmp_path, capsys, kind):
    wanted = write_model(tmp_path, kind)
    (tmp_path / "pictures" / "24.png").write_text("no picture")
    given = tmp_path / "model.onnx", tmp_path / "pictures"
    code, out, _ = run(capsys, *given, "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    columns = ["file", "unlike", "error", "diameter [mm]", "diameter low [mm]", "diameter high [mm]"]
    assert code == 1 and list(rows[0]) == columns and len(rows) == 25
    found = [[float(row[name]) for name in columns[3:]] for row in rows[:24]]
    assert np.allclose(found, wanted, rtol=1e-5)
    assert rows[24]["error"] and not rows[24]["diameter [mm]"]

    code, out, _ = run(capsys, *given, "--output", "jsonl")
    first = json.loads(out.splitlines()[0])
    assert (first["number"], first["unit"]) == ("diameter", "mm")
    assert [first[name] for name in ("value", "low", "high")] == pytest.approx(wanted[0], rel=1e-5)
    code, out, err = run(capsys, *given, "--explain", tmp_path / "heat.png")
    value, low, high = (f"{one:.4g}" for one in wanted[0])
    assert out.splitlines()[0].endswith(f"   diameter {value} mm   ({low} to {high})") and "%" not in out
    assert "24.png" in err and (tmp_path / "heat.png").exists()


@pytest.mark.slow
def test_a_folder_of_pictures_gets_the_labels_that_hold_and_a_probability_a_label(tmp_path, capsys):
    wanted = write_model(tmp_path, "multilabel")
    given = tmp_path / "model.onnx", tmp_path / "pictures"
    code, out, _ = run(capsys, *given, "--output", "csv", "--top", 1)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and list(rows[0]) == ["file", "labels", "unlike", "error", "class0", "class1", "class2"]
    assert np.allclose([[float(row[f"class{k}"]) for k in range(3)] for row in rows], wanted, atol=1e-5)
    holds = [[f"class{k}" for k in range(3) if p[k] >= FITTED["multilabel"].thresholds[k]] for p in wanted]
    assert [row["labels"] for row in rows] == [" | ".join(names) for names in holds]
    assert any(names for names in holds)

    _, out, _ = run(capsys, *given, "--output", "json")
    told = json.loads(out)
    assert [one["labels"] for one in told] == holds
    assert list(told[0]["probabilities"]) == ["class0", "class1", "class2"]
    code, out, _ = run(capsys, *given, "--top", 1, "--explain", tmp_path / "heat")
    for line, names, p in zip(out.splitlines(), holds, wanted, strict=True):
        best = int(p.argmax())
        assert line.endswith(f"   {' | '.join(names) or 'none'}   (class{best} {100 * p[best]:.2f} %)")
    assert len(list((tmp_path / "heat").iterdir())) == 24


@pytest.mark.slow
def test_ordered_classes_are_answered_and_explained_as_classes_are(tmp_path, capsys):
    wanted = write_model(tmp_path, "ordinal")
    code, out, _ = run(capsys, tmp_path / "model.onnx", tmp_path / "pictures", "--explain", tmp_path / "heat.png")
    lines = out.splitlines()
    assert code == 0 and (tmp_path / "heat.png").exists()
    for line, p in zip(lines, wanted, strict=True):
        k = int(p.argmax())
        assert f"   class{k} {100 * p[k]:.2f} %" in line and line.count("%") == 3


def test_the_name_of_a_label_may_be_that_of_a_column_and_does_nothing_to_a_spreadsheet_or_terminal():
    names = ("error", "=1+1", "a\x1b[2J")
    words = answers.OfLabels(names, 3, [0.5, 0.5, 0.5])
    one = answers.Answer(RawCase("a.png"), np.array([0.75, 0.5, 0.25], np.float32))
    bad = answers.Answer(RawCase("b.png"), trouble="it is no picture")
    head, first, second = csv.reader("".join(answers.as_csv([[one, bad]], words)).splitlines())
    assert head[:5] == ["file", "labels", "unlike", "error", "error"] and not head[5].startswith("=")
    assert first[:4] == ["a.png", "error | =1+1", "", ""] and first[4:] == ["0.75", "0.5", "0.25"]
    assert second == ["b.png", "", "", "it is no picture", "", "", ""]
    (line,) = answers.as_table([[one]], words)
    assert line == r"a.png   error | =1+1   (error 75.00 %   =1+1 50.00 %   a\u001b[2J 25.00 %)" + "\n"


def test_no_interval_is_told_where_none_was_measured():
    about = {"classes": ["n"], "target": {"kind": "regression", "names": ["n"], "unit": ""}, "deployed": {}}
    words = answers.wording(about, 3)
    one = answers.Answer(RawCase("a.png"), np.array([2.5, 2.5, 2.5], np.float32), False)
    assert "".join(answers.as_table([[one]], words)) == "a.png   n 2.5\n"
    assert "".join(answers.as_csv([[one]], words)) == "file,unlike,error,n,n low,n high\na.png,False,,2.5,,\n"
    (told,) = answers.as_json_lines([[one]], words)
    assert json.loads(told) == {
        "file": "a.png", "number": "n", "unit": "", "value": 2.5, "low": None, "high": None, "unlike": False
    }  # fmt: skip


@pytest.mark.slow
def test_a_file_whose_output_is_another_than_its_metadata_say_is_refused(tmp_path, capsys):
    write_model(tmp_path, "multilabel")
    model = onnx.load(tmp_path / "model.onnx")
    (note,) = model.metadata_props
    about = json.loads(note.value)
    names = {"names": ["a", "b"]}
    lies = {"classes": ["a", "b"], "target": about["target"] | names, "outputs": ["a", "b"], "deployed": {}}
    note.value = json.dumps(about | lies)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, out, _ = run(capsys, tmp_path / "m.onnx", tmp_path / "pictures")
    assert "no probabilities of the classes in its metadata" in str(code) and out == ""
