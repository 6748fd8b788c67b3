"""What `ingest.target` reads of labels.csv: every kind of answer, and whatever leaves one in doubt."""

import imageio.v3 as imageio
import numpy as np
import pytest

from stages.lib import splits, targets
from stages.lib.core import tables
from stages.lib.core.errors import UserError
from stages.lib.ingest.labels.targets import agreement
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams, TargetParams
from tests.raw_data import ingest

FILES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(0)
    for name in FILES:
        imageio.imwrite(tmp_path / "raw" / name, rng.integers(0, 256, (9, 9)).astype(np.uint8))
    return tmp_path / "raw"


def run(raw, table: str, target: dict, **params):
    (raw / "labels.csv").write_text(table, encoding="utf-8")
    return ingest(raw, raw.parent / "out", target=check(TargetParams, target), **params)


def columns(done, *names: str) -> dict[str, tuple[str, ...]]:
    """The cells of these columns of cases.csv, by file."""
    files = tables.parse_text((done.folder / "files.csv").read_bytes()).set_index("case")["path"]
    table = tables.parse_text(done.cases_csv.read_bytes())
    return {files[row["case"]]: tuple(row[name] for name in names) for row in table.to_dict("records")}


def test_a_number_is_kept_with_its_unit_and_every_case_is_of_one_name(raw):
    done = run(raw, "path,Diameter\na.png,1.5\nb.png, 2\nc.png,3e1\nd.png,-0.25\n", {
        "kind": "regression", "column": "diameter", "unit": "mm"
    })  # fmt: skip
    found = columns(done, "label", "target.regression.diameter [mm]")
    assert found == {
        "a.png": ("diameter", "1.5"), "b.png": ("diameter", "2"), "c.png": ("diameter", "30"),
        "d.png": ("diameter", "-0.25"),
    }  # fmt: skip
    told = done.counts["target"]
    assert (told["kind"], told["unit"], told["minimum"], told["maximum"]) == ("regression", "mm", -0.25, 30)
    assert told["median"] == 1.75
    read = splits.read_cases(done.cases_csv)
    assert read.target == targets.Target("regression", ("diameter",), "mm")
    assert sorted(read.values[:, 0].tolist()) == [-0.25, 1.5, 2, 30]


@pytest.mark.parametrize(
    "cell, more, message",
    [
        ("", {}, "row 2: x is empty, expected a number; a case without one can't teach or test"),
        ("nan", {}, "x is 'nan', expected a number"),
        ("inf", {}, "x is 'inf', expected a number"),
        ("1e99", {}, "x is '1e99', expected a number"),
        ('"3,5"', {}, "x is '3,5', expected a number with a point, not a comma"),
        ("3 mm", {}, "x is '3 mm', expected a number"),
        ("-2e30", {}, "x is '-2e30', expected a number that is 0 or from 1e-30 to 1e.30 in size: take a unit"),
        ("1e-40", {"log": True}, "x is '1e-40', expected a number that is 0 or from 1e-30 to 1e.30 in size"),
        ("1_000", {}, "x is '1_000', expected a number"),
        ("\uff11", {}, "expected a number"),
        ("0", {"log": True}, "x is '0', expected a number above 0, as ingest.target.log is true"),
        ("11", {"range": [0, 10]}, r"x is '11', expected a number from 0 to 10 \(ingest.target.range\)"),
    ],
)
def test_what_is_no_number_to_learn_from_is_an_error_that_names_the_row(raw, cell, more, message):
    table = f"path,x\na.png,{cell}\nb.png,2\nc.png,3\nd.png,4\n"
    with pytest.raises(UserError, match=message):
        run(raw, table, {"kind": "regression", "column": "x"} | more)


@pytest.mark.parametrize("cell", ["-1", "3e38", "1e-20", "1e-45"])
def test_a_weight_beside_which_others_would_be_lost_in_rounding_is_an_error(raw, cell):
    table = f"path,x,w\na.png,1,{cell}\nb.png,2,0\nc.png,3,1e9\nd.png,4,1e-9\n"
    with pytest.raises(UserError, match=f"row 2: w is '{cell}', expected .* 0 or from 1e-09 to 1e.09"):
        run(raw, table, {"kind": "regression", "column": "x", "weight": "w"})


