"""Studies and pictures whose every text is a mark go in, and no mark is found in any out, log line, error or picture.

Which elements hold no mark, and which mark may come through, is said in tests/marks.py (NOT_MARKED, COMES_THROUGH).
"""

import base64
import gzip
import importlib
import io
import logging
import os
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless
from ruamel.yaml import YAML

from stages.lib import command, params
from stages.lib.ingest.readers.scans.dicom_header import read_header
from stages.lib.ingest.readers.scans.dicom_tags import PHASE_KEYWORDS
from tests import ROOT, marks
from tests.marks import PATH_STEM, mark, marks_below, marks_in
from tests.raw_data import ingest, make_slice, scan, write_series
from tools import predict
from tools.raw_cases import read_cases


def write_study(raw: Path, patients: range, slices: int, syntax: str | None = None) -> None:
    """Writes series of two classes into folders that are named after the patients."""
    study = marks.Study(syntax=syntax)
    for i in patients:
        folder = raw / ("bright" if i % 2 else "dark") / f"{PATH_STEM}{i:02d}"
        folder.mkdir(parents=True)
        pixels = scan(slices, 8, 8, seed=i) // 4 + (1000 if i % 2 else 0)
        for j, one in enumerate(pixels):
            (folder / f"{PATH_STEM}{j}.dcm").write_bytes(study.slice(i, j, one))


def wrong_value(keyword: str) -> Callable[[Dataset], None]:
    """An element of numbers that holds a mark instead, as files with explicit value representations can."""

    def spoil(image: Dataset) -> None:
        image[keyword] = DataElement(keyword, "LO", mark("LO", 1))
        image["PixelData"].VR = "OW"  # else pydicom derives it from the others

    return spoil


