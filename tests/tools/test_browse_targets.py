"""tools.browse of data sets that ask for labels, a number or classes in order: what is shown, and what is corrected."""

import csv
import json
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.ingest.labels import corrections
from stages.lib.params.ingest import TargetParams
from tests import ROOT
from tests.tools import test_browse
from tests.tools.test_browse import run
from tools.browse import __main__ as program
from tools.browse import listing
from tools.browse.listing import Marks
from tools.browse.told import Predictions, Truth

NUMBER = {"kind": "regression", "column": "size", "unit": "mm", "range": [0, 50]}
LABELS = {"kind": "multilabel", "columns": ["mass", "edema"]}
GRADES = {"kind": "ordinal", "order": ["none", "mild", "severe"]}
ROWS = {
    "regression": ("size", ["4", "8.5", "12", "20", "30"]),
    "multilabel": ("mass,edema", ["1,0", "0,", "1,1", "0,0", "0,1"]),
    "ordinal": ("label", ["none", "mild", "severe", "none", "severe"]),
}
TARGETS = {"regression": NUMBER, "multilabel": LABELS, "ordinal": GRADES}
NAMES = {"regression": ["size"], "multilabel": ["mass", "edema"], "ordinal": GRADES["order"]}
STAGES = ("split", "statistics", "dataset", "train", "validate", "export")
SAID = {  # predictions.csv behind its first five columns; of the first three pictures, the others are in training
    "regression": ("size,size low,size high", ["5,3,7", "16,14,18", "12.5,10.5,14.5"]),
    "multilabel": ("mass,edema,true mass,true edema", ["0.9,0.6,1,0", "0.2,0.8,0,", "0.1,0.2,1,1"]),
    "ordinal": ("none,mild,severe,true none,true mild,true severe", ["0.7,0.2,0.1,1,0,0", "0.5,0.4,0.1,0,1,0"] * 2),
}


def write_raw(kind):
    header, cells = ROWS[kind]
    raw = Path("data/raw/mine")
    raw.mkdir(parents=True)
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(raw / f"{i}.png")
    rows = [f"{i}.png,{cell}\n" for i, cell in enumerate(cells)]
    (raw / "labels.csv").write_text(f"path,{header}\n" + "".join(rows))


@pytest.fixture(scope="module", params=["regression", "multilabel", "ordinal"])
def made(request, tmp_path_factory):
    """A project of five pictures that have been read, and of which a model said something."""
    kind = request.param
    root = tmp_path_factory.mktemp(kind) / "project"
    root.mkdir()
    with chdir(root):
        shutil.copy(ROOT / "dvc.yaml", root)
        write_raw(kind)
        block: dict = {name: {} for name in STAGES}
        block["ingest"] = {"identifiers": "open", "target": TARGETS[kind]}
        Path("params.yaml").write_text(yaml.safe_dump({"datasets": {"mine": block}}))
        run("ingest")
        case_of = {path: case for case, (path,) in read(TARGETS[kind]).paths.items()}
        header, said = SAID[kind]
        rows = [f"{case_of[f'{i}.png']},g,test,x,none,{cells}" for i, cells in enumerate(said[:3])]
        table = "\n".join([f"case,group,split,label,predicted,{header}", *rows, ""])
        Path("metrics/mine/predictions.csv").write_text(table)
        target = {"kind": kind, "names": NAMES[kind], "unit": NUMBER["unit"] if kind == "regression" else ""}
        deployed = {"thresholds": [0.5, 0.7]} if kind == "multilabel" else {}
        judged = {"target": target | {"weighted": False}, "deployed": deployed}
        Path("metrics/mine/validate.json").write_text(json.dumps(judged))
    return kind, root


