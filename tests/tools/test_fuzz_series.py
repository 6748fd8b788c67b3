import pytest

from stages.lib.ingest.readers.scans import dicom_geometry, dicom_series
from tools import fuzz_series


@pytest.mark.slow
def test_no_volume_of_shuffled_cut_doubled_or_merged_series_is_wrong(capsys):
    fuzz_series.main(["--series", "60", "--seed", "3"])
    assert "60 series, 0 wrong" in capsys.readouterr().out


@pytest.mark.slow
def test_an_ingest_that_looks_at_no_gaps_is_found_out(monkeypatch, capsys):
    monkeypatch.setattr(dicom_geometry, "_is_even", lambda *arguments: True)
    monkeypatch.setattr(dicom_series.UnreadFiles, "check_none_of", lambda self, files: None)
    with pytest.raises(SystemExit, match="1"):
        fuzz_series.main(["--series", "20"])
    assert "out of order or missing" in capsys.readouterr().out