def test_labels_of_a_column_each_are_yes_no_or_not_known(raw):
    table = "path,edema,mass\na.png,1,no\nb.png,,yeP\nc.png,0.0,-1\nd.png,Yes,?\n"
    done = run(
        raw, table, {"kind": "multilabel", "columns": ["edema", "mass"], "answers": {"-1": "missing", "Yep": "yes"}}
    )
    names = ("label", "target.multilabel.edema", "target.multilabel.mass")
    assert columns(done, *names) == {
        "a.png": ("multilabel", "1", "0"), "b.png": ("multilabel", "", "1"), "c.png": ("multilabel", "0", ""),
        "d.png": ("multilabel", "1", ""),
    }  # fmt: skip
    assert done.counts["target"]["labels"] == {
        "edema": {"yes": 2, "no": 1, "missing": 1}, "mass": {"yes": 1, "no": 1, "missing": 2}
    }  # fmt: skip


def test_labels_listed_in_a_column_are_those_that_hold_and_a_blank_cell_is_no_answer(raw):
    table = "path,finding\na.png,Edema|Mass\nb.png,No Finding\nc.png,\nd.png, mass | Mass\n"
    target = {"kind": "multilabel", "column": "finding", "none": "No Finding"}
    done = run(raw, table, target, aliases={"mass": "Mass"})
    assert columns(done, "target.multilabel.Edema", "target.multilabel.Mass") == {
        "a.png": ("1", "1"), "b.png": ("0", "0"), "c.png": ("", ""), "d.png": ("0", "1")
    }  # fmt: skip


@pytest.mark.parametrize(
    "table, target, message",
    [
        (
            "a.png,maybe",
            {"columns": ["x"]},
            "x is 'maybe', expected yes or no, 1 or 0, or nothing .* ingest.target.answers",
        ),
        ("a.png,none|a", {"column": "x", "none": "none"}, "x is 'none|a', expected labels, or none alone"),
        ("a.png,", {"column": "x"}, "needs 1 classes or labels, and found none"),
    ],
)
def test_what_is_no_label_is_an_error(raw, table, target, message):
    with pytest.raises(UserError, match=message):
        run(raw, f"path,x\n{table}\n", {"kind": "multilabel"} | target)


