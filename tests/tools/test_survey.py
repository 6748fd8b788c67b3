import shutil

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest

from stages.lib.params.ingest import IngestParams, SelectParams
from tests.ingest.readers.test_dicom_pictures import x_ray
from tests.raw_data import ingest, scan, write_series
from tools import survey

pytestmark = pytest.mark.usefixtures("alone")


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


def test_views_have_a_column_where_there_are_some_and_a_key_that_selects_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    for i in range(4):
        (raw / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        image = x_ray(i, ViewPosition=("PA", "LL")[i // 2], ImageLaterality="U")
        image.save_as(raw / "ab"[i % 2] / f"{i}", enforce_file_format=True)
    survey.main([str(raw)])
    printed = capsys.readouterr().out
    assert " view " in printed and " LL " in printed and "slice_thickness" not in printed
    assert "picture: 4 series" in printed
    done = ingest(raw, tmp_path / "out", select=SelectParams(view="pa"))
    assert set(done.table["view"]) == {"PA"} and done.counts["set_aside"] == {"unselected": 2}


def test_a_slice_that_is_cut_counts_as_a_file_of_its_series(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path / "raw" / "a")
    cut = tmp_path / "raw" / "a" / "000"
    cut.write_bytes(cut.read_bytes()[:-10])
    table, others = survey.survey(tmp_path / "raw", IngestParams())
    assert table["files"].tolist() == [8] and not others
    assert "rejected: truncated" in table["result"][0] and "rejected: unreadable_slice" in table["result"][0]


def test_an_archive_that_is_not_read_in_place_is_to_be_unpacked_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "export.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    with pytest.raises(SystemExit, match=r"export\.7z is a 7-Zip archive, which is not read: `7z x "):
        survey.main([str(tmp_path / "raw")])
    (tmp_path / "raw" / "words.txt").write_text("beside it")
    with pytest.raises(SystemExit, match=r"unpack what is packed so, as export\.7z, first"):
        survey.main([str(tmp_path / "raw")])


def test_series_in_an_archive_are_the_rows_of_their_folder(raw, tmp_path):
    expected, others = survey.survey(raw, IngestParams())
    shutil.make_archive(str(tmp_path / "x"), "zip", raw)
    shutil.rmtree(raw)
    raw.mkdir()
    (tmp_path / "x.zip").rename(raw / "x.zip")
    table, packed_others = survey.survey(raw, IngestParams())
    pd.testing.assert_frame_equal(table, expected)
    assert table["series_description"].tolist()[0] == "Lung" and packed_others == others
