"""What a model was trained on is read in the same way when it is asked: the exported file says how."""

import io
import json
import zipfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.export import metadata
from stages.lib.export.metadata_check import Input
from stages.lib.params.ingest import READING, IngestParams
from tests import raw_data
from tests.ingest.readers.test_dicom_faults import tilt
from tests.ingest.readers.test_dicom_pictures import film, x_ray
from tests.ingest.readers.test_nifti import save
from tools import predict, raw_cases, raw_inputs


def in_phases(slices):
    """Two volumes, one after the other, in the places of one."""
    half = len(slices) // 2
    for i, image in enumerate(slices):
        image.ImagePositionPatient = slices[i % half].ImagePositionPatient
        image.AcquisitionNumber = i // half + 1


def write_x_rays(raw):
    for i, bits in enumerate((10, 12)):
        (raw / "ab"[i]).mkdir(parents=True)
        image = x_ray(i, bits, WindowCenter=300, WindowWidth=500)
        image.save_as(raw / "ab"[i] / f"{i}.dcm", enforce_file_format=True)


def write_films(raw):
    for i in range(2):
        (raw / "ab"[i]).mkdir(parents=True)
        film(i)[0].save_as(raw / "ab"[i] / f"{i}.dcm", enforce_file_format=True)


def write_scans(spoil):
    def write(raw):
        for i in range(2):
            raw_data.write_series(raw / "ab"[i], raw_data.scan(8, seed=i), spoil, f"s{i}", f"p{i}")

    return write


def write_nifti(raw):
    for i in range(2):
        phases = np.stack([raw_data.scan(8, seed=2 * i + phase) for phase in range(2)])
        save(raw / "ab"[i] / f"{i}.nii.gz", phases)


def write_arrays(raw):
    for i in range(2):
        (raw / "ab"[i]).mkdir(parents=True)
        np.save(raw / "ab"[i] / f"{i}.npy", raw_data.scan(8, seed=i))


def write_stacks(raw):
    """ImageJ's stacks of two channels at two times."""
    for i in range(2):
        (raw / "ab"[i]).mkdir(parents=True)
        pixels = np.random.default_rng(i).integers(0, 65536, (2, 4, 2, 9, 12)).astype(np.uint16)
        tifffile.imwrite(raw / "ab"[i] / f"{i}.tif", pixels, imagej=True, metadata={"axes": "TZCYX"})


@pytest.mark.parametrize(
    ("write", "reading"),
    [
        (write_stacks, {"frames": "stack", "split_4d": "all"}),
        (write_stacks, {"frames": "stack", "split_4d": "mean"}),
        (write_nifti, {"split_4d": "mean"}),
        (write_nifti, {"split_4d": "all"}),
        (write_arrays, {"axes": "HWD"}),
        (write_arrays, {"axes": "CHW"}),
        (write_x_rays, {"intensity": "bits"}),
        (write_x_rays, {"intensity": "voi"}),
        (write_films, {"frames": "middle"}),
        (write_films, {"frames": 2}),
        (write_scans(tilt), {"tilt": "resample"}),
        (write_scans(in_phases), {"split_4d": "mean"}),
        (write_scans(in_phases), {"split_4d": "all"}),
    ],
)
def test_a_scan_is_read_as_in_training(tmp_path, write, reading):
    write(tmp_path / "raw")
    trained = raw_data.ingest(tmp_path / "raw", tmp_path / "out", **reading)
    kind = "volumes" if trained.axes == "CDHW" else "images"
    asked = list(raw_cases.read_cases([str(tmp_path / "raw")], kind, 1, IngestParams(**reading).reading()))
    assert [case.trouble for case in asked] == [""] * len(trained.pixels)
    assert sorted(case.pixels.tobytes() for case in asked) == sorted(x.tobytes() for x in trained.pixels)
    assert len({case.name for case in asked}) == len(asked), "several cases of a file or a series are told apart"
    untold = list(raw_cases.read_cases([str(tmp_path / "raw")], kind, 1))
    assert sorted(case.pixels.tobytes() if case.pixels is not None else b"" for case in untold) != sorted(
        case.pixels.tobytes() for case in asked
    )