def test_classes_have_an_order_in_folders_too(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("severe", "none", "mild"):
        (tmp_path / "raw" / label).mkdir(parents=True)
        for i in range(2):
            picture = rng.integers(0, 256, (9, 9)).astype(np.uint8)
            imageio.imwrite(tmp_path / "raw" / label / f"{i}.png", picture)
    target = check(TargetParams, {"kind": "ordinal", "order": ["none", "mild", "severe"]})
    done = ingest(tmp_path / "raw", tmp_path / "out", target=target)
    read = splits.read_cases(done.cases_csv)
    assert read.classes == ["none", "mild", "severe"]
    assert np.array_equal(read.values.argmax(1), read.label_of)
    with pytest.raises(UserError, match="the class 'severe' is not in ingest.target.order"):
        ingest(
            tmp_path / "raw", tmp_path / "b", target=check(TargetParams, {"kind": "ordinal", "order": ["none", "mild"]})
        )
    lacking = check(TargetParams, {"kind": "ordinal", "order": ["none", "mild", "grave", "severe"]})
    with pytest.raises(UserError, match="no row is of the class 'grave': take it out of ingest.target"):
        ingest(tmp_path / "raw", tmp_path / "c", target=lacking)


def test_votes_and_probabilities_become_shares_of_classes(raw):
    table = "path,cat,dog\na.png,2,1\nb.png,0.2,0.8\nc.png,,3\nd.png,1,1\n"
    done = run(raw, table, {"columns": ["cat", "dog"]})
    found = columns(done, "label", "target.classes.cat", "target.classes.dog")
    assert found["a.png"] == ("cat", "0.666666687", "0.333333343")
    assert (found["b.png"], found["c.png"]) == (("dog", "0.200000003", "0.800000012"), ("dog", "0", "1"))
    assert found["d.png"] == ("cat", "0.5", "0.5")  # the first of equals
    assert splits.read_cases(done.cases_csv).target.kind == "classes"


@pytest.mark.parametrize("cells", ["0,0", "-1,2", ","])
def test_shares_that_are_none_are_an_error(raw, cells):
    with pytest.raises(UserError, match="cat, dog is .* expected a probability or number of votes a class"):
        run(raw, f"path,cat,dog\na.png,{cells}\nb.png,1,0\nc.png,0,1\nd.png,0,1\n", {"columns": ["cat", "dog"]})


def test_readers_of_a_case_vote_and_their_agreement_is_told(raw):
    table = "path,ann,bob,cyd\na.png,cat,cat,dog\nb.png,dog,dog,dog\nc.png,cat,,\nd.png,cat,cat,\n"
    done = run(raw, table, {"readers": ["ann", "bob", "cyd"]})
    assert columns(done, "label", "target.classes.dog") == {
        "a.png": ("cat", "0.333333343"), "b.png": ("dog", "1"), "c.png": ("cat", "0"), "d.png": ("cat", "0")
    }  # fmt: skip
    told = done.counts["target"]["readers"]
    assert told["read_twice"] == 3 and told["unanimous"] == pytest.approx(2 / 3, rel=1e-5)


def test_agreement_is_krippendorffs_alpha():
    """The nominal data of four observers and twelve units of his paper, in which some are missing."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    votes = np.array([[sum(row[unit] == k for row in rows) for k in range(1, 6)] for unit in range(12)])
    assert agreement(votes)["krippendorff_alpha"] == pytest.approx(0.743, abs=5e-4)


def test_a_weight_is_kept_beside_any_target(raw):
    table = "path,label,w\na.png,cat,1\nb.png,dog,0\nc.png,cat,0.5\nd.png,dog,2\n"
    done = run(raw, table, {"weight": "w"})
    assert columns(done, "label", "weight")["c.png"] == ("cat", "0.5")
    read = splits.read_cases(done.cases_csv)
    assert read.target is None and sorted(read.weight.tolist()) == [0, 0.5, 1, 2]
    for cell in ("", "-1", "heavy"):
        with pytest.raises(UserError, match="w is .*, expected a number"):
            run(raw, table.replace("d.png,dog,2", f"d.png,dog,{cell}"), {"weight": "w"})


@pytest.mark.parametrize(
    "table, target, message",
    [
        ("path,label\na.png,1\n", {"kind": "regression", "column": "x"}, "names x, and .* has no such column"),
        ("path,label\na.png,1\n", {"kind": "regression", "column": "path"}, "names path, by which .* which file a row"),
        ("path,x\na.png,1\n", {"weight": "x"}, "has no column label"),
        ("path,group\na.png,1\n", {"kind": "regression", "column": "group"}, "names group, which ingest reads itself"),
        ("path,label,w\na.png,x,0\n", {"weight": "w"}, "w is 0 in every row: no case would count"),
    ],
)
def test_columns_that_are_not_there_are_named(raw, table, target, message):
    with pytest.raises(UserError, match=message):
        run(raw, table, target)


def test_without_a_labels_csv_the_columns_are_asked_for(tmp_path):
    (tmp_path / "raw/cat").mkdir(parents=True)
    imageio.imwrite(tmp_path / "raw/cat/a.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(UserError, match="ingest.target reads x of labels.csv, and there is no .*labels.csv: write one"):
        target = check(TargetParams, {"kind": "regression", "column": "x"})
        ingest(tmp_path / "raw", tmp_path / "out", target=target)


def test_equal_pixels_with_other_answers_are_refused_as_other_labels_are(raw):
    imageio.imwrite(raw / "b.png", imageio.imread(raw / "a.png"))
    target = {"kind": "regression", "column": "x"}
    with pytest.raises(UserError, match=r"pixels have different labels.*\n.*a.png \(x: 1\) and b.png \(x: 2\)"):
        run(raw, "path,x\na.png,1\nb.png,2\nc.png,3\nd.png,4\n", target)
    run(raw, "path,x\na.png,1\nb.png,1\nc.png,3\nd.png,4\n", target)


def test_numbers_and_ordered_classes_are_corrected_and_labels_are_mended_at_their_place(raw):
    (raw / "corrections.csv").write_text("path,label,excluded,note\na.png,7.5,,\n")
    done = run(raw, "path,x\na.png,1\nb.png,2\nc.png,3\nd.png,4\n", {"kind": "regression", "column": "x"})
    assert columns(done, "target.regression.x")["a.png"] == ("7.5",)
    assert done.counts["corrected"]["relabelled"] == {"x": 1}
    (raw / "corrections.csv").write_text("path,label,excluded,note\na.png,mild,,\n")
    table = "path,label\na.png,none\nb.png,mild\nc.png,severe\nd.png,none\n"
    done = run(raw, table, {"kind": "ordinal", "order": ["none", "mild", "severe"]})
    assert columns(done, "label", "target.ordinal.mild")["a.png"] == ("mild", "1")
    with pytest.raises(UserError, match="corrections.csv, row 2: a case has several labels: mend labels.csv itself"):
        run(
            raw, "path,x,y\na.png,1,0\nb.png,0,1\nc.png,1,1\nd.png,0,0\n", {"kind": "multilabel", "columns": ["x", "y"]}
        )
    (raw / "corrections.csv").write_text("path,label,excluded,note\na.png,99,,\n")
    with pytest.raises(UserError, match="'99' is no number that x can be"):
        target = {"kind": "regression", "column": "x", "range": [0, 10]}
        run(raw, "path,x\na.png,1\nb.png,2\nc.png,3\nd.png,4\n", target)
    (raw / "corrections.csv").write_text("path,label,excluded,note\na.png,big,,\n")
    with pytest.raises(UserError, match="'big' is no number that x can be"):
        run(raw, "path,x\na.png,1\nb.png,2\nc.png,3\nd.png,4\n", {"kind": "regression", "column": "x"})


def test_a_column_may_be_kept_and_be_the_target_too(raw):
    table = "path,x,sex\na.png,1,f\nb.png,2,m\nc.png,3,f\nd.png,4,m\n"
    done = run(raw, table, {"kind": "regression", "column": "x"}, columns=("sex", "x"))
    assert columns(done, "labels.sex", "labels.x", "target.regression.x")["b.png"] == ("m", "2", "2")


def test_names_of_labels_may_be_any_line_of_text(raw):
    names = ["=1+1", "a,b", 'c "d"', "e [f]", "ö.ü"]
    header = ",".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
    rows = "".join(f"{file},{','.join(str((i + k) % 2) for k in range(5))}\n" for i, file in enumerate(FILES))
    done = run(raw, f"path,{header}\n{rows}", {"kind": "multilabel", "columns": names})
    assert splits.read_cases(done.cases_csv).target.names == tuple(names)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"kind": "regression"}, "column is not given"),
        ({"kind": "regression", "column": ""}, "column is empty: name one of labels.csv"),
        ({"kind": "multilabel", "column": "x", "none": "Unknown"}, "none is 'Unknown': expected one label, and not"),
        ({"kind": "multilabel", "column": "x", "none": "a|b"}, "none is 'a|b': expected one label"),
        ({"kind": "multilabel", "columns": ["x"], "answers": {"P": "yes", "p": "no"}}, "answers has one way of saying"),
        ({"unit": "mm"}, "unit is given, which a target of kind classes does not have"),
        ({"kind": "multilabel"}, "either column, which lists the labels, or columns"),
        ({"kind": "multilabel", "column": "x", "columns": ["y"]}, "either column"),
        ({"kind": "ordinal", "order": ["a"]}, "order is not given, or has a class twice"),
        ({"kind": "ordinal", "order": ["a", "a"]}, "order is not given, or has a class twice"),
        ({"columns": ["a"]}, "columns has one class"),
        ({"columns": ["a", "A"]}, "a column is named twice"),
        ({"kind": "regression", "column": "x", "weight": "x"}, "a column is named twice"),
        ({"kind": "regression", "column": "x", "range": [2, 1]}, "expected the least number before the largest"),
        ({"kind": "regression", "column": "x", "log": True, "range": [0, 1]}, "where no number has a logarithm"),
        ({"kind": "regression", "column": "x", "unit": "[mm]"}, "without square brackets"),
    ],
)
def test_params_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        check(IngestParams, {"target": given})


@pytest.mark.parametrize("order", [["a", "a "], ["a", " "], ["\u00e9", "e\u0301"]])
def test_an_order_with_a_class_twice_or_without_a_name_is_an_error(raw, order):
    with pytest.raises(UserError, match="ingest.target.order has a class without a name, or one twice"):
        run(raw, "path,label\na.png,a\nb.png,a\nc.png,a\nd.png,a\n", {"kind": "ordinal", "order": order})


def test_blanks_around_a_unit_are_no_part_of_it():
    assert check(TargetParams, {"kind": "regression", "column": "x", "unit": " mm "}).unit == "mm"


def test_numbers_and_weights_at_the_very_bounds_are_taken(raw):
    table = "path,x,w\na.png,1e30,1e-9\nb.png,-1e30,0\nc.png,1e-30,1e9\nd.png,0,1\n"
    done = run(raw, table, {"kind": "regression", "column": "x", "weight": "w"})
    assert columns(done, "weight")["a.png"] == ("9.99999972e-10",) and done.counts["cases"] == 4
