"""Series whose headers contradict each other, or themselves: no volume is made that may be wrong or short."""

import copy

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalXRayImageStorageForProcessing,
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)

from stages.lib.core.errors import UserError
from stages.lib.params.ingest import SelectParams
from tests.ingest.readers.test_dicom_pictures import pixels_of, put, x_ray
from tests.raw_data import as_one_object, ingest, make_slice, scan, write_series


@pytest.fixture
def sound(tmp_path):
    """A second series, so that there always is a case."""
    write_series(tmp_path / "raw" / "a" / "sound", scan(5, 9, 9), series="sound", patient="Roe")
    return tmp_path / "raw"


def of_all(**elements):
    def change(slices):
        for image in slices:
            for keyword, value in elements.items():
                setattr(image, keyword, value)

    return change


def as_pet(slices):
    for i, image in enumerate(slices):
        image.Modality, image.SOPClassUID = "PT", PositronEmissionTomographyImageStorage
        image.RescaleSlope, image.RescaleIntercept = 1 + 0.1 * i, 0


def as_pet_that_is_inverted(slices):
    as_pet(slices)
    of_all(PresentationLUTShape="INVERSE")(slices)


def as_pet_of_ten(slices):
    as_pet(slices)
    of_all(NumberOfSlices=10)(slices)


def turned(slices):
    slices[-1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def of_no_series(slices):
    del slices[-1].SeriesInstanceUID


def of_another_modality(slices):
    slices[-1].Modality = "OT"


def of_no_modality(slices):
    slices[-1].Modality = ""


def with_pixels_of_two(slices):
    slices[0].PixelData = slices[0].PixelData * 2


@pytest.mark.parametrize(
    ("spoil", "reason", "params"),
    [
        (of_all(PresentationLUTShape="INVERSE"), "inverted_values", {}),
        (as_pet_that_is_inverted, "inverted_values", {"select": SelectParams(modality="*")}),
        (as_pet_of_ten, "missing_slices", {"select": SelectParams(modality="*")}),
        (turned, "mixed_orientations", {}),
        (of_no_series, "unreadable_slice", {}),
        (of_another_modality, "secondary_capture", {}),
        (of_no_modality, "mixed_kinds", {}),
        (of_no_modality, "mixed_kinds", {"kind": "volumes"}),
        (of_no_modality, "mixed_kinds", {"select": SelectParams(modality="CT")}),
        (with_pixels_of_two, "unreadable_slice", {}),
    ],
)
def test_a_series_that_may_be_wrong_or_short_is_rejected_as_a_whole(sound, tmp_path, spoil, reason, params):
    write_series(sound / "a" / "x", spoil=spoil)
    done = ingest(sound, tmp_path / "out", **params)
    assert len(done.table) == 1 and done.pixels[0].shape == (1, 5, 9, 9)
    assert set(done.rejected[done.rejected["path"].str.startswith("a/x/")]["reason"]) <= {reason, "malformed"}
    assert reason in done.counts["rejected"]


@pytest.mark.parametrize("part", [0.3, 0.6, 1.0])
def test_a_slice_that_is_cut_within_its_series_uid_costs_the_series_beside_it(sound, tmp_path, part):
    write_series(sound / "a" / "x")
    for path in (sound / "a" / "x").iterdir():
        image = pydicom.dcmread(path)
        if image.InstanceNumber == 8:
            content, uid = path.read_bytes(), image.SeriesInstanceUID.encode()
            path.write_bytes(content[: content.index(uid) + round(part * len(uid))])
    done = ingest(sound, tmp_path / "out")
    assert len(done.table) == 1 and done.counts["rejected"]["unreadable_slice"] == 1


def test_a_scout_in_another_format_is_set_aside_although_nothing_calls_it_one(tmp_path):
    def with_scout(slices):
        scout = make_slice(0, np.zeros((30, 5), np.int16))
        scout.SOPInstanceUID, scout.ImageOrientationPatient = generate_uid(), [0, 1, 0, 0, 0, -1]
        slices.append(scout)

    pixels = write_series(tmp_path / "raw" / "a", spoil=with_scout)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(done.pixels[0][0], pixels) and done.counts["set_aside"] == {"localizer": 1}


def test_slices_without_any_series_uid_are_still_told_apart_by_their_study(tmp_path):
    def without(slices):
        for image in slices:
            del image.SeriesInstanceUID

    pixels = write_series(tmp_path / "raw" / "a", spoil=without)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], pixels)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_slice_that_was_emptied_or_overwritten_in_a_folder_of_its_own_costs_its_series(sound, tmp_path, content):
    for i, plane in enumerate(scan()):
        (sound / "a" / "x" / f"{i:02d}").mkdir(parents=True)
        make_slice(i, plane).save_as(sound / "a" / "x" / f"{i:02d}" / "img.dcm", enforce_file_format=True)
    (sound / "a" / "x" / "07" / "img.dcm").write_bytes(content)
    done = ingest(sound, tmp_path / "out")
    assert len(done.table) == 1 and done.counts["rejected"]["unreadable_slice"] == 1
    assert done.reason("a/x/07/img.dcm") in ("empty", "not_an_image")
    assert done.counts["ignored"] == {}


