"""The same slices twice: resent, compressed in several ways, and as one multi-frame object."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.scans.dicom_copies import loss
from tests.raw_data import SHARED, as_one_object, ingest, make_slice, scan, write_series

CHEST = SHARED / "ct-chest-dicom.zip"
LOSSLESS = (RLELossless, JPEG2000Lossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian)


def smooth(depth: int = 4, seed: int = 0) -> np.ndarray:
    """Hounsfield units that lossy compression keeps nearly."""
    ramp = np.linspace(-1000, 1000, 32)
    noise = np.random.default_rng(seed).integers(0, 3, (depth, 32, 32))
    return (ramp[:, None] * 0.6 + ramp[None, :] * 0.4 + noise).astype(np.int16)


def write_again(raw: Path, syntax: str, change=None) -> None:
    """The slices of raw/a/ct once more, below raw/a, in another transfer syntax."""
    folder = raw / "a" / syntax
    folder.mkdir()
    for path in sorted((raw / "a" / "ct").iterdir()):
        image = pydicom.dcmread(path)
        if change:
            change(image)
        options = {"j2k_psnr": [60]} if syntax == JPEG2000 else {}
        if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEG2000):
            image.compress(syntax, generate_instance_uid=False, **options)
        image.file_meta.TransferSyntaxUID = syntax
        image.save_as(folder / path.name, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)


@pytest.fixture
def raw(tmp_path):
    """A CT below raw/a/ct, and beside it and below raw/b others."""
    raw = tmp_path / "raw"
    write_series(raw / "a" / "ct", smooth())
    write_series(raw / "a" / "more", smooth(seed=2), series="more", patient="Poe")
    write_series(raw / "b", smooth(seed=1), series="other", patient="Roe")
    return raw


def first(done) -> np.ndarray:
    """The pixels of raw/a/ct, in whatever form they are there."""
    case = next(line[:16] for line in lines(done) if not line[17:].startswith(("a/more", "b/")))
    return done.pixels[done.table["case"].tolist().index(case)]


def lines(done) -> list[str]:
    return (done.folder / "files.csv").read_text().splitlines()[1:]


def taken(done) -> list[str]:
    """The files that are in cases."""
    return [line.partition(",")[2] for line in lines(done)]


@pytest.mark.slow
def test_copies_in_five_lossless_transfer_syntaxes_are_one_case_and_counted(raw, tmp_path):
    alone = ingest(raw, tmp_path / "alone")
    for syntax in LOSSLESS:
        write_again(raw, syntax)
    done = ingest(raw, tmp_path / "out", max_rejected=0.0)
    assert len(done.table) == 3 and np.array_equal(first(done), first(alone))
    assert done.table["case"].tolist() == alone.table["case"].tolist()
    assert done.counts["ignored"] == {"same_instance": 20} and done.counts["rejected"] == {}
    assert not any(syntax + "/" in path for path in taken(done) for syntax in LOSSLESS[:-1])  # packed ones
    again = ingest(raw, tmp_path / "out", max_rejected=0.0)
    assert again.bytes() == done.bytes()


@pytest.mark.parametrize("syntax", [JPEGLSLossless, ImplicitVRLittleEndian])
def test_other_pixels_under_one_uid_are_rejected(raw, tmp_path, syntax):
    def change(image):
        pixels = image.pixel_array.copy()
        pixels[3, 4] += 1
        image.PixelData = pixels.tobytes()

    write_again(raw, syntax, change)
    done = ingest(raw, tmp_path / "out")
    assert done.counts["rejected"] == {"instance_twice": 1}
    assert sorted(done.table["label"]) == ["a", "b"]
    assert done.rejected["detail"].str.contains("its pixels differ").any()


def test_another_place_under_one_uid_is_rejected(raw, tmp_path):
    def change(image):
        image.ImagePositionPatient[2] += 2.5

    write_again(raw, JPEGLSLossless, change)
    assert ingest(raw, tmp_path / "out").counts["rejected"] == {"instance_twice": 1}


def test_of_a_lossy_and_a_lossless_copy_the_lossless_one_is_kept(raw, tmp_path):
    alone = ingest(raw, tmp_path / "alone")
    write_again(raw, JPEGLSLossless)
    write_again(raw, JPEG2000)
    shutil.rmtree(raw / "a" / "ct")
    done = ingest(raw, tmp_path / "out", max_rejected=0.0)
    assert np.array_equal(first(done), first(alone))
    assert any(JPEGLSLossless in path for path in taken(done)) and not any(f"{JPEG2000}/" in p for p in taken(done))


def test_a_lossy_copy_of_something_else_is_rejected(raw, tmp_path):
    def change(image):
        image.PixelData = image.pixel_array[::-1].tobytes()

    write_again(raw, JPEG2000, change)
    assert ingest(raw, tmp_path / "out").counts["rejected"] == {"instance_twice": 1}


@pytest.mark.parametrize("own_series", [True, False])
def test_single_slices_and_one_object_of_them_are_one_case(raw, tmp_path, own_series):
    alone = ingest(raw, tmp_path / "alone")
    slices = sorted((pydicom.dcmread(p) for p in (raw / "a" / "ct").iterdir()), key=lambda s: s.InstanceNumber)
    uid = generate_uid() if own_series else slices[0].SeriesInstanceUID
    as_one_object(slices, uid).save_as(raw / "a" / "whole.dcm", enforce_file_format=True)
    done = ingest(raw, tmp_path / "out", max_rejected=0.0)
    assert len(done.table) == 3 and np.array_equal(first(done), first(alone))
    assert done.table["case"].tolist() == alone.table["case"].tolist()
    assert done.counts["ignored"] == {"same_scan" if own_series else "same_instance": 1}
    assert done.reason("a/whole.dcm") == ("same_scan" if own_series else "same_instance")
    assert ingest(raw, tmp_path / "out", max_rejected=0.0).bytes() == done.bytes()


def test_an_object_that_differs_from_the_slices_of_its_series_is_rejected_with_them(raw, tmp_path):
    slices = sorted((pydicom.dcmread(p) for p in (raw / "a" / "ct").iterdir()), key=lambda s: s.InstanceNumber)
    whole = as_one_object(slices, slices[0].SeriesInstanceUID)
    whole.PixelData = bytes(2) + whole.PixelData[2:]
    whole.save_as(raw / "a" / "whole.dcm", enforce_file_format=True)
    assert ingest(raw, tmp_path / "out").counts["rejected"] == {"instance_twice": 1}


def test_an_object_of_other_pixels_in_a_series_of_its_own_is_a_second_case(raw, tmp_path):
    slices = sorted((pydicom.dcmread(p) for p in (raw / "a" / "ct").iterdir()), key=lambda s: s.InstanceNumber)
    whole = as_one_object(slices, generate_uid())
    whole.PixelData = bytes(2) + whole.PixelData[2:]
    whole.save_as(raw / "a" / "whole.dcm", enforce_file_format=True)
    done = ingest(raw, tmp_path / "out")
    assert len(done.table) == 4 and done.table["group"].nunique() == 3


def test_an_object_with_another_label_than_its_slices_is_an_error(raw, tmp_path):
    slices = sorted((pydicom.dcmread(p) for p in (raw / "a" / "ct").iterdir()), key=lambda s: s.InstanceNumber)
    as_one_object(slices, generate_uid()).save_as(raw / "b" / "whole.dcm", enforce_file_format=True)
    with pytest.raises(UserError, match="b/whole.dcm is a copy of a/ct/.*its label is 'b', not 'a'"):
        ingest(raw, tmp_path / "out")


def test_a_picture_that_is_there_in_two_transfer_syntaxes_is_one_case(raw, tmp_path):
    write_again(raw, RLELossless)
    done = ingest(raw, tmp_path / "out", kind="images", max_rejected=0.0)
    assert len(done.table) == 12 and done.counts["ignored"] == {"same_instance": 4}


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (ExplicitVRBigEndian, 0),
        *((syntax, 0) for syntax in LOSSLESS),
        ("1.2.840.10008.1.2.4.57", 0),  # JPEG lossless, process 14
        ("1.2.840.10008.1.2.4.70", 0),
        ("1.2.840.10008.1.2.4.201", 0),  # HTJ2K lossless
        (JPEG2000, 1),
        ("1.2.840.10008.1.2.4.203", 1),
        ("1.2.840.10008.1.2.4.50", 2),  # JPEG baseline
        ("1.2.840.10008.1.2.4.51", 2),
        ("1.2.840.10008.1.2.4.81", 2),  # JPEG-LS near-lossless
    ],
)
def test_which_transfer_syntaxes_lose_something_is_known(syntax, expected):
    assert loss(syntax) == expected


def test_a_random_scan_too_is_compared_bit_by_bit(tmp_path):
    write_series(tmp_path / "raw" / "a" / "ct", scan())
    write_again(tmp_path / "raw", RLELossless)
    assert ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0).counts["ignored"] == {"same_instance": 8}


@pytest.mark.slow
@pytest.mark.skipif(not CHEST.exists(), reason=f"{CHEST} is missing")
def test_a_real_ct_in_five_encodings_and_as_one_object_with_what_lies_beside_it_is_one_case(tmp_path):
    raw, every = tmp_path / "raw", tmp_path / "alone"
    with zipfile.ZipFile(CHEST) as archive:
        archive.extractall(tmp_path / "chest")
    found = [pydicom.dcmread(path) for path in (tmp_path / "chest").rglob("*") if path.is_file() and is_dicom(path)]
    slices = sorted(found, key=lambda image: image.ImagePositionPatient[2])
    for folder in (raw / "a" / "ct", every / "a" / "ct"):
        folder.mkdir(parents=True)
        for i, image in enumerate(slices):
            image.save_as(folder / f"{i:03d}.dcm", enforce_file_format=True)
    for syntax in LOSSLESS[:-1]:
        write_again(raw, syntax)
    as_one_object(slices, generate_uid()).save_as(raw / "a" / "whole.dcm", enforce_file_format=True)
    (raw / "a" / "ct" / "report.txt").write_text("all is well")
    scout, shot = (make_slice(0, scan(1)[0], name, slices[0].PatientID) for name in ("scout", "shot"))
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    shot.SOPClassUID = SecondaryCaptureImageStorage
    del shot.ImagePositionPatient, shot.ImageOrientationPatient
    for name, image in (("scout", scout), ("shot", shot)):
        image.save_as(raw / "a" / f"{name}.dcm", enforce_file_format=True)
    for folder in (raw, every):
        write_series(folder / "b", patient="Roe", series="other")
    alone = ingest(every, tmp_path / "one", max_rejected=0.0)
    done = ingest(raw, tmp_path / "out", max_rejected=0.0)
    assert len(done.table) == 2 and np.array_equal(first(done), first(alone))
    assert done.counts["set_aside"] == {"localizer": 1, "secondary_capture": 1}
    assert done.counts["ignored"] == {"no_picture": 1, "same_instance": 4 * len(slices), "same_scan": 1}


def is_dicom(path: Path) -> bool:
    return path.read_bytes()[128:132] == b"DICM"
