"""DICOM objects other than the plain CT: compressed, multi-frame, PET, X-rays, and those without a decoder."""

import copy
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
)

from stages.lib.core.errors import UserError
from stages.lib.ingest.readers.scans import dicom_pixels
from tests.raw_data import ingest, make_slice, scan, write_series


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_series_give_the_pixels_of_the_plain_one(syntax, tmp_path):
    pixels = write_series(
        tmp_path / "raw" / "a",
        scan(4, 40, 36),
        spoil=lambda slices: [s.compress(syntax, generate_instance_uid=False) for s in slices] and None,
    )
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], pixels)


def test_a_big_endian_series_gives_the_pixels_of_the_plain_one(tmp_path):
    pixels = scan()
    folder = tmp_path / "raw" / "a"
    folder.mkdir(parents=True)
    for i, one in enumerate(pixels):
        image = make_slice(i, one)
        image.PixelData = (one + 1024).astype(">u2").tobytes()
        image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        image.save_as(folder / str(i), enforce_file_format=True)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], pixels)


def test_a_signed_series_gives_the_pixels_of_the_plain_one(tmp_path):
    pixels = scan()

    def spoil(slices: list[Dataset]) -> None:
        for image, one in zip(slices, pixels, strict=True):
            image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 13, 12
            image.RescaleIntercept = 0
            image.PixelData = (one & 0x1FFF).astype("<u2").tobytes()  # the sign is in bit 12 alone

    write_series(tmp_path / "raw" / "a", pixels, spoil)
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], pixels)


def test_a_pet_series_with_a_slope_a_slice_is_float32(tmp_path):
    slopes = np.linspace(0.5, 2, 8)

    def spoil(slices: list[Dataset]) -> None:
        for image, slope in zip(slices, slopes, strict=True):
            image.SOPClassUID, image.Modality = PositronEmissionTomographyImageStorage, "PT"
            image.RescaleSlope, image.RescaleIntercept = f"{slope:.10g}", 0

    pixels = write_series(tmp_path / "raw" / "a", spoil=spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    expected = (pixels.astype(np.float64) + 1024) * [[[float(f"{s:.10g}")]] for s in slopes]
    assert np.array_equal(done.pixels[0][0], expected.astype(np.float32))
    assert done.units == ""


def enhanced(pixels: np.ndarray, with_places: bool) -> Dataset:
    """A multi-frame CT of (D, H, W) Hounsfield units, its frames in the order of the slices reversed."""
    image = make_slice(0, pixels[0])
    image.SOPClassUID = EnhancedCTImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(image, keyword)
    del image.RescaleIntercept
    image.NumberOfFrames = len(pixels)
    image.PixelData = (pixels[::-1] + 1024).astype("<u2").tobytes()
    if not with_places:
        return image

    def group(name: str, **values: object) -> Dataset:
        item, outer = Dataset(), Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(outer, name, Sequence([item]))
        return outer

    shared = group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.update(group("PixelMeasuresSequence", PixelSpacing=[0.75, 0.5], SliceThickness=2.5))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU"))
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    image.PerFrameFunctionalGroupsSequence = Sequence(
        [group("PlanePositionSequence", ImagePositionPatient=[0, 0, 2.5 * i]) for i in reversed(range(len(pixels)))]
    )
    return image


def save(folder: Path, *images: Dataset) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        image.save_as(folder / f"{i}.dcm", enforce_file_format=True)


def test_a_multi_frame_object_with_geometry_is_a_volume_and_one_without_is_rejected(tmp_path):
    pixels = scan()
    other = enhanced(scan(seed=5), with_places=False)
    other.SeriesInstanceUID = other.SOPInstanceUID = "1.2.3"
    save(tmp_path / "raw" / "a", enhanced(pixels, with_places=True))
    save(tmp_path / "raw" / "a" / "other", other)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    (volume,) = done.pixels
    assert np.array_equal(volume[0], pixels)
    assert done.spacings_mm.tolist() == [[2.5, 0.75, 0.5]]
    assert done.reason("a/other/0.dcm") == "frames_without_geometry"


def test_an_x_ray_is_a_picture_and_monochrome1_is_turned_round_once(tmp_path):
    bright = make_slice(0, scan(1)[0])
    bright.SOPClassUID, bright.Modality = DigitalXRayImageStorageForPresentation, "DX"
    bright.RescaleIntercept = 0
    dark = copy.deepcopy(bright)
    dark.SOPInstanceUID, dark.PhotometricInterpretation = "1.2.3", "MONOCHROME1"
    save(tmp_path / "raw" / "a", bright, dark)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    stored = (scan(1)[0] + 1024).astype(np.uint16)
    assert (done.axes, done.counts["cases"]) == ("CHW", 2)
    assert {p.tobytes() for p in done.pixels} == {stored.tobytes(), (4095 - stored).astype(np.uint16).tobytes()}


def test_slices_can_be_pictures_of_their_own_of_one_patient(tmp_path):
    pixels = write_series(tmp_path / "raw" / "a")
    done = ingest(tmp_path / "raw", tmp_path / "out", kind="images")
    assert {p.tobytes() for p in done.pixels} == {one.tobytes() for one in pixels}
    assert (done.units, done.counts["groups"]) == ("HU", 1)


def test_a_missing_decoder_is_one_error_that_names_syntax_and_package(tmp_path, monkeypatch):
    write_series(
        tmp_path / "raw" / "a",
        spoil=lambda slices: [s.compress(JPEGLSLossless, generate_instance_uid=False) for s in slices] and None,
    )

    class Missing:
        is_available = False

    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda uid: Missing)
    with pytest.raises(UserError, match=r"JPEG-LS Lossless.*1\.2\.840\.10008\.1\.2\.4\.80.*pip install pyjpegls"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_the_right_format_under_a_wrong_name_is_read(tmp_path):
    pixels = write_series(tmp_path / "raw" / "a")
    for path in (tmp_path / "raw" / "a").iterdir():
        path.rename(path.with_suffix(".jpg"))
    assert np.array_equal(ingest(tmp_path / "raw", tmp_path / "out").pixels[0][0], pixels)


def test_a_whole_slide_is_refused_by_its_name_with_what_to_do(tmp_path):
    def as_slide(slices):
        for image in slices:
            image.SOPClassUID, image.Modality = VLWholeSlideMicroscopyImageStorage, "SM"

    write_series(tmp_path / "raw" / "a")
    write_series(tmp_path / "raw" / "b", scan(1), as_slide, "slide")
    with pytest.raises(UserError, match="no case of class 'b'"):
        ingest(tmp_path / "raw", tmp_path / "out")
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    assert "b/000,rejected,whole_slide" in rejected and "cut it into pictures first" in rejected
