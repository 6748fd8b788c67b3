"""Faults put into a CT: each gives the right volume or is rejected for the right reason; none gives a wrong volume."""

import copy
import io
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SegmentationStorage, generate_uid

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.scans import dicom_geometry
from tests.raw_data import SHARED, Ingested, as_one_object, ingest, make_slice, scan, write_series

RIGHT = "right"
MIDDLE = 4  # the slice that is spoilt


def pixels_of(image: Dataset) -> np.ndarray:
    return np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)


def with_pixels(image: Dataset, pixels: np.ndarray) -> Dataset:
    image.Rows, image.Columns = pixels.shape
    image.PixelData = pixels.astype("<u2").tobytes()
    return image


def drop(slices: list[Dataset]) -> None:
    del slices[MIDDLE]


def copy_instance(slices: list[Dataset]) -> None:
    slices.append(copy.deepcopy(slices[MIDDLE]))


def repeat_with_other_uid(slices: list[Dataset]) -> None:
    again = copy.deepcopy(slices[MIDDLE])
    again.SOPInstanceUID = generate_uid()
    slices.append(again)


def tilt(slices: list[Dataset], degrees: float = 15.0) -> None:
    angle = np.radians(degrees)
    for image in slices:
        image.ImageOrientationPatient = [1, 0, 0, 0, round(np.cos(angle), 8), round(np.sin(angle), 8)]


def tilt_in_tag(slices: list[Dataset]) -> None:
    for image in slices:
        image.GantryDetectorTilt = 5


def add_localizer(slices: list[Dataset]) -> None:
    scout = copy.deepcopy(slices[0])
    scout.SOPInstanceUID = generate_uid()
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    slices.append(with_pixels(scout, np.zeros((30, 5), np.uint16)))


def add_unnamed_localizer(slices: list[Dataset]) -> None:
    add_localizer(slices)
    slices[-1].ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]


def shift_one(slices: list[Dataset], fraction: float = 0.3) -> None:
    x, y, z = slices[MIDDLE].ImagePositionPatient
    step = slices[MIDDLE + 1].ImagePositionPatient[2] - z
    slices[MIDDLE].ImagePositionPatient = [x, y, z + fraction * step]


def jitter(slices: list[Dataset]) -> None:
    shift_one(slices, 0.9e-4)


def jitter_directions(slices: list[Dataset]) -> None:
    slices[MIDDLE].ImageOrientationPatient = [0.99999999, 0.00005, 0, -0.00005, 0.99999999, 0]


def two_frames_of_reference(slices: list[Dataset]) -> None:
    for image in slices[MIDDLE:]:
        image.FrameOfReferenceUID = "1.2.3.4"


def four_dimensional(slices: list[Dataset]) -> None:
    for image in list(slices):
        again = copy.deepcopy(image)
        again.SOPInstanceUID = generate_uid()
        again.AcquisitionNumber = 2
        slices.append(with_pixels(again, pixels_of(image) ^ 1))


def shuffle_numbers(slices: list[Dataset]) -> None:
    for image, number in zip(slices, np.random.default_rng(0).permutation(len(slices)), strict=True):
        image.InstanceNumber = int(number)


def delete(keyword: str, everywhere: bool = False) -> Callable[[list[Dataset]], None]:
    def spoil(slices: list[Dataset]) -> None:
        for image in slices if everywhere else [slices[MIDDLE]]:
            if keyword in image:
                delattr(image, keyword)

    return spoil


def set_all(**values: object) -> Callable[[list[Dataset]], None]:
    def spoil(slices: list[Dataset]) -> None:
        for image in slices:
            for keyword, value in values.items():
                setattr(image, keyword, value)

    return spoil


def same_numbers(slices: list[Dataset]) -> None:
    set_all(InstanceNumber=1)(slices)


def mix_sizes(slices: list[Dataset]) -> None:
    image = slices[MIDDLE]
    with_pixels(image, pixels_of(image)[:-1])


def change_slope(slices: list[Dataset]) -> None:
    slices[MIDDLE].RescaleSlope = 2


def short_pixels(slices: list[Dataset]) -> None:
    slices[MIDDLE].PixelData = slices[MIDDLE].PixelData[:-10]


def short_last(slices: list[Dataset]) -> None:
    slices[-1].PixelData = slices[-1].PixelData[:-10]


def bare_last(slices: list[Dataset]) -> None:
    del slices[-1].PixelData