@pytest.mark.parametrize(
    ("elements", "select"),
    [
        ({"SliceThickness": 2.5}, {"slice_thickness": (1.0, 3.0)}),
        ({"BodyPartExamined": "CHEST"}, {"body_part": "CHEST"}),
    ],
)
def test_a_slice_that_lacks_what_select_asks_for_goes_with_its_series(tmp_path, elements, select):
    pixels = write_series(tmp_path / "raw" / "a" / "x", spoil=lambda slices: of_all(**elements)(slices[:-2]))
    write_series(tmp_path / "raw" / "a" / "y", scan(seed=1), series="other", patient="Roe")
    done = ingest(tmp_path / "raw", tmp_path / "out", select=SelectParams(**select), max_rejected=0.0)
    assert len(done.table) == 1 and np.array_equal(done.pixels[0][0], pixels)
    assert done.counts["set_aside"] == {"unselected": 8}


def test_a_range_the_wrong_way_round_is_an_error():
    with pytest.raises(ValueError, match="expected the least before the largest"):
        SelectParams(slice_thickness=(3.0, 1.0))


@pytest.mark.parametrize("part", [lambda i: i % 2, lambda i: i // 4], ids=["interleaved", "two slabs"])
def test_parts_of_a_volume_are_no_phases(tmp_path, part):
    volumes, slices = [scan(seed=v) for v in range(2)], []
    for v, volume in enumerate(volumes):
        for i, plane in enumerate(volume):
            image = make_slice(i, plane)
            image.SOPInstanceUID, image.InstanceNumber = generate_uid(), 8 * v + i + 1
            image.AcquisitionNumber = 1 + 2 * v + part(i)
            slices.append(image)
    write_series(
        tmp_path / "raw" / "a", np.zeros((16, 7, 6), np.int16), lambda given: given.__setitem__(slice(None), slices)
    )
    done = ingest(tmp_path / "raw", tmp_path / "out", split_4d="all")
    by_phase = dict(zip(done.table["phase"], done.pixels, strict=True))
    assert len(by_phase) == 2 and all(np.array_equal(by_phase[str(v)][0], volumes[v]) for v in range(2))


def enhanced() -> Dataset:
    return as_one_object([make_slice(i, plane) for i, plane in enumerate(scan())], generate_uid())


def fewer_frames(whole):
    whole.NumberOfFrames = 6


def more_groups(whole):
    whole.PerFrameFunctionalGroupsSequence.append(copy.deepcopy(whole.PerFrameFunctionalGroupsSequence[0]))


def a_part(whole):
    whole.ConcatenationUID, whole.InConcatenationNumber, whole.InConcatenationTotalNumber = generate_uid(), 1, 2


def two_places(whole):
    places = whole.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    places.append(copy.deepcopy(places[0]))


def two_localizers(whole):
    for i, group in enumerate(whole.PerFrameFunctionalGroupsSequence):
        kind = Dataset()
        kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if i < 2 else "AXIAL", "NONE"]
        group.CTImageFrameTypeSequence = Sequence([kind])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (fewer_frames, "malformed"),
        (more_groups, "malformed"),
        (a_part, "concatenation"),
        (two_places, "malformed"),
        (two_localizers, "mixed_kinds"),
    ],
)
def test_an_object_of_frames_that_contradicts_itself_is_rejected(sound, tmp_path, spoil, reason):
    whole = enhanced()
    spoil(whole)
    (sound / "a" / "x").mkdir()
    whole.save_as(sound / "a" / "x" / "whole.dcm", enforce_file_format=True)
    done = ingest(sound, tmp_path / "out")
    assert len(done.table) == 1 and done.reason("a/x/whole.dcm") == reason


