"""split.csv, read in blocks of any size."""

import re

import numpy as np
import pandas as pd
import pytest

from stages.lib import splits
from stages.lib.core import outs, tables
from stages.lib.core.errors import DamagedOut

LABELS = ["b", "=1+1", "007", "b", "a"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    for module in (tables, splits):
        monkeypatch.setattr(module, "BLOCK_ROWS", 3)


@pytest.fixture
def split_csv(tmp_path):
    frame = pd.DataFrame({"case": [f"c{i:02d}" for i in range(20)], "label": LABELS * 4})
    frame.insert(1, "group", [f"g{i // 2}" for i in range(20)])
    frame["split"] = ["train"] * 10 + ["test"] * 4 + ["validation"] * 6
    outs.write_csv(tmp_path / "split.csv", frame)
    return tmp_path / "split.csv"


def test_blocks_make_one_table_and_are_written_as_they_were(split_csv, tmp_path):
    table = splits.read(split_csv)
    assert table.classes == ["007", "=1+1", "a", "b"]
    assert [table.classes[label] for label in table.label_of] == LABELS * 4
    assert table.rows("test").tolist() == [10, 11, 12, 13]
    assert table.counts()["test"] == {"007": 1, "=1+1": 1, "b": 2}
    assert list(table.counts()) == ["test", "train", "validation"]
    outs.write_csv(tmp_path / "again.csv", table.blocks())
    assert (tmp_path / "again.csv").read_bytes() == split_csv.read_bytes()


def test_labels_that_look_like_numbers_or_nothing_stay_text(tmp_path):
    labels = ["007", "7", "1e3", "NA", "nan", "True"]
    names = [f"{i}" for i in range(6)]
    outs.write_csv(
        tmp_path / "split.csv", pd.DataFrame({"case": names, "group": names, "label": labels, "split": "train"})
    )
    table = splits.read(tmp_path / "split.csv")
    assert [table.classes[label] for label in table.label_of] == labels
    assert table.case.tolist() == [name.encode() for name in names]


@pytest.mark.parametrize("name", ["a" * 17, "a\x7f", "é", "a\tb"])
@pytest.mark.parametrize("label", ["a", "=a"])  # in a table without guarded cells, and in one with them
def test_a_name_that_ingest_would_not_give_is_refused(name, label, tmp_path):
    outs.write_csv(
        tmp_path / "split.csv",
        pd.DataFrame({"case": ["1", name], "group": ["1", name], "label": label, "split": "train"}),
    )
    with pytest.raises(DamagedOut, match="row 2: the case '.*' is not of 1 to 16 ASCII characters"):
        splits.read(tmp_path / "split.csv")


def test_of_some_cases_only_the_classes_that_occur_are_left(split_csv):
    part = splits.read(split_csv).select(np.array([1, 4, 6]))
    assert part.classes == ["=1+1", "a"]
    assert (part.label_of.tolist(), part.case.tolist()) == ([0, 1, 0], [b"c01", b"c04", b"c06"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("c17", "c02", "row 18: case c02 is there twice"),
        ("g8,", "gé,", "row 17: the group 'gé' is not of 1 to 16 ASCII characters, and 1 more rows likewise"),
        ("c19,g9", "c19,g0", "row 1: group g0 is in two splits, and 2 more rows likewise"),
        ("c19,g9,a,validation", "c19,g9,a,valid", "row 20: the split is 'valid': expected one of train"),
        ("c19,g9,a,validation", "c19,g9,z,validation", "row 20: class 'z' has no case in the training split"),
    ],
)
def test_a_wrong_row_is_counted_from_the_top_of_the_file(split_csv, old, new, said):
    split_csv.write_text(split_csv.read_text().replace(old, new))
    with pytest.raises(DamagedOut, match=re.escape(said)):
        splits.read(split_csv)