def other_pixels(slices: list[Dataset]) -> None:
    again = copy.deepcopy(slices[MIDDLE])
    slices.append(with_pixels(again, pixels_of(again) ^ 1))


def lookup_table(slices: list[Dataset]) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [1, 0, 16], "HU", [0]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    set_all(ModalityLUTSequence=Sequence([table]))(slices)


def garbage_above(slices: list[Dataset]) -> None:
    for image in slices:
        with_pixels(image, pixels_of(image) | 0xA000)


def nothing(slices: list[Dataset]) -> None:
    pass


# What is done to the series, and what must come of it. The first seventeen are faults by which readers are compared.
FAULTS: dict[str, tuple[Callable[[list[Dataset]], None], str]] = {
    "a slice missing": (drop, "missing_slices"),
    "an instance twice": (copy_instance, RIGHT),
    "a tilt of 15 degrees": (tilt, "tilted"),
    "a localizer inside": (add_localizer, RIGHT),
    "uneven gaps": (shift_one, "uneven_gaps"),
    "two frames of reference": (two_frames_of_reference, "mixed_frames_of_reference"),
    "four dimensions": (four_dimensional, "several_at_a_place"),
    "instance numbers shuffled": (shuffle_numbers, RIGHT),
    "a position missing": (delete("ImagePositionPatient"), "position_missing"),
    "an orientation missing": (delete("ImageOrientationPatient"), "orientation_missing"),
    "a spacing missing": (delete("PixelSpacing"), "spacing_missing"),
    "a slice without pixels": (delete("PixelData"), "unreadable_slice"),
    "mixed sizes": (mix_sizes, "mixed_sizes"),
    "a slope that differs": (change_slope, "float32"),
    "a slice's pixels cut": (short_pixels, "unreadable_slice"),
    "the last slice's pixels cut": (short_last, "unreadable_slice"),
    "the last slice without pixels": (bare_last, "unreadable_slice"),
    # more of our own
    "positions missing everywhere": (delete("ImagePositionPatient", True), "position_missing"),
    "instance numbers absent": (delete("InstanceNumber", True), RIGHT),
    "instance numbers all the same": (same_numbers, RIGHT),
    "a localizer that does not say so": (add_unnamed_localizer, RIGHT),
    "a slice twice under another name": (repeat_with_other_uid, RIGHT),
    "an instance twice with other pixels": (other_pixels, "instance_twice"),
    "a tilt in its tag alone": (tilt_in_tag, "tilted"),
    "MONOCHROME1": (set_all(PhotometricInterpretation="MONOCHROME1"), "inverted_values"),
    "a modality lookup table": (lookup_table, "modality_lut"),
    "a Siemens mosaic": (set_all(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic"),
    "no rescale slope": (delete("RescaleSlope", True), "rescale_missing"),
    "positions off by 0.9e-4 of a gap": (jitter, RIGHT),
    "directions off by 0.5e-4": (jitter_directions, RIGHT),
    "garbage above the stored bits": (garbage_above, RIGHT),
    "nothing": (nothing, RIGHT),
}


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[Dataset]:
    """Sixteen slices of the real chest CT, of each every fourth pixel; a made series where it is missing."""
    archive = SHARED / "ct-chest-dicom.zip"
    if not archive.exists():
        return [make_slice(i, pixels) for i, pixels in enumerate(scan(20, 16, 12))]
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
        images = [pydicom.dcmread(io.BytesIO(file.read(name))) for name in names]
    images = sorted(images, key=lambda image: image.ImagePositionPatient[2])[:16]
    for image in images:
        with_pixels(image, pixels_of(image)[100:400:4, 100:420:4])
        image.PixelSpacing = [4 * step for step in image.PixelSpacing]
    return copied(images)


def expected_of(slices: list[Dataset]) -> np.ndarray:
    """(D, H, W) Hounsfield units, from the numbers in the files alone."""
    return np.stack([pixels_of(image).astype(np.int32) * int(image.RescaleSlope) - 1024 for image in slices])


def put(raw: Path, slices: list[Dataset]) -> None:
    raw.mkdir(parents=True)
    for name, image in zip(np.random.default_rng(0).permutation(len(slices)), slices, strict=True):
        image.save_as(raw / f"{name:03d}.dcm", enforce_file_format=True)


def write_healthy(raw: Path) -> None:
    """A second series, so that there always is a case."""
    folder = raw / "y" / "healthy"
    folder.mkdir(parents=True)
    for name, content in healthy().items():
        (folder / name).write_bytes(content)


@cache
def healthy() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_series(Path(folder), scan(5, 9, 9), series="healthy", patient="Roe")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def copied(slices: list[Dataset]) -> list[Dataset]:
    """As `copy.deepcopy`, in a third of the time: what nobody changes stays the bytes that were read."""
    found = []
    for image in slices:
        written = io.BytesIO()
        image.save_as(written, enforce_file_format=True)
        found.append(pydicom.dcmread(io.BytesIO(written.getvalue())))
    return found


def spoilt_case(done: Ingested) -> np.ndarray | None:
    found = [p[0] for p, label in zip(done.pixels, done.table["label"], strict=True) if label == "x"]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gives_the_right_volume_or_the_right_reason(fault, series, tmp_path):
    spoil, outcome = FAULTS[fault]
    spoilt = copied(series)
    spoil(spoilt)
    put(tmp_path / "raw" / "x", spoilt)
    write_healthy(tmp_path / "raw")
    kept = {}
    try:
        done = ingest(tmp_path / "raw", tmp_path / "out")
        volume = spoilt_case(done)
        kept = done.counts["rejected"]
    except UserError as error:  # the class has no case left; rejected.csv has the reason
        assert "no case of class 'x'" in str(error)
        volume = None
        kept = dict.fromkeys(
            line.split(",")[2] for line in (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
        )
    if outcome == RIGHT:
        assert volume is not None and volume.dtype == np.int16
        assert np.array_equal(volume, expected_of(series))
    elif outcome == "float32":
        assert volume is not None and volume.dtype == np.float32
        assert np.array_equal(volume, expected_of(spoilt))
    else:
        assert volume is None
        assert outcome in kept


def test_two_series_in_a_folder_are_two_volumes(series, tmp_path):
    other = copied(series)
    for image in other:
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3", generate_uid()
        with_pixels(image, pixels_of(image)[::-1])
    put(tmp_path / "raw" / "x", [*series, *other])
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert {pixels.tobytes() for pixels in done.pixels} == {
        expected_of(one).astype(np.int16).tobytes() for one in (series, other)
    }
    assert done.counts["groups"] == 1


@pytest.mark.parametrize("content", [b"", b"<html>gone</html>", "cut in its header", "cut in its pixels"])
@pytest.mark.parametrize("at", [0, MIDDLE, -1])
def test_a_file_that_cannot_be_read_rejects_the_series_it_may_belong_to(content, at, series, tmp_path):
    put(tmp_path / "raw" / "x", series)
    write_healthy(tmp_path / "raw")
    path = sorted((tmp_path / "raw" / "x").iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])[at]
    whole = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else whole[:700] if "header" in content else whole[:-9])
    with pytest.raises(UserError, match="no case of class 'x'"):
        ingest(tmp_path / "raw", tmp_path / "out")
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv", keep_default_na=False)
    others = rejected[rejected["reason"] == "unreadable_slice"]
    assert len(others) == len(series) - 1
    assert others["detail"].str.contains(f"x/{path.name}").all()


def test_phases_at_one_place_can_be_split_into_volumes(series, tmp_path):
    spoilt = copied(series)
    set_all(AcquisitionNumber=1)(spoilt)
    four_dimensional(spoilt)
    put(tmp_path / "raw" / "x", spoilt)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d=True)
    half = len(series)
    assert {p.tobytes() for p in done.pixels} == {
        expected_of(phase).astype(np.int16).tobytes() for phase in (spoilt[:half], spoilt[half:])
    }
    assert done.counts["groups"] == 1


