"""Which DICOM files of an archive are cases: what is set aside, what `ingest.select` takes, and what is an error."""

import imageio.v3 as imageio
import numpy as np
import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    MRImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from stages.lib.core.errors import UserError
from stages.lib.params.ingest import SelectParams
from tests.raw_data import ingest, scan, write_series


def as_capture(slices):
    for image in slices:
        image.SOPClassUID = SecondaryCaptureImageStorage
        del image.ImagePositionPatient, image.ImageOrientationPatient


def as_dose_page(slices):
    for image in slices:
        image.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
        del image.ImagePositionPatient, image.ImageOrientationPatient


def as_scout(slices):
    for image in slices:
        image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def of(modality, sop_class):
    def change(slices):
        for image in slices:
            image.Modality, image.SOPClassUID = modality, sop_class
            if modality in ("CR", "DX"):
                del image.ImagePositionPatient, image.ImageOrientationPatient, image.RescaleSlope

    return change


as_mr, as_pet = of("MR", MRImageStorage), of("PT", PositronEmissionTomographyImageStorage)
as_cr, as_dx = of("CR", ComputedRadiographyImageStorage), of("DX", DigitalXRayImageStorageForPresentation)


@pytest.fixture
def archive(tmp_path):
    """Two studies of one CT each, with five pictures about it: many more than scans."""
    raw = tmp_path / "raw"
    for i, label in enumerate("ab"):
        write_series(raw / label / "ct", scan(seed=i), series=f"ct{i}", patient=f"p{i}")
        write_series(raw / label / "scout", scan(1, seed=10 + i), as_scout, f"scout{i}", f"p{i}")
        write_series(raw / label / "dose", scan(1, seed=20 + i), as_dose_page, f"dose{i}", f"p{i}")
        write_series(raw / label / "shots", scan(3, seed=30 + i), as_capture, f"shots{i}", f"p{i}")
    return raw


@pytest.mark.parametrize("params", [{}, {"burned_in": "keep"}, {"kind": "volumes"}])
def test_localizers_dose_pages_and_screenshots_are_set_aside_before_any_vote(archive, tmp_path, params):
    done = ingest(archive, tmp_path / "out", max_rejected=0.0, **params)
    assert (done.axes, len(done.table), done.counts["rejected"]) == ("CDHW", 2, {})
    assert done.counts["set_aside"] == {"localizer": 2, "secondary_capture": 8}
    assert done.counts["files"] == {"total": 26, "in_cases": 16, "rejected": 0, "ignored": 0, "set_aside": 10}
    assert set(done.rejected["outcome"]) == {"set aside"}


def test_of_slices_as_pictures_a_localizer_is_none_and_captures_are_pictures_where_they_are_asked_for(
    archive, tmp_path
):
    done = ingest(archive, tmp_path / "out", kind="images", max_rejected=0.0)
    assert (len(done.table), done.counts["set_aside"]) == (16, {"localizer": 2, "secondary_capture": 8})
    done = ingest(archive, tmp_path / "kept", kind="images", burned_in="keep")
    assert (len(done.table), done.counts["set_aside"]) == (24, {"localizer": 2})


def test_a_data_set_of_captures_alone_is_refused_with_the_way_to_keep_them(tmp_path):
    for label in "ab":
        write_series(tmp_path / "raw" / label, scan(2, seed=ord(label)), as_capture, label, label)
    with pytest.raises(UserError, match="2 secondary_capture"):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert "ingest.burned_in can be keep" in (tmp_path / "out" / "rejected.csv").read_text()
    assert len(ingest(tmp_path / "raw", tmp_path / "kept", kind="images", burned_in="keep").table) == 4


def test_captures_whose_scans_are_damaged_do_not_take_their_place(archive, tmp_path):
    for label in "ab":
        path = archive / label / "ct" / "003"
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="no case could be read: 2 of 2 cases were rejected"):
        ingest(archive, tmp_path / "out", burned_in="keep", max_rejected=0.0)


def test_a_file_that_labels_csv_names_is_never_set_aside(tmp_path):
    raw = tmp_path / "raw"
    write_series(raw / "dx", scan(2), as_dx, "dx", "p")
    write_series(raw / "sc", scan(2, seed=1), as_capture, "sc", "q")
    rows = "".join(f"{folder}/{i:03d},{'ab'[i]}\n" for folder in ("dx", "sc") for i in range(2))
    (raw / "labels.csv").write_text("path,label\n" + rows)
    done = ingest(raw, tmp_path / "out")
    assert (len(done.table), done.counts["rejected"]) == (2, {"secondary_capture": 1})
    with pytest.raises(UserError, match="2 images of CR/DX, 2 images of CT"):
        ingest(raw, tmp_path / "kept", burned_in="keep", kind="images")
    done = ingest(raw, tmp_path / "kept", burned_in="keep", kind="images", select=SelectParams(modality="*"))
    assert len(done.table) == 4


@pytest.fixture
def mixed(tmp_path):
    """CT and PET of two patients, and a CR each."""
    raw = tmp_path / "raw"
    for i, label in enumerate("ab"):
        write_series(raw / label / "ct", scan(seed=i), described("Thorax LUNG 1.0", "1"), f"ct{i}", f"p{i}")
        write_series(raw / label / "thick", scan(4, seed=5 + i), described("Abdomen", "5"), f"thick{i}", f"p{i}")
        write_series(raw / label / "pet", scan(seed=10 + i), as_pet, f"pet{i}", f"p{i}")
        write_series(raw / label / "cr", scan(1, seed=20 + i), as_cr, f"cr{i}", f"p{i}")
    return raw