def test_the_units_of_an_object_of_frames_are_those_of_its_groups(tmp_path):
    whole = enhanced()
    for group in whole.PerFrameFunctionalGroupsSequence:
        group.PixelValueTransformationSequence[0].RescaleType = "MGML"
    (tmp_path / "raw" / "a").mkdir(parents=True)
    whole.save_as(tmp_path / "raw" / "a" / "whole.dcm", enforce_file_format=True)
    assert ingest(tmp_path / "raw", tmp_path / "out").units == ""
    with pytest.raises(UserError, match="no_hounsfield_units"):
        ingest(tmp_path / "raw", tmp_path / "hu", intensity="hu")


def test_the_slice_thickness_of_an_object_of_frames_selects_it(tmp_path):
    whole = enhanced()
    for sequence in (whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence):
        for group in sequence:
            if "PixelMeasuresSequence" in group:
                group.PixelMeasuresSequence[0].SliceThickness = 2.5
    (tmp_path / "raw" / "a").mkdir(parents=True)
    whole.save_as(tmp_path / "raw" / "a" / "whole.dcm", enforce_file_format=True)
    done = ingest(tmp_path / "raw", tmp_path / "out", select=SelectParams(slice_thickness=(2.0, 3.0)))
    assert done.table["slice_thickness"].tolist() == ["2.5"]


@pytest.mark.parametrize(("slope", "intercept"), [(1, 1024), (-1, -1024), (1, 30000)])
def test_a_value_that_its_dtype_can_not_hold_is_out_of_range_and_never_another_value(sound, tmp_path, slope, intercept):
    def spoil(slices):
        for image in slices:
            image.BitsStored, image.HighBit = 15, 14
            image.RescaleSlope, image.RescaleIntercept = slope, intercept
            image.PixelData = np.full((7, 6), 32000, "<u2").tobytes()

    write_series(sound / "a" / "x", spoil=spoil)
    done = ingest(sound, tmp_path / "out")
    assert len(done.table) == 1 and done.counts["rejected"] == {"out_of_range": 1}


def test_padding_that_tissue_has_as_a_value_is_left_as_it_is(tmp_path):
    values = np.random.default_rng(0).integers(-20, 20, (8, 7, 6)).astype(np.int16)

    def signed(slices):
        for image, plane in zip(slices, values, strict=True):
            image.PixelRepresentation, image.RescaleIntercept, image.PixelPaddingValue = 1, 0, 0
            image.BitsStored, image.HighBit = 16, 15
            image.PixelData = plane.astype("<i2").tobytes()

    write_series(tmp_path / "raw" / "a", values, signed)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], values)


def test_a_table_of_values_gives_the_same_in_implicit_and_explicit_transfer_syntaxes(tmp_path):
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4096, -1024, 12])
    table.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
    image = x_ray(1, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=Sequence([table]))
    other = copy.deepcopy(image)
    other.SOPInstanceUID, other.file_meta.TransferSyntaxUID = generate_uid(), ImplicitVRLittleEndian
    for name, one in (("a", image), ("b", other)):
        (tmp_path / "raw" / "a").mkdir(parents=True, exist_ok=True)
        implicit = one is other
        pydicom.dcmwrite(
            tmp_path / "raw" / "a" / name, one, implicit_vr=implicit, little_endian=True, enforce_file_format=True
        )
    done = ingest(tmp_path / "raw", tmp_path / "out", intensity="voi")
    assert np.array_equal(pixels_of(done, "a"), pixels_of(done, "b")) and np.ptp(pixels_of(done, "a")) > 1000