def phases(count, number, **elements):
    """Slices of so many volumes of eight, numbered by a function of volume and slice; with elements likewise."""
    volumes = [scan(seed=v) for v in range(count)]
    slices = []
    for v, volume in enumerate(volumes):
        for i, pixels in enumerate(volume):
            image = make_slice(i, pixels)
            image.SOPInstanceUID, image.InstanceNumber = generate_uid(entropy_srcs=[str(v), str(i)]), number(v, i)
            for keyword, value in elements.items():
                setattr(image, keyword, value(v, i))
            slices.append(image)
    return volumes, slices


@pytest.mark.parametrize("by_element", [False, True])
def test_a_slice_that_is_the_same_in_every_phase_as_of_air_is_one_of_each(tmp_path, by_element):
    elements = {"TemporalPositionIdentifier": lambda v, i: v} if by_element else {}
    volumes, slices = phases(3, lambda v, i: 8 * v + i, **elements)
    for image in slices[::8]:
        image.PixelData = slices[0].PixelData
    for volume in volumes:
        volume[0] = volumes[0][0]
    resent = copy.deepcopy(slices[3])
    resent.SOPInstanceUID = generate_uid()
    put(tmp_path / "raw" / "x", [*slices, resent])
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all")
    by_phase = dict(zip(done.table["phase"], done.pixels, strict=True))
    assert len(by_phase) == 3 and all(np.array_equal(by_phase[str(v)][0], volumes[v]) for v in range(3))
    assert done.counts["ignored"] == {"same_instance": 1} and done.counts["set_aside"] == {}