def set_to(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda image: setattr(image, keyword, value)


def compressed_as(syntax: str) -> Callable[[Dataset], None]:
    """Pixels of a compressed syntax that are none."""

    def spoil(image: Dataset) -> None:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([mark("LO", 2).encode()])

    return spoil


NUMBERS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("NumberOfFrames", "PixelPaddingValue", "KVP", "GantryDetectorTilt", "RescaleSlope", "RescaleIntercept"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RedPaletteColorLookupTableDescriptor"),
    *PHASE_KEYWORDS,
)
SPOILT: dict[str, Callable[[Dataset], None]] = {keyword: wrong_value(keyword) for keyword in NUMBERS} | {
    "SOPClassUID": set_to("SOPClassUID", mark("UI", 3)),
    "PhotometricInterpretation": set_to("PhotometricInterpretation", mark("CS", 4)),
    "Modality": set_to("Modality", mark("CS", 5)),
    "RescaleType": set_to("RescaleType", mark("LO", 6)),
    "BurnedInAnnotation": set_to("BurnedInAnnotation", mark("CS", 7)),
    "jpeg": compressed_as(JPEGBaseline8Bit),
    "jpeg 2000": compressed_as(JPEG2000Lossless),
    "rle": compressed_as(RLELossless),
}


def write_spoilt(raw: Path) -> None:
    """A series with one spoilt slice per way of spoiling it, each also cut short; in a folder whose name is a mark."""
    for i, (name, spoil) in enumerate(SPOILT.items()):

        def mark_and_spoil(slices: list[Dataset], spoil: Callable[[Dataset], None] = spoil) -> None:
            for image in slices:
                image.PatientName, image.Manufacturer = mark("PN", 10), mark("LO", 11)
            spoil(slices[1])

        folder = raw / "dark" / f"{PATH_STEM} {name}"
        write_series(folder, scan(3, 4, 4, seed=i), mark_and_spoil, series=f"spoilt {i}", patient=mark("LO", 12))
        content = sorted(folder.iterdir())[i % 3].read_bytes()
        (folder / "cut").write_bytes(content[: len(content) - 1 - i * 20])
        unknown_syntax = content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.826.0.99887766.9")
        (folder / "syntax").write_bytes(unknown_syntax.replace(b"zqxjvkw00012", b"zqxjvkw00013"))


@pytest.mark.parametrize("vr", ["LO", "CS", "PN", "UI", "DA", "DT", "TM", "AS", "DS", "IS"])
def test_the_search_finds_a_mark_of_every_form_in_text(vr):
    assert marks_in(f"case,1,{mark(vr, 17)},2\n".encode())
    assert marks_in(b"case,1,0.810000017,1944,235947,2\n") == []


def hdf5_of(word: bytes) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("words", data=np.frombuffer(word * 100, np.uint8), chunks=True, compression="gzip")
    return stream.getvalue()


def zipped(word: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", word)
    return stream.getvalue()


@pytest.mark.parametrize(
    "wrap",
    [
        hdf5_of,
        zipped,
        gzip.compress,
        base64.b64encode,
        lambda word: base64.b64encode(b"1" + word),
        lambda word: b"<img src='data:x;base64," + base64.b64encode(zipped(word)) + b"'>",
        lambda word: word.hex().encode(),
        lambda word: word.decode().upper().encode("utf-16-le"),
        lambda word: word.decode().encode("utf-16-be"),
        lambda word: marks.saved(Image.new("L", (2, 2)), "PNG", pnginfo=marks.png_text(word.decode())),
    ],
)
def test_the_search_finds_a_mark_in_whatever_wraps_it(wrap):
    assert marks_in(wrap(mark("LO", 17).encode()))
    assert marks_in(wrap(b"a name of nobody")) == []


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Path:
    """Sound series and spoilt ones."""
    raw = tmp_path_factory.mktemp("marked")
    write_study(raw, range(2), 3)
    write_study(raw / "implicit", range(2, 3), 3, ImplicitVRLittleEndian)
    write_spoilt(raw)
    return raw


def test_ingest_lets_no_mark_of_a_dicom_header_out_and_rejected_csv_alone_names_files(marked, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    done = ingest(marked, tmp_path, kind="volumes")  # one is a picture of another modality
    assert done.table["units"].unique().tolist() == [""]  # volumes, whose RescaleType is a mark
    assert done.counts["files"]["rejected"] > len(SPOILT)
    private = ("rejected.csv", "files.csv", "ingest.log", "files.jsonl", "files.new.jsonl", "refused.jsonl")
    found = marks_below(tmp_path, *private)
    assert (tmp_path / "ingest.log").stat().st_mode & 0o077 == 0
    assert found == {"cases.csv": sorted({*done.table[[*marks.COMES_THROUGH.values()]].to_numpy().ravel()} - {""})}
    # rejected.csv and the store are for their owner and hold paths, or hashes of them; but not what headers say.
    for path in [tmp_path / "rejected.csv", tmp_path / "files.csv", *tmp_path.rglob("*.jsonl")]:
        words = [one for one in marks_in(path.read_bytes()) if not one[0].isdigit()]  # numbers tell phases apart
        assert words == [], path
    printed = capfd.readouterr()
    assert marks_in((printed.out + printed.err + caplog.text).encode(), paths=True) == []


def test_a_case_that_cannot_be_read_is_told_to_tools_predict_without_a_mark_of_its_header(marked, capfd):
    cases = list(read_cases([str(marked)], "images", 1))
    troubles = [case.trouble for case in cases if case.trouble]
    assert len(troubles) > len(SPOILT)
    assert any(case.pixels is not None for case in cases)
    printed = capfd.readouterr()
    told = "\n".join([*troubles, *(case.name + case.units for case in cases), printed.out, printed.err])
    assert marks_in(told.encode()) == []


def test_no_mark_of_a_pictures_metadata_leaves_it_whether_it_is_sound_or_damaged(tmp_path, capfd, caplog):
    (tmp_path / "raw" / "all").mkdir(parents=True)
    pictures = marks.pictures()
    for ending, content in pictures.items():
        assert marks_in(content), ending
        (tmp_path / "raw" / "all" / f"sound.{ending}").write_bytes(content)
        for cut in range(20, len(content), len(content) // 8):
            (tmp_path / "raw" / "all" / f"cut at {cut}.{ending}").write_bytes(content[:cut])
            flipped = bytearray(content)
            flipped[cut] ^= 0xFF
            (tmp_path / "raw" / "all" / f"flipped {cut}.{ending}").write_bytes(flipped)
    capfd.readouterr()
    caplog.set_level(logging.DEBUG)  # not before: Pillow logs what it writes
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.rejected["path"].str.contains("sound").sum() == 0
    assert done.counts["files"]["rejected"] > len(pictures)
    told = [case.trouble for case in read_cases([str(tmp_path / "raw")], "images", 3)]
    printed = capfd.readouterr()
    assert marks_below(tmp_path / "out") == {}
    assert marks_in("\n".join([*told, printed.out, printed.err, caplog.text]).encode()) == []


@pytest.mark.parametrize(
    ("column", "given", "kept"),
    [
        ("manufacturer", "GE MEDICAL SYSTEMS", "GE"),
        ("manufacturer", "CANON_MEC", "Canon"),
        ("manufacturer", "Siemens, called by Dr. Mueller", "Siemens"),
        ("manufacturer", "Gerda Mueller", "other"),
        ("manufacturer", "MUELLER", "other"),
        ("manufacturer", "", ""),
        ("body_part", "Whole body", "WHOLEBODY"),
        ("body_part", "MUELLER", "other"),
        ("body_part", "CHEST MUELLER", "other"),
        ("body_part", "1944", "other"),
        ("image_type", ["ORIGINAL", "PRIMARY", "AXIAL", "MUELLER"], r"ORIGINAL\PRIMARY\AXIAL"),
        ("image_type", ["ORIGINAL", "PRIMARY", "MUELLER"], r"ORIGINAL\PRIMARY\other"),
        ("image_type", [], ""),
        ("modality", "MR", "MR"),
        ("modality", "MUELLER", "other"),
    ],
)
def test_only_a_known_word_is_kept_of_a_scanners_text(column, given, kept):
    keywords = {"manufacturer": "Manufacturer", "body_part": "BodyPartExamined", "image_type": "ImageType"}
    image = make_slice(0, scan(1, 4, 4)[0])
    setattr(image, keywords.get(column, "Modality"), given)
    assert dict(read_header(image, b"key").attributes())[column] == kept


def test_what_was_no_known_word_is_counted_by_column(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        for image in slices:
            image.Manufacturer = "Siemens"
        slices[0].BodyPartExamined = slices[1].BodyPartExamined = "MUELLER"
        slices[1].ImageType = ["MUELLER", "PRIMARY", "MUELLER"]

    write_series(tmp_path / "raw" / "a", scan(3, 4, 4), spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out", kind="images")
    assert done.counts["other"] == {"body_part": 2, "image_type": 1}
    assert done.table["body_part"].value_counts().to_dict() == {"other": 2, "": 1}


def test_slices_of_two_unknown_rescale_types_are_no_volume_and_neither_type_is_told(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        for i, image in enumerate(slices):
            image.RescaleType = mark("LO", i // 2)

    write_series(tmp_path / "raw" / "all" / "a", scan(4, 4, 4), spoil)
    write_series(tmp_path / "raw" / "all" / "b", scan(4, 4, 4, seed=1), series="two")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.counts["rejected"] == {"mixed_pixels": 1}
    assert marks_below(tmp_path / "out") == {}


def test_rejected_csv_is_for_its_owner_alone(tmp_path):
    write_series(tmp_path / "raw" / "a")
    before = os.umask(0)
    try:
        done = ingest(tmp_path / "raw", tmp_path / "out")
    finally:
        os.umask(before)
    for name in ("rejected.csv", "files.csv"):
        assert stat.S_IMODE((done.folder / name).stat().st_mode) == 0o600


def test_identifiers_depend_on_the_key_and_on_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        write_series(tmp_path / "raw" / f"class {i}", scan(2, 4, 4, seed=i), series=f"series {i}", patient=f"Doe {i}")
    names = {}
    for run, key in {"one": "a" * 20, "again": "a" * 20, "other": "b" * 20}.items():
        monkeypatch.setenv("IDENTIFIER_KEY", key)
        names[run] = ingest(tmp_path / "raw", tmp_path / run, identifiers="keyed").table[["case", "group"]]
    assert names["one"].equals(names["again"])
    assert not set(names["one"].to_numpy().ravel()) & set(names["other"].to_numpy().ravel())
    monkeypatch.delenv("IDENTIFIER_KEY")
    ingest(tmp_path / "raw", tmp_path / "made", identifiers="keyed")
    key_file = tmp_path / ".identifier_key"
    assert key_file.stat().st_mode & 0o077 == 0
    assert re.fullmatch("[0-9a-f]{64}\n", key_file.read_text())


# Text in the pixels

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"BurnedInAnnotation": "y"}, "burned_in_annotation"),
        ({"BurnedInAnnotation": ["NO", "YES"]}, "burned_in_annotation"),
        ({"SOPClassUID": SECONDARY_CAPTURE}, "secondary_capture"),
        ({"SOPClassUID": SECONDARY_CAPTURE, "BurnedInAnnotation": "NO"}, "secondary_capture"),
        ({"SOPClassUID": SECONDARY_CAPTURE + ".4"}, "secondary_capture"),
        ({"Modality": "OT"}, "secondary_capture"),
        ({"ConversionType": "SD"}, "secondary_capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary_capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SCREENSHOT"]}, "secondary_capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, "secondary_capture"),
        ({}, ""),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, ""),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"], "ConversionType": "WSD"}, ""),
    ],
)
def test_what_a_header_says_of_text_in_the_pixels(changed, reason):
    image = make_slice(0, scan(1, 4, 4)[0])
    for keyword, value in changed.items():
        setattr(image, keyword, value)
    assert read_header(image, b"key").burned_in == reason


def test_a_picture_that_may_show_text_is_rejected_unless_asked_for(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        slices[0].BurnedInAnnotation, slices[1].SOPClassUID = "YES", SECONDARY_CAPTURE

    write_series(tmp_path / "raw" / "a", scan(3, 4, 4), spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out", kind="images")
    assert done.counts["rejected"] == {"burned_in_annotation": 1, "secondary_capture": 1}
    assert done.rejected["detail"].str.contains("ingest.burned_in can be keep").tolist() == [True, True]
    kept = ingest(tmp_path / "raw", tmp_path / "out", kind="images", burned_in="keep")
    assert (len(kept.table), kept.counts["burned_in"]) == (3, 2)
    (case,) = read_cases([str(tmp_path / "raw" / "a" / "000")], "images", 1)
    assert case.pixels is not None  # what tools.predict shows goes nowhere


def test_a_slice_with_text_takes_its_whole_series_with_it(tmp_path):
    folder = tmp_path / "raw" / "all"
    write_series(folder / "a", scan(5, 4, 4), lambda slices: setattr(slices[2], "BurnedInAnnotation", "YES"))
    write_series(folder / "b", scan(5, 4, 4, seed=1), series="two")
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert (len(done.table), done.counts["rejected"]) == (1, {"burned_in_annotation": 1})
    assert done.counts["files"]["rejected"] == 5


def test_a_screenshot_among_the_slices_is_set_aside_and_the_slices_stay_a_volume(tmp_path):
    def spoil(slices: list[Dataset]) -> None:
        image = make_slice(99, np.zeros((9, 9), np.int16))
        image.SOPClassUID = SECONDARY_CAPTURE
        del image.ImagePositionPatient, image.ImageOrientationPatient
        slices.append(image)

    write_series(tmp_path / "raw" / "a", scan(5, 4, 4), spoil)
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert (done.table["depth"].tolist(), done.counts["set_aside"]) == (["5"], {"secondary_capture": 1})


# The whole pipeline

PARAMS = {
    # Of pictures, as volumes take twice as long to export, and no stage after this one sees a header.
    "ingest": {"kind": "images", "max_rejected": 0.5},
    "split": {"validation": 0.25, "test": 0.25},
    "statistics": {},
    "dataset": {"shape": [4, 4]},
    "train": {"network": {"name": "fully_connected", "arguments": {"widths": [2]}}, "epochs": 1},
    "validate": {"resamples": 10, "worst": 2},
    "export": {},
}
STAGES = ("ingest", "split", "statistics", "dataset", "train", "validate", "export")


@pytest.mark.slow
@pytest.mark.filterwarnings("always")
def test_the_whole_pipeline_and_a_prediction_let_out_no_mark(tmp_path, monkeypatch, capfd, caplog, recwarn):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDENTIFIER_KEY", "the same in every run")
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    with open("params.yaml", "w") as file:
        YAML().dump({"datasets": {"secret": PARAMS}, "machine": {"workers": 1}}, file)
    raw = Path("data", "raw", "secret")
    write_study(raw, range(8), 1)
    (raw / "dark" / "cut.dcm").write_bytes(marks.Study().content[:30_000])
    capfd.readouterr()
    caplog.clear()
    recwarn.clear()
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # so that there are progress bars
    given = params.load(Path("params.yaml"))
    for stage in STAGES:
        main = importlib.import_module(f"stages.{stage}").main
        main(**command.arguments(main, stage, "secret", command.sections(given, stage, "secret")))
    with pytest.raises(SystemExit, match="1"):  # for the file that is cut
        predict.main(["models/secret/model.onnx", str(raw), "--output", "json", "--explain", "out/heat.png"])
    printed = capfd.readouterr()
    assert "cut.dcm" in printed.out and "read headers" in printed.err and "predict: " in printed.err
    warned = [str(warning.message) for warning in recwarn]
    assert marks_in("\n".join([printed.out, printed.err, caplog.text, *warned]).encode()) == []
    shutil.move(Path("data", "raw"), tmp_path.with_name(f"{tmp_path.name} raw"))
    found = marks_below(tmp_path, "rejected.csv", "files.csv", "ingest.log", "files.jsonl", "files.new.jsonl")
    table = pd.read_csv(Path("data", "secret", "cases.csv"), dtype=str)
    assert found == {"data/secret/cases.csv": sorted(set(table[[*marks.COMES_THROUGH.values()]].to_numpy().ravel()))}
    assert len(table) == 8
    assert all(Path(name, "secret").is_dir() for name in ("models", "metrics"))
    drawn = {path.stem for path in Path("metrics", "secret", "figures").iterdir()}
    assert drawn == {"history", "evidence"}, "a figure that shows cases would go into git"
    assert {path.stem for path in Path("data", "secret", "figures").iterdir()} == {
        *("ingest", "worst", "uncertain", "explained", "explained_mistakes", "samples"),
    }
