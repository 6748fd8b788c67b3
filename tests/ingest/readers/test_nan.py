"""Numbers that are none, in every floating point format."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile

from stages.lib.core.errors import UserError
from tests.ingest.readers.test_nifti import save
from tests.ingest.readers.test_volume_files import itk
from tests.raw_data import ingest
from tools import raw_cases

PIXELS = np.where(np.arange(3 * 8 * 9).reshape(3, 8, 9) % 5 == 0, np.nan, np.arange(3 * 8 * 9).reshape(3, 8, 9) + 0.5)
WRITERS = {
    "x.tif": lambda path, pixels: tifffile.imwrite(path, pixels[0].astype(np.float32)),
    "packed.tif": lambda path, pixels: tifffile.imwrite(path, pixels[0], compression="zlib"),
    "x.npy": lambda path, pixels: np.save(path, pixels[0]),
    "x.nii.gz": lambda path, pixels: save(path, pixels.astype(np.float32)),
    "x.nii": lambda path, pixels: save(path, pixels, scl_slope=2),
    "x.nrrd": lambda path, pixels: SimpleITK.WriteImage(itk(pixels), str(path)),
    "x.mha": lambda path, pixels: SimpleITK.WriteImage(itk(pixels.astype(np.float32)), str(path)),
}


def write(folder: Path, name: str, pixels: np.ndarray) -> None:
    for i, label in enumerate("ab"):
        (folder / label).mkdir(parents=True)
        WRITERS[name](folder / label / name, pixels + i)


@pytest.mark.parametrize("name", WRITERS)
def test_nan_is_the_number_that_params_give_and_predict_reads_it_so(name, tmp_path):
    write(tmp_path / "raw", name, PIXELS)
    made = ingest(tmp_path / "raw", tmp_path, nan=-1)
    scale = 2 if name == "x.nii" else 1
    expected = np.where(np.isnan(PIXELS), -1, PIXELS * scale).astype(np.float32)
    wanted = expected if made.axes == "CDHW" else expected[0]
    assert any(np.array_equal(found[0], wanted) for found in made.pixels)
    kind = "volumes" if made.axes == "CDHW" else "images"
    asked = list(raw_cases.read_cases([str(tmp_path / "raw")], kind, 1, {"nan": -1.0}))
    assert sorted(case.pixels.tobytes() for case in asked) == sorted(found.tobytes() for found in made.pixels)


@pytest.mark.parametrize("name", WRITERS)
def test_without_one_nan_is_rejected_and_counted(name, tmp_path):
    write(tmp_path / "raw", name, PIXELS)
    with pytest.raises(UserError, match="2 not_finite.*set ingest.nan"):
        ingest(tmp_path / "raw", tmp_path)
    assert "15 nan: ingest.nan says what stands for nan" in (tmp_path / "rejected.csv").read_text()


@pytest.mark.parametrize("name", WRITERS)
def test_infinite_numbers_are_rejected_anyway(name, tmp_path):
    write(tmp_path / "raw", name, np.where(np.isnan(PIXELS), np.inf, PIXELS))
    with pytest.raises(UserError, match="2 not_finite"):
        ingest(tmp_path / "raw", tmp_path, nan=0)
    assert "15 infinite: write numbers in their place" in (tmp_path / "rejected.csv").read_text()
