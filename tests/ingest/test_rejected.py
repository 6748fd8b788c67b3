import csv

import pytest

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.contract import Refusal
from stages.lib.ingest.results import rejected


def test_a_files_name_and_what_was_found_in_it_open_as_no_formula(tmp_path):
    refused = [
        Refusal(("=cmd|' /C calc'!A0.jpg",), "truncated", '=HYPERLINK("http://x")'),
        Refusal(("a.jpg\n=1",), "truncated", "-1\r=1"),
    ]
    rejected.write_rejected(tmp_path / "rejected.csv", refused, ["@.png"])
    with open(tmp_path / "rejected.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 4, "a line end in a name makes no row of its own"
    assert [row[0] for row in rows[1:]] == ["'=cmd|' /C calc'!A0.jpg", "'@.png", "a.jpg\n=1"]
    assert [row[3] for row in rows[1:]] == ['\'=HYPERLINK("http://x")', "hidden, or left by a system", "'-1\r=1"]


def test_a_series_counts_once_however_many_of_its_files_can_not_be_read():
    files = [Refusal((f"a/{i}.dcm",), "truncated", "", series="s") for i in range(3)]
    series = Refusal(tuple(f"a/{i}.dcm" for i in range(3, 9)), "unreadable_slice", "", series="s")
    other = Refusal(("b.jpg",), "truncated", "")
    report = Refusal(("sr.dcm",), "sop_class", "", ignored=True)
    rejected.check_rejected(8, [*files, series, other, report], limit=0.2, rejected_csv="rejected.csv")
    with pytest.raises(UserError, match=r"^2 of 9 cases were rejected \(1 unreadable_slice, 1 truncated\)"):
        rejected.check_rejected(7, [*files, series, other, report], limit=0.2, rejected_csv="rejected.csv")
