import json
import shutil

import numpy as np
import pytest
import SimpleITK
import tifffile

from tests.ingest.readers.test_nifti import save
from tests.ingest.readers.test_volume_files import itk
from tests.raw_data import scan, write_series
from tools.bench import second_reader, second_tiff_reader, tolerances

pytestmark = pytest.mark.usefixtures("alone")


def test_a_volume_is_the_same_in_any_order_and_direction_of_axes_and_with_another_scale():
    volume = scan().astype(np.float64)
    other = volume.transpose(2, 1, 0)[:, ::-1] * 2.5 - 7
    assert second_reader.is_same(volume, other)
    other[0, 0, 0] += 100
    assert not second_reader.is_same(volume, other)
    assert not second_reader.is_same(volume, scan(seed=1))
    assert not second_reader.is_same(volume, volume[:-1])


def test_volumes_are_counted_as_the_second_reader_has_them(tmp_path, capsys):
    save(tmp_path / "Ref" / "scan.nii.gz", np.stack([scan(), scan(seed=1)]))
    save(tmp_path / "Ref" / "more" / "scan.nii", scan(seed=2))
    SimpleITK.WriteImage(itk(scan(seed=3)), str(tmp_path / "Ref" / "scan.mha"))
    assert second_reader.compare_volumes(tmp_path / "Ref") == 0
    assert "4 of 4 volumes are equal to the second reader's" in capsys.readouterr().out


def test_a_volume_is_not_the_second_readers_with_another_number_or_place(tmp_path):
    save(tmp_path / "scan.nii", pixels := scan())
    affine = "0 0 0.5 -10 0 0.75 0 -20 2.5 0 0 0"
    row = {"affine": affine, "phase": ""}
    assert second_reader.is_theirs(pixels, row, tmp_path / "scan.nii")
    assert not second_reader.is_theirs(pixels + (pixels == pixels.max()), row, tmp_path / "scan.nii")
    assert not second_reader.is_theirs(pixels[:, ::-1], row, tmp_path / "scan.nii")
    elsewhere = row | {"affine": affine.replace("-20", "-21")}
    assert not second_reader.is_theirs(pixels, elsewhere, tmp_path / "scan.nii")


def test_tiffs_are_counted_as_tifffile_reads_them(tmp_path, capsys, monkeypatch):
    stack = np.arange(2 * 3 * 8 * 9).reshape(2, 3, 8, 9)
    (tmp_path / "more").mkdir()
    plain = {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", stack.astype(np.uint16), imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(tmp_path / "b.tif", stack / 7, ome=True, metadata={"axes": "TZYX"}, **plain)
    tifffile.imwrite(tmp_path / "more" / "c.tif", stack[0].astype(np.int32), planarconfig="separate", **plain)
    tifffile.imwrite(tmp_path / "d.tif", stack[0, 0].astype(np.uint8), photometric="miniswhite")
    tifffile.imwrite(tmp_path / "e.tif", stack[0, 0] * 1j)
    (tmp_path / "f.txt").write_text("no picture")
    assert second_reader.compare_tiff(tmp_path) == 0
    counts = json.loads(capsys.readouterr().out.partition(": ")[2])
    assert counts == {
        **{"equal, as a stack": 2, "equal, as pictures": 1, "not compared": 1},
        "refused: unsupported_depth": 1,
    }
    frames = second_tiff_reader.frames
    monkeypatch.setattr(second_tiff_reader, "frames", lambda pixels, axes: frames(pixels, axes)[:, ::-1])
    assert second_reader.compare_tiff(tmp_path) == 2, "a.tif and c.tif have channels, whose order counts"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="no dcm2niix")
def test_ingest_and_dcm2niix_make_the_same_of_a_series(tmp_path, capsys):
    write_series(tmp_path / "raw")
    assert second_reader.compare(tmp_path / "raw") == 0
    assert "1 of 1 volumes are equal" in capsys.readouterr().out
    assert not tolerances.by_dcm2niix(tolerances.program(), tmp_path / "raw")
