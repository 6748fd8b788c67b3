import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest

from stages.lib.params.ingest import IngestParams, SelectParams
from tests.raw_data import scan, write_series
from tools import survey


def with_value(keyword, value):
    def change(slices):
        for image in slices:
            setattr(image, keyword, value)

    return change


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "mine"
    write_series(raw / "a" / "ct", scan(8), with_value("SeriesDescription", "Lung"), "ct")
    write_series(
        raw / "a" / "scout", scan(1), lambda slices: setattr(slices[0], "ImageType", ["O", "P", "LOCALIZER"]), "s"
    )
    write_series(raw / "b" / "gap", scan(8, seed=1), lambda slices: slices.pop(4), "gap")
    imageio.imwrite(raw / "a" / "note.png", np.zeros((9, 9), np.uint8))
    (raw / "b" / "report.txt").write_text("all is well")
    return raw


def test_each_series_is_a_row_with_what_ingest_would_make_of_it(raw, tmp_path):
    table, others = survey.survey(raw, IngestParams())
    assert table["folder"].tolist() == ["a/ct", "a/scout", "b/gap"]
    assert table["files"].tolist() == [8, 1, 7]
    assert table["result"].tolist() == [
        "volume of 8 x 7 x 6 at 2.5 x 0.75 x 0.5 mm",
        "set aside: localizer",
        "rejected: missing_slices (7)",
    ]
    assert "expected 2.5 mm" in table["detail"][2]
    assert others == {"pictures": 1, "not_an_image": 1}
    assert set(table["modality"]) == {"CT"} and set(table["sop_class"]) == {"CT Image Storage"}
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_what_select_would_leave_out_is_seen_before_ingest(raw):
    table, _ = survey.survey(raw, IngestParams(select=SelectParams(series_description="lung")))
    assert table["result"].str.startswith("set aside: unselected").tolist() == [False, True, True]


@pytest.mark.slow
def test_it_prints_the_table_and_writes_it_with_uids_where_asked_to(raw, tmp_path, capsys):
    survey.main([str(raw)])
    printed = capsys.readouterr().out
    assert "Lung" in printed and "3 series of CT (CT Image Storage), 16 files" in printed
    assert "other files: 1 not_an_image, 1 pictures" in printed
    survey.main([str(raw), "--csv", str(tmp_path / "survey.csv")])
    written = pd.read_csv(tmp_path / "survey.csv", dtype=str)
    assert tuple(written.columns) == survey.CSV_COLUMNS and written["series"].is_unique


@pytest.mark.slow
def test_the_datasets_own_block_counts(raw, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text(
        "datasets: {mine: {ingest: {select: {modality: MR}}, split: {}, statistics: {}, dataset: {}, train: {}, "
        "validate: {}, export: {}}}\n"
    )
    with pytest.raises(SystemExit, match="MR fits none of 16 DICOM files; there is CT"):
        survey.main([str(raw)])


def test_a_folder_without_dicom_files_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x.txt").write_text("x")
    with pytest.raises(SystemExit, match="none of 1 files is a DICOM file"):
        survey.main([str(tmp_path / "raw")])
