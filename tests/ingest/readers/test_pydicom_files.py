"""All of pydicom's own test files: none crashes or is lost, and the pixels are those of two independent readers."""

import io
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.readers import dicom
from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.params.ingest import IngestParams, SelectParams
from tests.raw_data import Ingested, ingest, write_series

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
pytestmark = pytest.mark.filterwarnings("ignore")  # the other readers' about these files, many of which are damaged


@pytest.fixture(scope="module", params=["volumes", "images"])
def done(request, tmp_path_factory) -> Ingested:
    folder = tmp_path_factory.mktemp("all")
    (folder / "raw").mkdir()
    (folder / "raw" / "all").symlink_to(FILES)
    select = SelectParams(modality="*")  # all kinds together
    return ingest(folder / "raw", folder / "out", kind=request.param, burned_in="keep", select=select)


def test_every_file_is_accounted_for(done):
    files = done.counts["files"]
    assert files["total"] == sum(path.is_file() for path in FILES.rglob("*"))
    assert files["in_cases"] + files["rejected"] + files["ignored"] + files["set_aside"] == files["total"]
    assert len(done.rejected) == files["total"] - files["in_cases"]
    assert done.rejected["reason"].ne("").all()


def test_the_one_intact_volume_has_its_known_size_and_values(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "all").symlink_to(FILES)
    done = ingest(tmp_path / "raw", tmp_path / "out", kind="volumes")
    (volume,) = done.pixels
    assert (volume.shape, volume.dtype, done.units) == ((1, 5, 16, 16), np.int16, "HU")
    assert done.spacings_mm[0] == pytest.approx([2.5, 0.488281, 0.488281], abs=1e-6)
    assert (volume.min(), volume.max()) == (-888, 85)
    paths = set(done.rejected["path"])
    assert not any("98892001/CT5N" in path for path in paths)


def test_the_volume_is_that_of_highdicom_and_of_simpleitk(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "all").symlink_to(FILES / "dicomdirtests" / "98892001" / "CT5N")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    paths = [path for path in (FILES / "dicomdirtests" / "98892001" / "CT5N").iterdir()]
    check_volume(done.pixels[0][0], [pydicom.dcmread(path) for path in paths], paths, tmp_path)


def test_a_made_series_is_that_of_highdicom_and_of_simpleitk(tmp_path):
    write_series(tmp_path / "raw" / "a")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    paths = sorted((tmp_path / "raw" / "a").iterdir())
    check_volume(done.pixels[0][0], [pydicom.dcmread(path) for path in paths], paths, tmp_path)


def check_volume(volume: np.ndarray, images: list, paths: list[Path], folder: Path) -> None:
    """Compares (D, H, W) with what the two others make of the same files."""
    for image in images:
        image.StudyID = image.get("StudyID", "1")
    theirs = highdicom.get_volume_from_series(images, dtype=np.float64).array
    theirs = theirs if np.array_equal(theirs, volume) else theirs[::-1]  # it may start at the other end
    assert np.array_equal(theirs, volume)
    ordered = sorted(zip(images, paths, strict=True), key=lambda pair: pair[0].ImagePositionPatient[2])
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for _, path in ordered])
    assert np.array_equal(SimpleITK.GetArrayFromImage(reader.Execute()), volume)


def accepted_pictures() -> list[Path]:
    options = Options(IngestParams(kind="images", burned_in="keep"), OPEN)
    found = {path: inspect_file(str(path), options).shared for path in sorted(FILES.rglob("*")) if path.is_file()}
    return [path for path, shared in found.items() if shared is not None and shared.reader == "dicom"]


def read_alone(path: Path) -> np.ndarray | None:
    """A file's picture, (C, H, W), by the reader; None where it is rejected."""
    options = Options(IngestParams(kind="images", burned_in="keep"), OPEN)
    table = FileTable([str(path)])
    table.put(0, options.identify("path", str(path)), inspect_file(str(path), options))
    assembly = dicom.assemble([table.file(0)] if "dicom" in table.accepted else [], [], options)
    if not assembly.cases:
        return None
    (case,) = assembly.cases
    try:
        (pixels,) = dicom.read(case.files, case.recipe, 0, 1, lambda file: path.read_bytes(), options)
    except Rejected:
        return None
    return pixels.reshape(case.shape)


def by_highdicom(path: Path) -> np.ndarray:
    image = highdicom.imread(io.BytesIO(path.read_bytes()))
    return image.get_frame(1, apply_voi_transform=False, apply_presentation_lut=True, dtype=np.float64)


def by_simpleitk(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


# SimpleITK brings a 16-bit palette down to 8 bits, and mixes up the bytes of 16-bit run-length colours (highdicom,
# which reads the latter as well, agrees with us).
LEFT_OUT = {("examples_palette.dcm", "SimpleITK"), ("SC_rgb_rle_16bit.dcm", "SimpleITK")}


@pytest.mark.slow
def test_pictures_are_those_of_other_readers_wherever_these_can_read_them():
    """Each accepted file by itself: SimpleITK and highdicom, where it can be read, and one of them for most."""
    compared = {"highdicom": 0, "SimpleITK": 0}
    differing = []
    for path in accepted_pictures():
        ours = read_alone(path)
        if ours is None:
            continue
        image = pydicom.dcmread(path, force=True)
        for name, read in (("highdicom", by_highdicom), ("SimpleITK", by_simpleitk)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = np.squeeze(read(path))
            except Exception:  # it can't read this one
                continue
            if (path.name, name) in LEFT_OUT:
                continue
            pixels = np.squeeze(ours.transpose(1, 2, 0))
            if image.get("Modality") == "CT" and "PixelPaddingValue" in image:
                kept = pixels != -1000
                pixels, theirs = pixels[kept], theirs[kept]
            if pixels.shape == theirs.shape and np.array_equal(pixels, theirs.astype(pixels.dtype)):
                compared[name] += 1
            else:
                differing.append((path.name, name, pixels.shape, theirs.shape))
    assert differing == []
    assert min(compared.values()) >= 25