@pytest.mark.parametrize(
    ("number", "elements"),
    [
        (lambda v, i: 1, {"EchoTime": lambda v, i: v % 2, "TriggerTime": lambda v, i: v // 2}),
        (lambda v, i: 8 * v + i, {}),
        (lambda v, i: 8 * v + 7 - i, {"AcquisitionNumber": lambda v, i: 3}),
        (lambda v, i: 4 * i + v, {}),
        # Each slice has a time of its own, as in a scan from place to place: no volume, but its numbers say which.
        (lambda v, i: 100 + 8 * v + i, {"TriggerTime": lambda v, i: 8 * v + i}),
    ],
    ids=["two elements", "volume by volume", "from the other end", "place by place", "a time a slice"],
)
def test_volumes_at_one_place_are_told_apart_by_two_elements_or_by_the_numbers_of_the_instances(
    number, elements, tmp_path
):
    volumes, slices = phases(4, number, **elements)
    put(tmp_path / "raw" / "x", slices)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d=True)
    assert {p.tobytes() for p in done.pixels} == {volume.tobytes() for volume in volumes}
    assert done.counts["groups"] == 1 and done.counts["rejected"] == {}


@pytest.mark.parametrize(
    ("number", "lost"),
    [
        (lambda v, i: int(np.random.default_rng(0).permutation(32)[8 * v + i]), 0),
        (lambda v, i: i, 0),  # each twice and more
        (lambda v, i: 8 * v + i, 1),  # one is missing
    ],
    ids=["shuffled", "repeated", "incomplete"],
)
def test_numbers_of_instances_that_leave_a_doubt_tell_no_volumes_apart(number, lost, tmp_path):
    _, slices = phases(4, number)
    put(tmp_path / "raw" / "x", slices[lost:])
    write_healthy(tmp_path / "raw")
    with pytest.raises(UserError, match="no case of class 'x'"):
        ingest(tmp_path / "raw", tmp_path / "out", split_4d=True)
    assert "several_at_a_place" in (tmp_path / "out" / "rejected.csv").read_text()


def test_an_error_within_a_series_ends_that_series_alone(tmp_path, monkeypatch):
    write_series(tmp_path / "raw" / "a", series="one")
    write_series(tmp_path / "raw" / "b", scan(seed=1), series="two", patient="Roe")
    stacking = dicom_geometry.check_stacking

    def failing(frames, normal, options):
        if frames[0].path.startswith("a/"):
            raise ZeroDivisionError("division by zero")
        return stacking(frames, normal, options)

    monkeypatch.setattr(dicom_geometry, "check_stacking", failing)
    with pytest.raises(UserError, match="no case of class 'a'"):
        ingest(tmp_path / "raw", tmp_path / "out")
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    assert 'a/000,rejected,unreadable,"ZeroDivisionError in tests' in rejected and "b/000" not in rejected


COMPANIONS = {
    "report.txt": (b"nothing to see", "no_picture"),
    "report.xml": (b"<?xml version='1.0'?><a/>", "no_picture"),
    "dose.html": (b"<!doctype html><p>3 mGy", "no_picture"),
    "letter.pdf": (b"%PDF-1.4", "other_format"),
    "lock.tmp": (b"", "empty_file"),
    "autorun.inf": (b"[autorun]", "no_picture"),
    ".DS_Store": (b"Bud1", "litter"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0", "litter"),
    "preview.jpg": (None, "thumbnail"),
}


@pytest.mark.parametrize("place", ["x", "x/deeper", "."])
@pytest.mark.parametrize("name", COMPANIONS)
def test_what_lies_beside_the_slices_and_is_none_is_ignored_and_loses_no_series(name, place, tmp_path):
    content, reason = COMPANIONS[name]
    put(tmp_path / "raw" / "x" / "deeper", phases(1, lambda v, i: i)[1])
    write_healthy(tmp_path / "raw")
    path = tmp_path / "raw" / place / name
    if content is None:
        if place != "x/deeper":
            pytest.skip("a picture in a folder without slices is one of another kind")
        imageio.imwrite(path, np.zeros((20, 20), np.uint8))
    else:
        path.write_bytes(content)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["cases"] == 2 and done.counts["rejected"] == {} and done.counts["ignored"] == {reason: 1}


@pytest.mark.parametrize("name", ["008.dcm", "008", "1.2.840.10008.9", "SLICE.IMA"])
@pytest.mark.parametrize("content", [b"", b"<html>503 Service Unavailable</html>"])
def test_a_file_that_is_named_as_a_slice_may_be_one_and_rejects_its_series(name, content, tmp_path):
    write_series(tmp_path / "raw" / "x")  # 000 to 007
    write_healthy(tmp_path / "raw")
    (tmp_path / "raw" / "x" / name).write_bytes(content)
    with pytest.raises(UserError, match="no case of class 'x'"):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert "unreadable_slice" in (tmp_path / "out" / "rejected.csv").read_text()


def test_an_archive_or_a_volume_of_another_format_beside_slices_stays_rejected(tmp_path):
    put(tmp_path / "raw" / "x", phases(1, lambda v, i: i)[1])
    (tmp_path / "raw" / "x" / "more.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["rejected"] == {"unsupported_format": 1}


def test_padding_that_is_no_hounsfield_unit_is_air_before_it_is_checked_whether_values_fit(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        for image in slices:
            image.BitsStored, image.HighBit, image.RescaleSlope, image.PixelPaddingValue = 16, 15, 2, 65535
            stored = (pixels_of(image) // 2).copy()
            stored[0, 0] = 65535  # 130046 Hounsfield units, more than int16 holds
            with_pixels(image, stored)

    pixels = write_series(tmp_path / "raw" / "a", spoil=spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert (done.pixels[0][0, :, 0, 0] == -1000).all()
    assert np.array_equal(done.pixels[0][0, :, 1:], (pixels[:, 1:] + 1024) // 2 * 2 - 1024)


def test_an_issuer_that_differs_splits_no_patient_in_two_unless_asked(tmp_path):
    def issued(by):
        return lambda slices: [setattr(image, "IssuerOfPatientID", by) for image in slices]

    for i, by in enumerate(("North", "South", "")):
        write_series(tmp_path / "raw" / "xy"[i % 2] / f"{i}", scan(seed=i), issued(by), f"series {i}")
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["groups"] == 1
    assert ingest(tmp_path / "raw", tmp_path / "out", issuer=True).counts["groups"] == 3


def test_padding_is_air(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        for image in slices:
            image.PixelPaddingValue = 63536
            stored = pixels_of(image).copy()
            stored[0, 0] = 63536
            with_pixels(image, stored)

    pixels = write_series(tmp_path / "raw" / "a", spoil=spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert (done.pixels[0][0, :, 0, 0] == -1000).all()
    assert np.array_equal(done.pixels[0][0, :, 1:], pixels[:, 1:])


def test_what_is_no_picture_is_counted_by_its_sop_class(tmp_path):
    write_series(tmp_path / "raw" / "a")
    other = make_slice(0, scan(1)[0])
    other.SOPClassUID = SegmentationStorage
    other.save_as(tmp_path / "raw" / "a" / "segmentation", enforce_file_format=True)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["ignored"] == {"Segmentation Storage": 1}
    assert done.counts["cases"] == 1


def test_files_without_preamble_or_meta_header_are_read(tmp_path):
    pixels = write_series(tmp_path / "raw" / "a")
    for path in (tmp_path / "raw" / "a").iterdir():
        image = pydicom.dcmread(path)
        del image.file_meta
        image.preamble = None
        image.save_as(path, implicit_vr=False, little_endian=True)
    assert not any(path.read_bytes()[128:132] == b"DICM" for path in (tmp_path / "raw" / "a").iterdir())
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(done.pixels[0][0], pixels)


def test_the_traceback_of_whatever_goes_wrong_in_a_series_is_in_a_log_that_its_owner_alone_can_read(
    tmp_path, monkeypatch, capsys
):
    write_series(tmp_path / "raw" / "a" / "one")
    write_series(tmp_path / "raw" / "a" / "two", scan(seed=1), series="two")
    monkeypatch.setattr(dicom_geometry, "check_orientation", failing_once(dicom_geometry.check_orientation))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["rejected"] == {"unreadable": 1} and len(done.table) == 1
    log = tmp_path / "out" / "ingest.log"
    assert "ZeroDivisionError: of one series" in log.read_text() and "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert f"{log} holds the errors of libraries" in capsys.readouterr().out


def failing_once(function):
    calls = []

    def wrapped(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError("of one series")
        return function(*arguments)

    return wrapped


def numbered_phases(folder, **elements):
    volumes, slices = phases(4, lambda v, i: 8 * v + i, **elements)
    put(folder / "raw" / "x", slices)
    return volumes


@pytest.mark.parametrize(("asked", "number"), [("first", 0), (0, 0), (2, 2)])
def test_one_phase_is_taken_where_it_is_asked_for_and_the_others_are_set_aside(tmp_path, asked, number):
    volumes = numbered_phases(tmp_path)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d=asked, max_rejected=0.0)
    assert np.array_equal(done.pixels[0][0], volumes[number])
    assert done.table["phase"].tolist() == [str(number)] and done.counts["set_aside"] == {"other_phase": 24}
    all_of_them = ingest(tmp_path / "raw", tmp_path / "all", split_4d="all")
    assert sorted(all_of_them.table["phase"]) == ["0", "1", "2", "3"]
    assert set(done.table["case"]) < set(all_of_them.table["case"])


def test_the_mean_of_all_phases_is_rounded_and_of_all_their_files(tmp_path):
    volumes = numbered_phases(tmp_path)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d="mean", max_rejected=0.0)
    expected = np.rint(np.mean(volumes, axis=0)).astype(np.int16)
    assert np.array_equal(done.pixels[0][0], expected) and done.table["phase"].tolist() == ["mean"]
    assert done.counts["files"]["in_cases"] == 32 and done.counts["set_aside"] == {}


def test_a_phase_that_is_not_there_is_rejected_with_what_there_is(tmp_path):
    numbered_phases(tmp_path)
    write_healthy(tmp_path / "raw")
    with pytest.raises(UserError):
        ingest(tmp_path / "raw", tmp_path / "out", split_4d=4)
    assert "ingest.split_4d is 4, and there are the phases 0 to 3" in (tmp_path / "out" / "rejected.csv").read_text()


def test_directions_of_diffusion_tell_phases_apart_with_their_b_values(tmp_path):
    directions = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 0)]
    volumes, slices = phases(
        4,
        lambda v, i: 1,
        DiffusionBValue=lambda v, i: float([0, 1000, 1000, 2000][v]),
        DiffusionGradientOrientation=lambda v, i: list(map(float, directions[v])),
    )
    put(tmp_path / "raw" / "x", slices)
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all")
    by_phase = dict(zip(done.table["phase"], done.pixels, strict=True))
    assert np.array_equal(by_phase["0"][0], volumes[0]) and len(by_phase) == 4


def test_mosaics_are_rejected_as_such_one_or_many(tmp_path):
    def as_mosaic(slices):
        for image in slices:
            image.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
            image.ImagePositionPatient = [0, 0, 0]

    write_series(tmp_path / "raw" / "a", scan(3), as_mosaic)
    write_series(tmp_path / "raw" / "b", scan(1), as_mosaic, series="one more")
    write_healthy(tmp_path / "raw")
    with pytest.raises(UserError, match="no case of class"):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "rejected.csv").read_text().count(",rejected,mosaic,") == 4


def test_the_phases_of_an_enhanced_object_are_told_apart_by_its_functional_groups(tmp_path):
    volumes, slices = phases(3, lambda v, i: 1)
    whole = as_one_object(slices, slices[0].SeriesInstanceUID)
    for i, group in enumerate(whole.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = i // 8 + 1
        group.FrameContentSequence = [content]
    put(tmp_path / "raw" / "x", [whole])
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all", max_rejected=0.0)
    by_phase = dict(zip(done.table["phase"], done.pixels, strict=True))
    assert all(np.array_equal(by_phase[str(v)][0], volume) for v, volume in enumerate(volumes))
    mean = ingest(tmp_path / "raw", tmp_path / "mean", split_4d="mean")
    assert np.array_equal(mean.pixels[0][0], np.rint(np.mean(volumes, axis=0)))
