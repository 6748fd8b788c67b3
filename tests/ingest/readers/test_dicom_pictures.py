"""X-rays, ultrasound films and tomosynthesis: values as they are shown, frames as they are asked for."""

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_voi_lut
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from stages.lib.core.errors import UserError
from stages.lib.params.ingest import SelectParams
from tests.raw_data import as_one_object, ingest, make_slice, scan


def x_ray(seed: int, bits: int = 12, **elements) -> Dataset:
    """A digital X-ray for presentation, of random values of so many bits."""
    image = make_slice(0, np.zeros((9, 8), np.int16), str(seed), f"p{seed}")
    del image.ImagePositionPatient, image.ImageOrientationPatient, image.RescaleSlope, image.RescaleIntercept
    image.Modality, image.SOPClassUID = "DX", DigitalXRayImageStorageForPresentation
    image.PresentationIntentType = "FOR PRESENTATION"
    image.BitsStored, image.HighBit = bits, bits - 1
    image.PixelData = np.random.default_rng(seed).integers(0, 1 << bits, (9, 8)).astype("<u2").tobytes()
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    return image


def values(image) -> np.ndarray:
    return np.frombuffer(image.PixelData, "<u2").reshape(9, 8)


def put(raw, **images):
    for name, image in images.items():
        path = raw / name[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save_as(path, enforce_file_format=True)


def pixels_of(done, name):
    line = next(line for line in (done.folder / "files.csv").read_text().splitlines() if line.endswith(f"/{name}"))
    return done.pixels[done.table["case"].tolist().index(line[:16])][0]


def test_values_of_different_bits_are_stretched_to_the_same_range_where_asked_to(tmp_path, capsys):
    images = {"a": x_ray(1, 12), "b": x_ray(2, 10), "c": x_ray(3, 14, PhotometricInterpretation="MONOCHROME1")}
    put(tmp_path / "raw", **images)
    done = ingest(tmp_path / "raw", tmp_path / "out", intensity="bits", max_rejected=0.0)
    assert set(done.table["dtype"]) == {"uint16"}
    for name, bits in (("a", 12), ("b", 10)):
        assert np.array_equal(pixels_of(done, name), np.rint(values(images[name]) / (2**bits - 1) * 65535))
    assert np.array_equal(pixels_of(done, "c"), np.rint((1 - values(images["c"]) / (2**14 - 1)) * 65535))
    assert sorted(done.table["bits_stored"]) == ["10", "12", "14"]
    assert "X-rays of" not in capsys.readouterr().out
    ingest(tmp_path / "raw", tmp_path / "stored")
    said = "warning: X-rays of different depths (1 of 12 bits, 1 of 10 bits, 1 of 14 bits): ingest.intensity: bits"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_are_applied_as_pydicom_applies_them(tmp_path, function, photometric):
    window = {"WindowCenter": [2000, 100], "WindowWidth": [1500, 50], "RescaleSlope": 2, "RescaleIntercept": -500}
    image = x_ray(1, PhotometricInterpretation=photometric, **window)
    if function:
        image.VOILUTFunction = function
    put(tmp_path / "raw", a=image, b=x_ray(2, WindowCenter=5, WindowWidth=9))
    done = ingest(tmp_path / "raw", tmp_path / "out", intensity="voi", max_rejected=0.0)
    theirs = apply_voi_lut(values(image) * 2.0 - 500, image)
    low, high = -500, 4095 * 2 - 500  # the range that pydicom maps a window to
    expected = (theirs - low) / (high - low)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    assert np.abs(pixels_of(done, "a") - expected * 65535).max() <= 1


def test_a_table_of_values_of_interest_counts_before_a_window(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 10], (np.arange(4096) // 4).tolist()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    image = x_ray(1, WindowCenter=1, WindowWidth=2)
    image.VOILUTSequence = [table]
    put(tmp_path / "raw", a=image, b=x_ray(2, WindowCenter=5, WindowWidth=9))
    done = ingest(tmp_path / "raw", tmp_path / "out", intensity="voi", max_rejected=0.0)
    assert np.array_equal(pixels_of(done, "a"), np.rint((values(image) // 4) / 1023 * 65535))


def test_pictures_without_a_window_and_ones_without_hounsfield_units_are_rejected_where_these_are_asked_for(tmp_path):
    window = {"WindowCenter": 5, "WindowWidth": 9}
    put(tmp_path / "raw", a=x_ray(1), a2=x_ray(3, **window), b=x_ray(2, **window))
    done = ingest(tmp_path / "raw", tmp_path / "out", intensity="voi")
    assert done.counts["rejected"] == {"voi_missing": 1} and done.reason("a/a") == "voi_missing"
    with pytest.raises(UserError, match="3 no_hounsfield_units"):
        ingest(tmp_path / "raw", tmp_path / "hu", intensity="hu")
    make_slice(0, scan(1)[0]).save_as(tmp_path / "raw" / "ct", enforce_file_format=True)
    (tmp_path / "raw" / "ct").rename(tmp_path / "raw" / "a" / "ct")
    with pytest.raises(UserError, match="intensity: voi is for pictures"):
        ingest(tmp_path / "raw", tmp_path / "out", intensity="voi")


def test_what_is_said_to_be_shown_inverted_is_turned(tmp_path):
    image = x_ray(1, PresentationLUTShape="INVERSE")
    put(tmp_path / "raw", a=image, b=x_ray(2, PresentationLUTShape="IDENTITY"))
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert np.array_equal(pixels_of(done, "a"), 4095 - values(image).astype(int))
    assert np.array_equal(pixels_of(done, "b"), values(x_ray(2)))


def test_view_laterality_and_intent_are_columns_and_known_words_alone(tmp_path):
    put(
        tmp_path / "raw",
        a=x_ray(1, ViewPosition="PA", ImageLaterality="L"),
        b=x_ray(2, ViewPosition="MUELLER", Laterality="R"),
    )
    table = ingest(tmp_path / "raw", tmp_path / "out").table.set_index("label")
    assert table.loc["a", ["view", "laterality", "intent"]].tolist() == ["PA", "L", "FOR PRESENTATION"]
    assert table.loc["b", ["view", "laterality"]].tolist() == ["other", "R"]


def test_x_rays_for_processing_and_for_presentation_are_not_mixed_unasked(tmp_path):
    raw = {"SOPClassUID": DigitalXRayImageStorageForProcessing, "PresentationIntentType": "FOR PROCESSING"}
    put(tmp_path / "raw", a=x_ray(1), a2=x_ray(2, **raw), b=x_ray(3), b2=x_ray(4, **raw))
    with pytest.raises(UserError, match="2 FOR PRESENTATION and 2 FOR PROCESSING"):
        ingest(tmp_path / "raw", tmp_path / "out")
    chosen = ingest(tmp_path / "raw", tmp_path / "out", select=SelectParams(sop_class="*For Presentation"))
    assert len(chosen.table) == 2 and chosen.counts["set_aside"] == {"unselected": 2}
    assert len(ingest(tmp_path / "raw", tmp_path / "all", select=SelectParams(sop_class="*")).table) == 4


def film(seed: int, frames: int = 7) -> tuple[Dataset, np.ndarray]:
    """An ultrasound film of grey frames."""
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 9, 8)).astype(np.uint8)
    image = x_ray(seed)
    image.Modality, image.SOPClassUID, image.NumberOfFrames = "US", UltrasoundMultiFrameImageStorage, frames
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = pixels.tobytes()
    del image.PresentationIntentType
    return image, pixels


@pytest.mark.parametrize(
    ("frames", "numbers"), [("first", [0]), ("middle", [3]), ("split", list(range(7))), (3, [0, 3, 6]), (9, [0])]
)
def test_of_a_film_the_frames_are_taken_that_are_asked_for_in_one_group(tmp_path, frames, numbers):
    (one, pixels), (two, _) = film(1), film(2)
    for image in (one, two):
        image.PatientID = ""
        del image.StudyInstanceUID
    put(tmp_path / "raw", a=one, b=two)
    done = ingest(tmp_path / "raw", tmp_path / "out", frames=frames, max_rejected=0.0)
    mine = [i for i, label in enumerate(done.table["label"]) if label == "a"]
    assert {done.pixels[i].tobytes() for i in mine} == {pixels[number].tobytes() for number in numbers}
    assert done.table["group"].nunique() == 2
    assert sorted(map(int, done.table["phase"][mine])) == numbers


def test_a_film_is_rejected_with_the_parameter_that_lets_it_in(tmp_path):
    put(tmp_path / "raw", a=film(1)[0], b=film(2)[0])
    with pytest.raises(UserError, match="2 several_frames"):
        ingest(tmp_path / "raw", tmp_path / "out")
    assert "ingest.frames can be first, middle, split or a number" in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize(("frames", "numbers"), [("middle", [2]), (2, [0, 2, 4]), (5, [0])])
def test_of_pages_and_animations_the_frames_are_taken_in_the_same_way(tmp_path, frames, numbers):
    pages = np.random.default_rng(0).integers(0, 256, (5, 8, 9)).astype(np.uint8)
    for label in "ab":
        (tmp_path / "raw" / label).mkdir(parents=True)
    tifffile.imwrite(tmp_path / "raw" / "a" / "pages.tif", pages)
    imageio.imwrite(tmp_path / "raw" / "b" / "0.png", pages[0][::-1])
    done = ingest(tmp_path / "raw", tmp_path / "out", frames=frames, max_rejected=0.0)
    mine = {p.tobytes() for p, label in zip(done.pixels, done.table["label"], strict=True) if label == "a"}
    assert mine == {pages[number].tobytes() for number in numbers}


def test_tomosynthesis_is_a_volume_or_its_frames(tmp_path):
    for label, seed in (("a", 1), ("b", 2)):
        pixels = scan(6, seed=seed)
        whole = as_one_object([make_slice(i, one, label, label) for i, one in enumerate(pixels)], generate_uid())
        whole.Modality, whole.SOPClassUID, whole.PatientID = "MG", BreastTomosynthesisImageStorage, label
        put(tmp_path / "raw", **{label: whole})
    done = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    assert done.axes == "CDHW" and np.array_equal(done.pixels[0][0].shape, (6, 7, 6))
    frames = ingest(tmp_path / "raw", tmp_path / "frames", kind="images", frames="middle", max_rejected=0.0)
    assert frames.axes == "CHW" and len(frames.table) == 2
    volume = done.pixels[done.table["label"].tolist().index("a")]
    assert np.array_equal(pixels_of(frames, "a"), volume[0, 3])