def test_what_lies_in_an_archive_is_read_by_the_names_that_answers_and_labels_csv_have_for_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 9, 7), np.uint8)
    raw, archive = tmp_path / "raw", tmp_path / "raw/a.zip"
    raw.mkdir()
    with zipfile.ZipFile(archive, "w") as target:
        for i, name in enumerate(("b/0.png", "b/1.png", "c/2.png")):
            with target.open(name, "w") as file:
                Image.fromarray(pictures[i]).save(file, "png")
        held = io.BytesIO()
        np.savez(held, images=pictures)
        target.writestr("x.npz", held.getvalue())

    def read(*names):
        cases = raw_cases.read_cases([f"{raw}/{name}" for name in names], "images", 1)
        return [case.pixels[0].tolist() for case in cases]

    expected = {
        ("b/0.png",): [0],
        ("c",): [2],
        ("b/*.png",): [0, 1],
        ("c/2.png", "b/"): [2, 0, 1],
        ("x.npz::images[3]", "b/1.png"): [3, 1],
    }
    for names, numbers in expected.items():
        for above in ("a.zip/", "a/", ""):  # alone in its folder it is that folder
            assert read(*(above + name for name in names)) == pictures[numbers].tolist()
    (raw / "other.tar").write_bytes(b"")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{raw}/a/c/2.png\n{raw}/a.zip/b/0.png\n{raw}/c/2.png\n"))
    found = list(raw_cases.read_cases(["-"], "images", 1))
    assert [case.pixels is not None for case in found] == [True, True, False]
    for name in ("a.zip/none.png", "a/none.png", "c/2.png", "a.zip/b::images"):
        with pytest.raises(UserError, match="not found"):
            read(name)
    archive.write_bytes(archive.read_bytes()[:-9])
    (case,) = raw_cases.read_cases([f"{archive}/b/0.png"], "images", 1)
    assert "damaged or cut short" in case.trouble


def test_what_lies_in_an_archive_may_be_named_as_carelessly_as_files_may(tmp_path):
    picture = io.BytesIO()
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(picture, "png")
    with zipfile.ZipFile(tmp_path / "a.ZIP", "w") as target:
        target.writestr("b/0.png", picture.getvalue())
    for name in ("a.ZIP/", "a.ZIP//b/0.png", "a.ZIP/./b/", "a/b/0.png", "a.ZIP/*/./0.png"):
        assert [case.trouble for case in raw_cases.read_cases([f"{tmp_path}/{name}"], "images", 1)] == [""]
    with pytest.raises(UserError, match="the pattern '.*' can't be read"):
        list(raw_cases.read_cases([f"{tmp_path}/a.ZIP/[z-a].png"], "images", 1))


@pytest.mark.parametrize("beside", ["folder.zip/x.png", "broken.zip"])
def test_a_file_that_is_not_there_is_told_of_and_not_the_archive_beside_it(tmp_path, beside):
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).write_bytes(b"PK and no more")
    (tmp_path / "there.png").touch()
    with pytest.raises(UserError, match="gone.png not found"):
        list(raw_cases.read_cases([str(tmp_path / "gone.png")], "images", 1))


def test_patterns_with_two_asterisks_end_where_links_lead_round_and_read_each_file_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a/b/.hidden").mkdir(parents=True)
    for name in ("0.png", "a/1.png", "a/b/2.png", "a/b/.hidden/3.png", "a/b/words.txt"):
        Path(name).touch()
    Path("a/b/again").symlink_to(tmp_path)
    Path("a/also").symlink_to("b")
    found = {
        "**/*.png": ["0.png", "a/1.png", "a/b/2.png"],
        "a/**/*.png": ["a/1.png", "a/b/2.png", "a/b/again/0.png"],
        "**/b/**/*.png": ["a/b/2.png", "a/b/again/0.png", "a/b/again/a/1.png"],
        f"{tmp_path}/**/b/*.*": [f"{tmp_path}/a/b/2.png", f"{tmp_path}/a/b/words.txt"],
    }
    for pattern, names in found.items():
        files, _ = raw_inputs.find([pattern])
        assert sorted(file.path for file in files) == sorted(names), pattern


