"""The stage as a whole, on tiny raw data."""

import os
import zipfile

import highdicom
import imageio.v3 as imageio
import numpy as np
import pydicom
import pytest
import SimpleITK

from stages import ingest as stage
from stages.lib.core.errors import UserError
from stages.lib.ingest.readers import contract
from stages.lib.ingest.readers.pictures import pillow
from tests.raw_data import SHARED, ingest, scan, write_pictures, write_series


def test_pictures_of_mixed_sizes_are_those_that_imageio_reads(tmp_path):
    write_pictures(tmp_path / "raw")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.axes == "CHW"
    assert done.counts["classes"] == {"cat": 4, "dog": 4}
    read = sorted(
        [np.atleast_3d(imageio.imread(path)) for path in (tmp_path / "raw").rglob("*.*")],
        key=lambda picture: (picture.shape[0], picture.tobytes()[:8]),
    )
    expected = {np.broadcast_to(p, (*p.shape[:2], 3)).transpose(2, 0, 1).tobytes() for p in read}
    assert {pixels.tobytes() for pixels in done.pixels} == expected


def test_a_series_is_a_volume_in_hounsfield_units_whatever_its_files_are_called(tmp_path):
    pixels = write_series(tmp_path / "raw" / "healthy" / "a")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert (done.axes, done.units) == ("CDHW", "HU")
    assert np.array_equal(done.pixels[0][0], pixels)
    assert done.spacings_mm.tolist() == [[2.5, 0.75, 0.5]]
    row = done.table.iloc[0]
    assert (row.label, row.orientation, row.modality) == ("healthy", "HPL", "CT")
    assert row.affine == "0 0 0.5 -10 0 0.75 0 -20 2.5 0 0 0"


def test_the_same_data_give_the_same_bytes_whatever_the_number_of_workers(tmp_path):
    write_pictures(tmp_path / "raw", each=40)
    one = ingest(tmp_path / "raw", tmp_path / "one")
    other = ingest(tmp_path / "raw", tmp_path / "other", workers=2)
    assert one.bytes() == other.bytes()


def test_cases_of_one_patient_are_one_group(tmp_path):
    for series in ("one", "two"):
        write_series(tmp_path / "raw" / "a" / series, scan(seed=len(series)), series=series)
    write_series(tmp_path / "raw" / "b" / "x", scan(seed=9), series="x", patient="Roe")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["groups"] == 2


def test_more_rejects_than_allowed_fail_with_a_summary_and_the_list(tmp_path):
    write_pictures(tmp_path / "raw")
    (tmp_path / "raw" / "cat" / "bad.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"1 of 9 cases were rejected \(1 not_an_image\).*rejected.csv"):
        ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.05)
    assert "cat/bad.jpg,rejected,not_an_image" in (tmp_path / "out" / "rejected.csv").read_text()
    assert not (tmp_path / "out" / "cases").exists()


@pytest.mark.slow
def test_the_real_chest_ct_is_as_it_is_known_and_as_highdicom_and_simpleitk_read_it(tmp_path):
    archive = SHARED / "ct-chest-dicom.zip"
    if not archive.exists():
        pytest.skip("the chest CT is not in ../shared/data")
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "raw" / "chest")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    pixels = done.pixels[0]
    assert pixels.shape == (1, 99, 512, 512)
    assert pixels.dtype == np.int16
    assert done.spacings_mm[0] == pytest.approx([3.0, 0.564453, 0.564453], abs=1e-6)
    assert (pixels.min(), pixels.max()) == (-1024, 3071)
    assert pixels.mean() == pytest.approx(-354.724, abs=5e-4)
    paths = sorted((tmp_path / "raw").rglob("*.dcm"))
    volume = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths])
    assert np.array_equal(along_the_normal(volume.array, volume.get_affine("LPS")[2, 0]), pixels[0])
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(paths[0].parent)))
    image = reader.Execute()
    assert np.array_equal(along_the_normal(SimpleITK.GetArrayFromImage(image), image.GetDirection()[8]), pixels[0])


def along_the_normal(slices: np.ndarray, step: float) -> np.ndarray:
    """Axial slices from the feet up, whatever way they were stacked."""
    return slices if step > 0 else slices[::-1]


@pytest.mark.parametrize("broken", ["inspect", "decode"])
def test_a_syntax_error_that_a_decoder_raises_rejects_its_file_alone(broken, tmp_path, monkeypatch):
    """Pillow raises SyntaxError for some damaged files."""
    write_pictures(tmp_path / "raw")
    (tmp_path / "raw" / "cat" / "odd.png").write_bytes((tmp_path / "raw" / "cat" / "0.png").read_bytes() + b"odd")
    sound = getattr(pillow, broken)

    def raising(content, *given):
        if content.endswith(b"odd"):
            raise SyntaxError("not a TIFF IFD")
        return sound(content, *given)

    monkeypatch.setattr(pillow, broken, raising)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.reason("cat/odd.png") == "unreadable"
    assert done.counts["cases"] == 8


def test_the_log_takes_a_name_that_is_no_utf_8(tmp_path, monkeypatch):
    monkeypatch.setenv(contract.LOG, str(tmp_path / "log"))
    monkeypatch.setattr(contract, "_reading", [os.fsdecode(b"odd\xff.png")])
    assert contract.where_raised(ValueError("of a library")).startswith("ValueError")
    assert r"odd\udcff.png" in (tmp_path / "log").read_text()


def test_a_log_that_has_grown_large_is_kept_once_and_a_new_one_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "MOST_LOG_BYTES", 10)
    write_pictures(tmp_path / "raw")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ingest.log").write_text("what happened before")
    ingest(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "ingest.old.log").read_text() == "what happened before"
    assert not (tmp_path / "out" / "ingest.log").exists()
