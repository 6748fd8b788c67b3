import itertools

import pandas as pd
import pytest

from stages.lib.core import outs, tables
from stages.lib.core.formulas import bare, guarded

FORMULAS = (
    '=HYPERLINK("http://x","y")',
    "=1+1",
    "+1+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "＝1+1",
    "-crack",
    "'=1",
)
NUMBERS = ("-1", "+1", "-0.5", "-1e-3", ".5", "-1 0 0 -12.5", "-1,5", "-nan", "1")
TEXTS = ("", "a", "'", "'a'", "a=b", "crack-1", "x@y", "1-2", " a")


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_a_spreadsheet_would_evaluate_begins_with_a_quote(text):
    assert guarded(text) == f"'{text}"


def test_numbers_and_other_text_stay_as_they_are():
    for value in (*NUMBERS, *TEXTS, -1, -0.5, None):
        assert guarded(value) == value


def test_what_was_guarded_is_read_back_as_it_was():
    made = ("".join(letters) for n in range(6) for letters in itertools.product("'=-1 \ta", repeat=n))
    for text in (*FORMULAS, *NUMBERS, *TEXTS, *made):
        assert bare(guarded(text)) == text


def test_a_table_keeps_its_labels_through_its_file_and_numbers_stay_numbers(tmp_path):
    labels = [*(text for text in FORMULAS if "\r" not in text), *NUMBERS, *TEXTS, "NA", "01"]
    # Python's csv module quotes no carriage return that is none of the line's end; ingest refuses such a label.
    table = pd.DataFrame({"label": labels, "x": [-1.5] * len(labels), "n": [-2] * len(labels)})
    table = pd.concat([table, pd.DataFrame({"=a": labels, "label": labels})], axis=1)  # a name of two columns
    outs.write_csv(tmp_path / "a.csv", table.iloc[:, [0, 1, 2, 3]])
    found = tables.parse_text((tmp_path / "a.csv").read_bytes())
    assert list(found.columns) == ["label", "x", "n", "=a"]
    assert found["label"].tolist() == found["=a"].tolist() == labels
    assert set(found["x"]) == {"-1.5"} and set(found["n"]) == {"-2"}
    assert outs.csv_text(table.iloc[:1]).splitlines()[0] == "label,x,n,'=a,label"
    kept = [label for label in labels if label]  # a column that must be there has no empty cell
    outs.write_csv(tmp_path / "b.csv", pd.DataFrame({"label": kept, "x": 1.0}))
    assert pd.concat(tables.read_blocks(tmp_path / "b.csv", ["label"], more=True))["label"].tolist() == kept