def test_what_is_said_of_names_in_an_archive_does_not_stand_among_the_answers(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("caf?.png", b"")
    content = bytearray((tmp_path / "a.zip").read_bytes().replace(b"caf?", b"caf\x82"))
    content[content.find(b"PK\1\2") + 5] = 0  # made by DOS
    (tmp_path / "a.zip").write_bytes(content)
    for name in (tmp_path / "a.zip", tmp_path):
        raw_inputs.find([str(name)])
        out, err = capsys.readouterr()
        assert out == "" and "1 names are no UTF-8, and read as CP437" in err


def test_parts_of_files_are_read_by_the_names_that_labels_csv_has_for_them(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (5, 9, 7), np.uint8)
    with h5py.File(raw / "x.h5", "w") as file:
        file["images"] = pictures
    np.savez(raw / "y.npz", one=pictures[0], other=pictures[1])
    Image.fromarray(pictures[2]).save(raw / "z.png")
    of_h5 = [f"x.h5::images[{i}]" for i in (3, 1, 9)]
    names = [*of_h5, "y.npz::other", "y.npz::none", "z.png::a", "z.png"]
    found = list(raw_cases.read_cases([f"{raw}/{name}" for name in names], "images", 1))
    said = {case.name.removeprefix(f"{raw}/"): case for case in found}
    assert list(said) == names
    for name, at in (("x.h5::images[3]", 3), ("x.h5::images[1]", 1), ("y.npz::other", 1)):
        assert np.array_equal(said[name].pixels, pictures[at][None])
    assert "the array's shape is (5, 9, 7)" in said["x.h5::images[9]"].trouble
    assert "no array of this name" in said["y.npz::none"].trouble
    assert "no file of arrays" in said["z.png::a"].trouble
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{raw}/x.h5::images[4]\n"))
    (case,) = raw_cases.read_cases(["-"], "images", 1)
    assert np.array_equal(case.pixels, pictures[4][None])
    with pytest.raises(UserError, match="not found"):
        list(raw_cases.read_cases([f"{raw}/none.h5::images[3]"], "images", 1))


def test_the_exported_file_says_what_was_not_left_as_it_is_and_nothing_else(images_h5):
    about = asdict(tensors.read_description(images_h5))
    assert "reading" not in metadata.contract(about, "fitted", IngestParams(max_rejected=0.5, identifiers="open"))
    told = metadata.contract(about, "fitted", IngestParams(intensity="bits", split_4d=2))
    assert told["reading"] == {"intensity": "bits", "split_4d": 2}
    assert Input.model_validate(told).reading == told["reading"]
    with pytest.raises(ValueError, match="include does not say how a file is read"):
        Input.model_validate(told | {"reading": {"include": "x"}})


def test_the_spacing_of_stacks_that_say_none_is_that_of_training(tmp_path, images_h5):
    write_stacks(tmp_path / "raw")
    given = IngestParams(frames="stack", split_4d="first", spacing_mm=(3.0, 2.0, 1.0))
    about = asdict(tensors.read_description(images_h5))
    told = json.loads(json.dumps(metadata.contract(about, "fitted", given)))
    reading = Input.model_validate(told).reading
    cases = list(raw_cases.read_cases([str(tmp_path / "raw")], "volumes", 1, reading))
    assert [case.spacing_mm for case in cases] == [(3.0, 2.0, 1.0)] * 2
    untold = list(raw_cases.read_cases([str(tmp_path / "raw")], "volumes", 1, reading | {"spacing_mm": None}))
    assert [case.spacing_mm for case in untold] == [None, None]


def test_every_key_that_says_how_to_read_is_a_parameter_of_ingest():
    assert all(hasattr(IngestParams(), name) for name in READING)


def test_what_lies_beside_slices_is_counted_and_no_error(tmp_path):
    def with_localizer(slices):
        slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        slices[0].SeriesInstanceUID += ".9"

    folder = tmp_path / "raw"
    raw_data.write_series(folder, raw_data.scan(9), with_localizer)
    (folder / "report.txt").write_text("all is well")
    (folder / "empty.txt").touch()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "preview.jpg")
    left_out = Counter()
    files = raw_cases.raw_inputs.find([str(folder)])[0]
    (case,) = raw_cases.read_files(files, "volumes", 1, left_out=left_out)
    assert case.trouble == "" and case.pixels.shape == (1, 8, 7, 6)
    assert left_out == {"localizer": 1, "no_picture": 1, "empty_file": 1, "thumbnail": 1}


def test_labels_beside_pictures_are_left_out_and_counted(tmp_path):
    raw_data.write_pictures(tmp_path / "raw", each=1)
    (tmp_path / "raw" / "labels.csv").write_text("path,label\n")
    (tmp_path / "raw" / "cat" / "0.cls").write_text("1")
    (tmp_path / "raw" / "cat" / "notes.txt").write_text("seen")
    left_out = Counter()
    files = raw_inputs.find([str(tmp_path / "raw")])[0]
    asked = list(raw_cases.read_files(files, "images", 3, left_out=left_out))
    assert left_out == {"label_file": 2}
    assert [case.name.rpartition("/")[2] for case in asked if case.trouble] == ["notes.txt"]


def test_a_volume_among_slices_is_read_as_ingest_reads_it(tmp_path):
    raw_data.write_series(tmp_path / "raw" / "a")
    save(tmp_path / "raw" / "a" / "scan.nii.gz", raw_data.scan(seed=5))
    trained = raw_data.ingest(tmp_path / "raw", tmp_path / "out")
    asked = list(raw_cases.read_cases([str(tmp_path / "raw")], "volumes", 1))
    assert sorted(case.pixels.tobytes() for case in asked) == sorted(x.tobytes() for x in trained.pixels)


def test_a_nifti_file_is_in_hounsfield_units_where_somebody_says_so(tmp_path):
    save(tmp_path / "scan.nii.gz", pixels := raw_data.scan())
    contract = {"shape": [1, 8, 7, 6], "channels": [1], "units": "HU", "dtype": "int16", "inputs": ["x", "spacing_mm"]}
    files = list(raw_inputs.find([str(tmp_path)])[0])
    (case,) = predict.taken(files, {"input": contract})
    assert "without a unit, the model takes HU; --hu says" in case.trouble
    (case,) = predict.taken(files, predict._in_hounsfield_units({"input": contract}))
    assert np.array_equal(case.pixels[0], pixels)
    assert np.allclose(case.spacing_mm, [2.5, 0.75, 0.5])
    with pytest.raises(UserError, match="--hu"):
        predict._in_hounsfield_units({"input": contract | {"units": ""}})