def described(text, thickness):
    def change(slices):
        for image in slices:
            image.SeriesDescription, image.SliceThickness, image.BodyPartExamined = text, thickness, "CHEST"

    return change


def test_several_kinds_are_an_error_that_lists_them_and_says_how_to_choose(mixed, tmp_path):
    with pytest.raises(UserError) as caught:
        ingest(mixed, tmp_path / "out")
    message = str(caught.value)
    assert "(4 volumes of CT, 2 images of CR/DX, 2 volumes of PT)" in message
    for way in ('{select: {modality: ["CT"]}}', '["CR", "CT", "DX", "PT"]', "{kind: volumes}", "tools.survey"):
        assert way in message
    assert not (tmp_path / "out" / "cases.csv").exists()


@pytest.mark.parametrize(
    ("select", "cases"),
    [
        ({"modality": "CT"}, 4),
        ({"modality": ["ct", "MR*", "CT"]}, 4),
        ({"sop_class": "CT Image Storage"}, 4),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.2"}, 4),
        ({"series_description": "*lung*"}, 2),
        ({"slice_thickness": [4, 6]}, 2),
        ({"body_part": "chest", "slice_thickness": [0, 1]}, 2),
        ({"image_type": "ORIGINAL*AXIAL", "modality": "PT"}, 2),
    ],
)
def test_what_select_asks_for_is_taken_and_all_else_is_set_aside_and_counted(mixed, tmp_path, select, cases):
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in select.items()}
    imageio.imwrite(mixed / "a" / "note.png", np.zeros((9, 9), np.uint8))
    done = ingest(mixed, tmp_path / "out", max_rejected=0.0, select=SelectParams(**given))
    files = done.counts["files"]
    assert (len(done.table), done.axes, done.counts["rejected"]) == (cases, "CDHW", {})
    assert done.counts["set_aside"] == {"unselected": files["total"] - files["in_cases"]}
    assert done.reason("a/note.png") == "unselected"


def test_what_select_goes_by_are_columns_of_cases_csv_but_for_the_description(mixed, tmp_path):
    done = ingest(mixed, tmp_path / "out", select=SelectParams(modality="CT"))
    assert set(done.table["sop_class"]) == {"CT Image Storage"}
    assert sorted(done.table["slice_thickness"]) == ["1", "1", "5", "5"]
    assert set(done.table["body_part"]) == {"CHEST"} and set(done.table["image_type"]) == {"ORIGINAL\\PRIMARY\\AXIAL"}
    assert "LUNG" not in (tmp_path / "out" / "cases.csv").read_text()


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"modality": "MR"}, "ingest.select.modality: MR fits none of 42 DICOM files; there is CR, CT, PT"),
        ({"series_description": "*liver*"}, r"series_description: \*liver\* fits none of 42 DICOM files$"),
        ({"slice_thickness": (8, 9)}, "none of 42 DICOM files is in it; there is 1, 5"),
        ({"modality": "PT", "slice_thickness": (1, 1)}, "none fits all of them together"),
    ],
)
def test_a_key_that_selects_nothing_is_an_error_that_says_what_there_is(mixed, tmp_path, select, message):
    with pytest.raises(UserError, match=message):
        ingest(mixed, tmp_path / "out", select=SelectParams(**select))


def test_select_in_a_folder_without_dicom_files_is_an_error(tmp_path):
    (tmp_path / "raw" / "a").mkdir(parents=True)
    imageio.imwrite(tmp_path / "raw" / "a" / "0.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(UserError, match="no DICOM file"):
        ingest(tmp_path / "raw", tmp_path / "out", select=SelectParams(modality="CT"))


def test_another_choice_is_a_matter_of_what_was_read_before(mixed, tmp_path, capsys):
    ingest(mixed, tmp_path / "out", select=SelectParams(modality="CT"))
    capsys.readouterr()
    done = ingest(mixed, tmp_path / "out", select=SelectParams(modality="PT"))
    assert len(done.table) == 2
    done = ingest(mixed, tmp_path / "out", select=SelectParams(series_description="Abdomen"))  # which the store lacks
    assert done.table["slice_thickness"].tolist() == ["5", "5"]


def test_a_damaged_slice_of_a_series_that_is_not_selected_is_no_loss(mixed, tmp_path):
    path = next((mixed / "a" / "pet").iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    done = ingest(mixed, tmp_path / "out", max_rejected=0.0, select=SelectParams(modality="CT"))
    assert (len(done.table), done.counts["rejected"]) == (4, {})
    with pytest.raises(UserError, match="1 of 2 cases were rejected"):
        ingest(mixed, tmp_path / "out", max_rejected=0.0, select=SelectParams(modality="PT"))


def test_cr_and_dx_are_one_kind(tmp_path):
    for label, change in (("a", as_cr), ("b", as_dx)):
        write_series(tmp_path / "raw" / label, scan(3, seed=ord(label)), change, label, label)
    assert len(ingest(tmp_path / "raw", tmp_path / "out").table) == 6


def test_a_capture_of_several_frames_is_set_aside_too(tmp_path):
    def as_frames(slices):
        as_capture(slices)
        for image in slices:
            image.SOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
            image.NumberOfFrames, image.PixelData = 2, image.PixelData * 2

    write_series(tmp_path / "raw" / "a" / "ct")
    write_series(tmp_path / "raw" / "a" / "cine", scan(1), as_frames, str(generate_uid()))
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    assert done.counts["set_aside"] == {"secondary_capture": 1}