@pytest.mark.parametrize("colours", ["YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"])
def test_colours_that_nothing_turns_into_rgb_are_not_taken_for_rgb(tmp_path, colours):
    image = x_ray(1, 8, SamplesPerPixel=3, PhotometricInterpretation=colours, PlanarConfiguration=0)
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = bytes([60, 100, 180]) * 72
    put(tmp_path / "raw", a=image)
    with pytest.raises(UserError, match="1 unsupported_colours"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_x_rays_for_processing_are_told_by_their_sop_class_where_the_intent_is_empty(tmp_path):
    other = x_ray(2, SOPClassUID=DigitalXRayImageStorageForProcessing, PresentationIntentType="")
    put(tmp_path / "raw", a=x_ray(1, PresentationIntentType=""), b=other)
    with pytest.raises(UserError, match="1 FOR PRESENTATION and 1 FOR PROCESSING"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_scans_of_several_dtypes_are_kept_in_one_that_holds_all_their_numbers(tmp_path, capsys):
    def as_mr(slope, signed=0):
        def change(slices):
            of_all(Modality="MR", SOPClassUID=MRImageStorage, PixelRepresentation=signed)(slices)
            of_all(RescaleSlope=slope, RescaleIntercept=0)(slices)

        return change

    for i, (slope, signed) in enumerate([(1, 0), (2.5, 0), (1, 1)]):
        write_series(tmp_path / "raw" / "ab"[i % 2] / f"{i}", scan(seed=i), as_mr(slope, signed), f"s{i}", f"p{i}")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert set(done.table["dtype"]) == {"float32"} and len(done.table) == 3
    assert "all are stored as float32, with the same numbers" in capsys.readouterr().out
    found = sorted(float(x.astype(np.float64).sum()) for x in done.pixels)
    stored = [(scan(seed=i).astype(np.int64) + 1024) for i in range(3)]
    low = [np.where(stored[2] > 2047, stored[2] - 4096, stored[2])]
    assert found == sorted([float(stored[0].sum()), float(stored[1].sum() * 2.5), float(low[0].sum())])


def test_hounsfield_units_and_others_in_one_data_set_are_remarked_on(tmp_path, capsys):
    write_series(tmp_path / "raw" / "a", scan(), None, "one", "Doe")
    write_series(tmp_path / "raw" / "b", scan(seed=1), of_all(RescaleType="US"), "two", "Roe")
    ingest(tmp_path / "raw", tmp_path / "out")
    assert "warning: scans of several units (1 in other units, 1 in HU)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "elements",
    [{"AcquisitionTime": "10:10:10"}, {"InstanceNumber": "1A"}, {"SeriesNumber": "1A"}, {"EchoTime": "unknown"}],
)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_element_that_nothing_depends_on_costs_no_series(tmp_path, elements):
    pixels = write_series(tmp_path / "raw" / "a")
    for path in (tmp_path / "raw" / "a").iterdir():
        image = pydicom.dcmread(path)
        (keyword, value), *_ = elements.items()
        image[keyword] = pydicom.DataElement(keyword, "LO", value)
        image.save_as(path)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], pixels)


def test_a_transfer_syntax_that_nothing_decodes_is_named(sound, tmp_path):
    image = make_slice(0, scan(1)[0], "x", "Moe")
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.98"
    image.PixelData = pydicom.encaps.encapsulate([image.PixelData])
    image["PixelData"].is_undefined_length = True
    (sound / "a" / "x").mkdir()
    image.save_as(sound / "a" / "x" / "0", enforce_file_format=True)
    done = ingest(sound, tmp_path / "out", kind="images")
    row = done.rejected.set_index("path").loc["a/x/0"]
    assert row["reason"] == "no_decoder" and "Encapsulated Uncompressed" in row["detail"]
