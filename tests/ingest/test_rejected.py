import pytest

from stages.lib.core.errors import UserError
from stages.lib.ingest import rejected
from stages.lib.ingest.readers.contract import Refusal


def test_a_series_counts_once_however_many_of_its_files_can_not_be_read():
    files = [Refusal((f"a/{i}.dcm",), "truncated", "", series="s") for i in range(3)]
    series = Refusal(tuple(f"a/{i}.dcm" for i in range(3, 9)), "unreadable_slice", "", series="s")
    other = Refusal(("b.jpg",), "truncated", "")
    report = Refusal(("sr.dcm",), "sop_class", "", ignored=True)
    rejected.check_rejected(8, [*files, series, other, report], limit=0.2, rejected_csv="rejected.csv")
    with pytest.raises(UserError, match=r"^2 of 9 cases were rejected \(4 truncated, 1 unreadable_slice\)"):
        rejected.check_rejected(7, [*files, series, other, report], limit=0.2, rejected_csv="rejected.csv")
