import pytest

from stages.lib.ingest.readers import dicom
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
        fuzz_series.main(["--series", "60"])
    assert "out of order or missing" in capsys.readouterr().out


@pytest.mark.slow
def test_an_ingest_that_loses_a_slice_to_a_damaged_element_is_found_out(monkeypatch, capsys):
    def forget_last(slices, rng):
        slices[-1].pop("SeriesInstanceUID", None)
        return slices

    monkeypatch.setattr(fuzz_series, "CHANGES", (forget_last,) * 3)
    fuzz_series.main(["--series", "2"])
    monkeypatch.setattr(dicom, "_strays", lambda *arguments: [])
    with pytest.raises(SystemExit, match="1"):
        fuzz_series.main(["--series", "2"])
    assert "slices that are there are not in their volume" in capsys.readouterr().out