@pytest.fixture
def kind(made, tmp_path, monkeypatch, alone):
    """The kind, in a copy of its project."""
    shutil.copytree(made[1], tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return made[0]


def read(target):
    return listing.read(program.paths_of("mine"), None, params.check(TargetParams, target))


def by_file(content):
    return {path: i for i, path in enumerate(content["path"])}


def test_what_is_true_and_what_was_answered_is_told_in_the_words_of_each_kind(kind):
    found = read(TARGETS[kind])
    content = found.content()
    place, now = by_file(content), content["now"]
    first, second, third, untold = (place[f"{i}.png"] for i in range(4))
    assert content["kind"] == kind and now["predicted"][untold] is now["right"][untold] is None
    about = found.about(second)
    if kind == "regression":
        assert [content["label"][i] for i in (first, second)] == ["4 mm", "8.5 mm"]
        assert now["predicted"][second] == "16 mm (14 to 18)"
        assert [now["right"][i] for i in (first, second, third)] == [True, False, True]
        assert [now["error"][i] for i in (first, second, third)] == [1.0, 7.5, 0.5]
        assert content["value"][second] == 8.5 and about["truth"] == {"size": 8.5}
        assert about["probabilities"] == [{"size": 16.0, "size low": 14.0, "size high": 18.0}]
        assert content["parts"][first] == ["1: below 8.5 mm"] and now["parts"][second] == ["3: 12 to 20 mm"]
    elif kind == "multilabel":
        assert [content["label"][i] for i in (first, second, third, untold)] == [
            *("mass", "edema?", "mass | edema", "no label")
        ]
        assert [now["predicted"][i] for i in (first, second, third)] == ["mass", "edema", "no label"]
        assert [now["right"][i] for i in (first, second, third)] == [True, True, False], (
            "what nobody knows is not wrong"
        )
        assert now["error"][third] == pytest.approx(0.8) and now["error"][first] == 0
        assert content["parts"][second] == ["without mass", "unknown: edema"]
        assert about["truth"] == {"mass": 0.0, "edema": None}
        assert about["probabilities"] == [{"mass": 0.2, "edema": 0.8}]
    else:
        assert content["classes"] == ["none", "mild", "severe"]
        assert now["p_label"][second] is None or now["p_label"][second] == 0.4
        assert now["error"][third] == pytest.approx(2 + 0.9), "two grades off, and a probability of 0.1"
        assert now["error"][first] == pytest.approx(0.3) and now["right"][second] is False
    json.dumps(content, allow_nan=False)


def test_a_correction_is_taken_in_the_form_that_ingest_reads_and_refused_in_any_other(kind):
    found = read(TARGETS[kind])
    marks = Marks(Path("data/raw/mine"), found)
    given, refused = {
        "regression": ("9.25", {"9,25": "is no number", "51": "is no number", "large": "is no number"}),
        "multilabel": ("", {"mass": "mend labels.csv itself", "1": "mend labels.csv itself"}),
        "ordinal": ("mild", {"mld": "is no class: did you mean mild", "2": "is no class"}),
    }[kind]
    for label, said in refused.items():
        with pytest.raises(UserError, match=said):
            marks.mark("3.png", label, False, "")
    assert not Path("data/raw/mine/corrections.csv").exists()
    marks.mark("3.png", given, False, "seen again")
    marks.mark("4.png", "", True, "")
    assert [(row.label, row.excluded) for row in corrections.read(Path("data/raw/mine"))] == [
        (given, False),
        ("", True),
    ]
    run("ingest")
    with open("data/mine/cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    if kind == "regression":
        assert sorted(float(row["target.regression.size [mm]"]) for row in rows) == [4, 8.5, 9.25, 12]
    elif kind == "ordinal":
        assert sorted(row["label"] for row in rows) == ["mild", "mild", "none", "severe"]


def test_the_file_to_share_has_the_largest_errors_first(kind, capsys):
    program.main(["mine", "--write", "cases.html", "--most", "1"])
    page = Path("cases.html").read_text()
    embedded = json.loads(page.partition('id="embedded">')[2].partition("</script>")[0])
    assert embedded["cases"]["path"] == [{"regression": "1.png", "multilabel": "2.png", "ordinal": "1.png"}[kind]]
    assert list(embedded["about"].values())[0]["truth"]


def test_an_answer_to_what_was_asked_before_is_neither_right_nor_wrong(kind):
    classes = Predictions("main", "classes", ["a", "b"], {"c": 0}, ["a"], np.array([[0.9, 0.1]]))
    found = read(TARGETS[kind])
    told = classes.answers(["c"], Truth(["none"], found.target, found.values))
    assert told["right"] == [False if kind == "ordinal" else None] and told["p"] == [0.9]


def test_a_number_without_bounds_is_neither_within_nor_outside_of_them():
    told = Predictions("now", "regression", ["size"], {"c": 0}, [], np.array([[5.0, 5, 5]]), unit="mm")
    answers = told.answers(["c"], Truth(["4 mm"]))
    assert answers["right"] == answers["error"] == [None] and answers["predicted"] == ["5 mm"]


def test_weights_and_true_shares_are_taken_for_no_class(tmp_path):
    head = "case,group,split,label,predicted,cat,dog,true cat,true dog,weight"
    judged = {"target": {"kind": "classes", "names": ["cat", "dog"], "unit": "", "weighted": True}}
    content = f"{head}\nc,c,test,cat,dog,0.25,0.75,0.5,0.5,2\n".encode()
    told = listing._predictions("now", content, json.dumps(judged).encode())
    assert told.of("c") == {"cat": 0.25, "dog": 0.75}


@pytest.mark.slow
@test_browse.in_a_browser
def test_in_a_browser_each_kind_is_shown_and_a_number_is_corrected(kind):
    with test_browse.serving() as address:
        seen = test_browse.click(address, "correct")
    captions = [" ".join(caption.split()) for caption in seen["captions"]]
    caption, row = {
        "regression": ("8.5 mm ✗ as 16 mm (14 to 18)", "size (it is 8.5 mm)16 mm"),
        "multilabel": ("mass | edema ✗ as no label", "edema (yes)20 %"),
        "ordinal": ("severe ✗ as none: 70 %", "severe (its label)"),
    }[kind]
    assert seen["all"] == 5 and captions[0] == caption and row in seen["chances"]
    assert (seen["new-label"], seen["new-number"], seen["several"]) == {
        "regression": (False, True, False), "multilabel": (False, False, True), "ordinal": (True, False, False)
    }[kind]  # fmt: skip
    if kind == "regression":
        (mark,) = corrections.read(Path("data/raw/mine"))
        assert mark.label == "9.5" and "error7.5 mm" in seen["facts"] and "1: below 8.5 mm (1)" in seen["labels"]
        assert "value" in seen["orders"] and "lead" not in seen["orders"]
    if kind == "multilabel":
        assert {"with mass (2)", "without edema (2)", "unknown: edema (1)"} <= set(seen["labels"])
    if kind == "ordinal":
        assert "error2 grades" in seen["facts"]
