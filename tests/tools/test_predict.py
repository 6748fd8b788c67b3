import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stages import ingest, sample
from stages.lib import params, tensors
from stages.lib.cases import Cases
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.export import formats, metadata
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.ingest.archives import members
from stages.lib.ingest.readers.contract import Rejected
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings
from tests import HANG_SECONDS, ROOT, raw_data
from tests.conftest import write_dataset_h5, write_model_pt
from tools import agree, answers, explanation, predict, raw_cases, raw_inputs

pytestmark = pytest.mark.slow  # because of the fixture, which exports every format
CLASSES = ["class0", "class1", "class2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of 8x8 pictures in every format, and the test split's cases as PNG files."""
    folder = tmp_path_factory.mktemp("predict")
    write_dataset_h5(folder / "d.h5")
    write_model_pt(folder / "model.pt", folder / "d.h5", trained=True)
    # Every picture counts as unlike the training data: no distance is below -1.
    settings = Settings(unlike_means=[0] * 4, unlike_deviations=[1] * 4, unlike_threshold=-1.0)
    model = Deployed(checkpoint.load(folder / "model.pt")[0], settings, unlike=True).eval()
    about = asdict(tensors.read_description(folder / "d.h5"))
    about["geometry"] |= {"colour": "grey_luminance"}
    facts = {"classes": CLASSES, "input": metadata.contract(about, "fitted"), "geometry": about["geometry"]}
    native = Native(Geometry(**about["geometry"]), model).eval()
    for suffix in formats.FORMATS:
        program = Program(native, (1, 8, 8), "uint8", facts, outputs=2)
        formats.file_format(suffix).write(folder / f"model{suffix}", program)
    for i, x in enumerate(tensors.read_split(folder / "d.h5", "test").x):
        Image.fromarray(np.array(x[0])).save(folder / f"{i:02}.png")
    return folder


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        predict.main([str(argument) for argument in arguments])
    return left.value.code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def metrics(folder, tmp_path_factory, monkeypatch):
    """The project's metrics/, in which an export.json vouches for the files of the fixture `folder`."""
    metrics = tmp_path_factory.mktemp("metrics")
    monkeypatch.setattr(formats, "METRICS", metrics)
    (metrics / "stripes").mkdir()
    sums = {f"model{suffix}": {"sha256": metadata.sha256(folder / f"model{suffix}")} for suffix in formats.FORMATS}
    (metrics / "stripes" / "export.json").write_text(json.dumps({"test_cases": 24, **sums, "variants": {}}))
    return metrics


def test_a_pt2_file_that_no_export_json_of_the_project_vouches_for_is_run_only_with_trust(folder, capsys, metrics):
    arguments = folder / "model.pt2", folder / "01.png"
    assert run(capsys, *arguments)[0] == 0
    (metrics / "stripes" / "export.json").rename(folder / "export.json")  # beside the file, as its sender might
    code, out, _ = run(capsys, *arguments)
    assert "its sha256 is in no " in str(code) and "--trust" in str(code) and out == ""
    assert run(capsys, *arguments, "--trust")[0] == 0
    assert run(capsys, folder / "model.onnx", folder / "01.png")[0] == 0
    (metrics / "stripes" / "export.json").write_text('{"model.pt2": {"sha256": 1}, "variants": []}')
    assert "its sha256 is in no" in str(run(capsys, *arguments)[0])


def test_a_model_with_outputs_that_are_no_probabilities_of_its_classes_gives_one_message(folder, capsys, tmp_path):
    model = onnx.load(folder / "model.onnx")
    (note,) = model.metadata_props
    note.value = json.dumps(json.loads(note.value) | {"classes": ["one", "more", "than", "it has"]})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, out, _ = run(capsys, tmp_path / "m.onnx", folder / "01.png")
    assert "no probabilities of the classes" in str(code) and out == ""


def with_input(model, path, **given):
    """The ONNX file with other entries in the metadata's `input`."""
    changed = onnx.load(model)
    (note,) = changed.metadata_props
    about = json.loads(note.value)
    about["input"] |= given
    note.value = json.dumps(about)
    path.write_bytes(changed.SerializeToString())
    return path


def test_a_case_that_the_model_fails_on_is_named_with_one_line_of_the_reason(folder, capsys, tmp_path):
    model = with_input(folder / "model.onnx", tmp_path / "m.onnx", dtype="int16")
    tifffile.imwrite(tmp_path / "01.tif", np.zeros((8, 8), np.int16))
    code, out, err = run(capsys, model, tmp_path / "01.tif")
    assert code == 1 and out == ""
    reason, count = err.splitlines()
    assert reason.startswith(f"error: {tmp_path / '01.tif'}: the model can't run on 1 x 8 x 8: ")
    assert count == "no answer for 1 of 1 cases"


@pytest.mark.parametrize("suffix", formats.FORMATS)
def test_files_get_the_percentages_that_the_network_gives_their_tensors(folder, capsys, suffix):
    code, out, _ = run(capsys, folder / f"model{suffix}", folder / "*.png", "--output", "csv", "--top", 3)
    rows = list(csv.DictReader(io.StringIO(out)))
    x = torch.from_numpy(np.array(tensors.read_split(folder / "d.h5", "test").x))
    wanted = checkpoint.load(folder / "model.pt")[0](x).softmax(1).detach().numpy()
    assert code == 0 and len(rows) == 24 * 3
    for row in rows:
        case, k = int(row["file"][-6:-4]), CLASSES.index(row["class"])
        assert float(row["probability"]) == pytest.approx(wanted[case, k], abs=1e-5)
        assert int(row["rank"]) == 1 + int((wanted[case] > wanted[case, k]).sum())


def test_json_and_table_name_the_best_class_and_what_is_unlike_the_training_data(folder, capsys):
    _, out, _ = run(capsys, folder / "model.onnx", folder / "01.png", "--output", "json", "--top", 1)
    (row,) = json.loads(out)
    assert list(row["probabilities"]) == ["class1"]
    assert row["unlike"] is True
    _, out, _ = run(capsys, folder / "model.onnx", folder / "01.png")
    assert "01.png   class1 " in out and out.count("%") == 3


def test_a_name_of_a_file_or_class_does_nothing_to_the_terminal_and_no_file_name_ends_the_program(
    folder, capsys, tmp_path
):
    name = "a\x1b[2J\n\udcff.png"  # an escape sequence, a line end, and a byte that is no UTF-8
    shutil.copy(folder / "01.png", tmp_path / name)
    (tmp_path / "b\x1b[2J.png").write_text("no picture")
    code, out, err = run(capsys, folder / "model.onnx", tmp_path)
    assert code == 1
    assert r"/a\u001b[2J\n\udcff.png   class1 " in out and r"/b\u001b[2J.png: " in err
    assert "\x1b" not in out + err and len(out.splitlines()) == 1 and len(err.splitlines()) == 2
    for form in ("json", "jsonl", "csv"):
        arguments = folder / "model.onnx", tmp_path / name, "--output", form
        _, out, _ = run(capsys, *arguments)
        assert not {"\x1b", "\udcff"} & set(out)
        assert form != "json" or json.loads(out)[0]["file"] == str(tmp_path / name)
        assert form != "jsonl" or json.loads(out)["file"] == str(tmp_path / name)
        assert run(capsys, *arguments, "--to", tmp_path / "to")[1] == ""
        assert (tmp_path / "to").read_text() == out
    one = answers.Answer(raw_cases.RawCase("a.png"), np.array([0.75, 0.25], np.float32))
    table = answers.as_table([[one]], answers.OfClasses(["\x1b]0;t\x07\r\n::error::", "b"], 2))
    assert "".join(table) == r"a.png   \u001b]0;t\u0007\r\n::error:: 75.00 %   b 25.00 %" + "\n"


def test_the_raw_tensor_and_the_explanation_are_written_beside(folder, capsys, tmp_path):
    more = ("--raw", tmp_path / "x.raw", "--explain", tmp_path / "heat.png")
    assert run(capsys, folder / "model.pt2", folder / "03.png", folder / "02.png", *more)[0] == 0
    x = np.array(tensors.read_split(folder / "d.h5", "test").x)
    assert (tmp_path / "x.raw").read_bytes() == b"".join(b"uint8 1 8 8\n" + x[i].tobytes() for i in (3, 2))
    with Image.open(tmp_path / "heat.png") as heat:
        red, green, _ = np.asarray(heat.convert("RGB"), int).reshape(-1, 3).T
        assert (red > green + 50).any()


def test_a_picture_of_another_size_and_colour_is_brought_to_the_models_shape(folder, capsys, tmp_path):
    with Image.open(folder / "02.png") as picture:
        picture.resize((40, 40), Image.Resampling.BILINEAR).convert("RGB").save(tmp_path / "large.png")
    code, out, _ = run(capsys, folder / "model.onnx", tmp_path / "large.png", "--top", 1)
    assert code == 0 and "class2" in out


def test_a_file_that_cannot_be_read_is_named_with_its_reason_and_the_others_are_answered(folder, capsys, tmp_path):
    (tmp_path / "a.png").write_bytes((folder / "00.png").read_bytes()[:-30])
    (tmp_path / "b.png").write_bytes(b"")
    code, out, err = run(capsys, folder / "model.onnx", tmp_path, folder / "01.png")
    assert code == 1
    assert out.count("\n") == 1 and "01.png" in out
    assert f"error: {tmp_path / 'a.png'}: " in err and f"error: {tmp_path / 'b.png'}: empty" in err


@pytest.mark.parametrize("name, message", [("model.pt", "is no exported model"), ("none.onnx", "not found")])
def test_a_model_of_another_kind_or_none_gives_one_clear_message(folder, capsys, name, message):
    code, _, _ = run(capsys, folder / name, folder / "01.png")
    assert str(code).startswith("error: ") and message in str(code)


def test_a_picture_of_more_bits_than_the_model_was_trained_on_is_refused(folder, capsys, tmp_path):
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(tmp_path / "deep.png")
    code, out, err = run(capsys, folder / "model.onnx", tmp_path / "deep.png")
    assert code == 1 and out == ""
    assert "it holds uint16 numbers, the model takes uint8" in err


def test_a_picture_of_fewer_bits_than_the_model_was_trained_on_is_refused_too(tmp_path):
    Image.fromarray(np.full((9, 9), 200, np.uint8)).save(tmp_path / "shallow.png")
    files = list(raw_inputs.find([str(tmp_path)])[0])
    contract = {"shape": [1, 8, 8], "channels": [1], "units": "", "inputs": ["x"]}
    for dtype in ("uint16", "int16"):
        (case,) = predict.taken(files, {"input": contract | {"dtype": dtype}})
        assert case.pixels is None and f"it holds uint8 numbers, the model takes {dtype}" in case.trouble
    (case,) = predict.taken(files, {"input": contract | {"dtype": "float32"}})
    assert case.trouble == "", "dataset.dtype: float32 makes a model of 8 bits take these"


def test_names_that_match_nothing_are_a_mistake(folder, capsys):
    code, _, _ = run(capsys, folder / "model.onnx", folder / "nothing*.png")
    assert "not found: expected a picture" in str(code)


def test_a_series_is_read_to_the_pixels_and_spacing_that_ingest_stores(tmp_path):
    raw = tmp_path / "raw"
    sample.main(raw, params.check(params.SampleParams, {"source": "phantoms", "patients": 3}))
    names = ("cases", "cases.csv", "ingest.json", "ingest.png")
    paths = {name.replace(".", "_"): tmp_path / "out" / name for name in names}
    (tmp_path / "out").mkdir()
    ingest.main(
        raw,
        **paths,
        params=params.check(params.IngestParams, {"identifiers": "open"}),
        machine=params.MachineParams(workers=1),
    )
    with Cases(tmp_path / "out" / "cases") as cases:
        stored = {hash(x.tobytes()): list(cases.spacings_mm[i]) for i, x in enumerate(cases)}
    series = [path.parent for path in sorted(raw.rglob("*.dcm")) if path.name.endswith("000.dcm")]
    found = list(raw_cases.read_cases([str(path) for path in series], "volumes", 1))
    assert [case.name for case in found] == [str(path) for path in series]
    assert {hash(case.pixels.tobytes()): list(case.spacing_mm) for case in found} == stored
    assert {case.units for case in found} == {"HU"}


def test_a_ct_slice_is_no_input_for_a_model_of_pictures_without_units(folder, capsys, tmp_path):
    sample.main(tmp_path / "raw", params.check(params.SampleParams, {"source": "phantoms", "patients": 3}))
    code, out, err = run(capsys, folder / "model.onnx", next((tmp_path / "raw").rglob("*.dcm")))
    assert code == 1 and out == ""
    assert "it holds HU, the model takes numbers without a unit" in err


def pictures_of_every_kind(folder):
    """Pictures whose numbers are not simply those of their files."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (9, 12, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(colour).save(folder / "turned_by_xmp.png", pnginfo=_xmp(8))
    Image.fromarray(np.dstack([colour, colour[..., 0]])).save(folder / "transparent.png")
    Image.fromarray(colour).quantize(8).save(folder / "palette.png", transparency=0)
    Image.fromarray(rng.integers(0, 65536, (9, 12)).astype(np.uint16)).save(folder / "deep.png")
    wide = rng.integers(0, 65536, (9, 12, 4)).astype(np.uint16)
    tifffile.imwrite(folder / "deep.tif", wide, photometric="rgb", extrasamples=["assocalpha"])


def _xmp(orientation):
    told = PngInfo()
    told.add_itxt("XML:com.adobe.xmp", f'<x:xmpmeta tiff:Orientation="{orientation}"/>')
    return told


@pytest.mark.parametrize("transparency", ["black", "white"])
def test_training_and_prediction_read_every_kind_of_picture_alike(tmp_path, transparency):
    raw = tmp_path / "raw" / "class"
    raw.mkdir(parents=True)
    pictures_of_every_kind(raw)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "raw" / "other.png")
    (tmp_path / "raw" / "labels.csv").write_text("path,label\nclass,a\nother.png,b\n")
    trained = raw_data.ingest(tmp_path / "raw", tmp_path / "out", transparency=transparency)
    names = pd.read_csv(tmp_path / "out" / "files.csv").set_index("path")["case"]
    pixels = dict(zip(trained.table["case"], trained.pixels, strict=True))
    asked = list(raw_cases.read_cases([str(raw)], "images", 3, {"transparency": transparency}))
    assert len(asked) == 6
    for case in asked:
        assert case.pixels is not None, case
        assert np.array_equal(case.pixels, pixels[names[f"class/{Path(case.name).name}"]]), case.name
        assert case.pixels.shape == ((3, 12, 9) if "turned" in case.name else (3, 9, 12))


@pytest.mark.parametrize("colour", ["grey_mean", "grey_luminance"])
def test_pictures_that_ingest_made_grey_are_made_grey_for_prediction(tmp_path, colour):
    for label in ("a", "b"):
        (tmp_path / "raw" / label).mkdir(parents=True)
        x = np.random.default_rng(ord(label)).integers(0, 256, (9, 8, 3), np.uint8)
        Image.fromarray(x).save(tmp_path / "raw" / label / "0.png")
    trained = raw_data.ingest(tmp_path / "raw", tmp_path / "out", colour=colour)
    asked = list(raw_cases.read_cases([str(tmp_path / "raw")], "images", 1, {"colour": colour}))
    assert sorted(x.tobytes() for x in trained.pixels) == sorted(case.pixels.tobytes() for case in asked)
    (refused,) = raw_cases.read_cases([str(tmp_path / "raw" / "a")], "images", 1)
    assert refused.pixels.shape == (3, 9, 8)  # in colour, which a model of grey ones says


def test_a_picture_of_four_bands_is_not_called_damaged(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 8, 4), np.uint8), photometric="rgb", extrasamples=["unspecified"])
    (case,) = raw_cases.read_cases([str(tmp_path / "x.tif")], "images", 3)
    assert case.pixels.shape == (4, 8, 8)


def test_a_transparent_picture_is_laid_on_what_the_file_says_that_it_was_in_training(folder, capsys, tmp_path):
    model = with_input(folder / "model.onnx", tmp_path / "m.onnx", transparency="white")
    clear = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(clear[..., :3] + 255).save(tmp_path / "white.png")
    told = [
        run(capsys, model, tmp_path / name, "--output", "csv", "--top", 3)[1].replace(name, "")
        for name in ("clear.png", "white.png")
    ]
    assert told[0] == told[1] and "class0" in told[0]
    assert "transparent" in run(capsys, folder / "model.onnx", tmp_path / "clear.png")[2]


@pytest.fixture
def mixed(folder, tmp_path):
    """A folder of a picture, one cut short, one that is no picture, and another picture, in this order."""
    (tmp_path / "mixed").mkdir()
    shutil.copy(folder / "00.png", tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "b.png").write_bytes((folder / "01.png").read_bytes()[:-30])
    (tmp_path / "mixed" / "c.png").write_text("=1+1")
    shutil.copy(folder / "02.png", tmp_path / "mixed" / "d.png")
    return tmp_path / "mixed"


def test_a_bad_file_has_its_row_with_the_reason_among_the_others_and_is_counted_at_the_end(folder, capsys, mixed):
    told = {}
    for form in ("csv", "json", "jsonl"):
        code, told[form], err = run(capsys, folder / "model.onnx", mixed, "--output", form, "--top", 1)
        assert code == 1 and err == "no answer for 2 of 4 cases\n"
    rows = list(csv.DictReader(io.StringIO(told["csv"])))
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.png", "c.png", "d.png"]
    assert [row["class"] for row in rows] == ["class0", "", "", "class2"]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert [row["unlike"] for row in rows] == ["True", "", "", "True"]
    lines = [json.loads(line) for line in told["jsonl"].splitlines()]
    assert lines == json.loads(told["json"])
    assert [list(line) for line in lines[:2]] == [["file", "probabilities", "unlike"], ["file", "error"]]
    assert [line["error"] for line in lines[1:3]] == [row["error"] for row in rows[1:3]]
    good = run(capsys, folder / "model.onnx", mixed / "a.png", "--output", "csv")
    assert good[0] == 0 and good[2] == ""


def test_json_of_nothing_is_an_empty_array():
    assert json.loads("".join(answers.as_json([], answers.OfClasses(CLASSES, 3)))) == []


def test_cases_that_the_model_fails_on_cost_their_own_answers_alone(folder):
    model = formats.open_model(folder / "model.onnx")[0]

    def fails_on_white(x, spacing_mm=None):
        if (x == 255).all(axis=(1, 2, 3)).any():
            raise RuntimeError("white")
        return model(x, spacing_mm)

    x = np.array(tensors.read_split(folder / "d.h5", "test").x[:5])
    x[[1, 3]] = 255
    cases = [raw_cases.RawCase(str(i), one) for i, one in enumerate(x)]
    (told,) = predict.answered(fails_on_white, cases)
    assert [one.trouble for one in told] == ["", wanted := "the model can't run on 1 x 8 x 8: white", "", wanted, ""]
    alone = model(x)[0]
    assert all(np.allclose(told[i].values, alone[i], atol=1e-6) for i in (0, 2, 4))


def test_a_batch_holds_neighbours_of_one_size_and_no_more_bytes_than_it_may(monkeypatch):
    monkeypatch.setattr(predict, "BATCH_BYTES", 256)
    sizes = [8, 8, 8, 8, 8, 4, 8, 40, 40]
    cases = [raw_cases.RawCase(str(i), np.zeros((1, n, n), np.uint8)) for i, n in enumerate(sizes)]
    cases.insert(2, raw_cases.RawCase("bad", trouble="why"))
    batches = list(predict._batches(cases))
    assert [len(batch) for batch in batches] == [2, 1, 3, 1, 1, 1, 1]
    assert [case.name for batch in batches for case in batch] == [case.name for case in cases]


def test_cases_are_answered_before_later_ones_are_read(folder, monkeypatch, capsys):
    """So no more than a few batches are in memory, whatever the number of cases."""
    taken, answered = [0], []
    most = [0]
    read, printed = predict.read_files, predict._print

    def counting(*arguments):
        for case in read(*arguments):
            taken[0] += 1
            most[0] = max(most[0], taken[0] - len(answered))
            yield case

    def printing(text):
        answered.append(text)
        printed(text)

    monkeypatch.setattr(predict, "read_files", counting)
    monkeypatch.setattr(predict, "_print", printing)
    monkeypatch.setattr(predict, "BATCH", 4)
    assert run(capsys, folder / "model.onnx", folder / "*.png", "--output", "jsonl")[0] == 0
    assert taken == [24] and len(answered) == 24
    assert most[0] <= 4 + 1


def stdin(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_a_list_on_stdin_names_files_folders_and_archives_and_one_that_is_not_there_has_its_row(
    folder, capsys, tmp_path, monkeypatch
):
    archive(tmp_path / "x.zip", {"03.png": (folder / "03.png").read_bytes()})
    (tmp_path / "more").mkdir()
    shutil.copy(folder / "04.png", tmp_path / "more" / "*.png")
    names = [folder / "05.png", tmp_path / "gone.png", tmp_path / "x.zip", tmp_path / "more", tmp_path / "more/*.png"]
    stdin(monkeypatch, b"\n".join(os.fsencode(name) for name in names) + b"\r\n\n")
    code, out, err = run(capsys, folder / "model.onnx", folder / "06.png", "-", "--output", "jsonl", "--top", 1)
    rows = [json.loads(line) for line in out.splitlines()]
    wanted = [folder / "06.png", *names[:2], tmp_path / "x.zip" / "03.png", tmp_path / "more" / "*.png"]
    assert [row["file"] for row in rows] == list(map(str, wanted))
    assert "No such file" in rows[2]["error"] and [list(r.get("probabilities", "")) for r in rows[3:]] == [
        ["class0"],
        ["class1"],
    ]
    assert code == 1 and err == "no answer for 1 of 5 cases\n"


def test_a_list_is_answered_while_it_is_still_written(folder, capsys, monkeypatch):
    class Endless:
        """The same pictures again and again, under other names; it counts the lines that were asked for."""

        asked = 0

        def __iter__(self):
            while True:
                self.asked += 1
                yield os.fsencode(f"{folder}/{'./' * self.asked}00.png\n")

    monkeypatch.setattr(sys, "stdin", Endless())
    files, number = raw_inputs.find(["-"])
    assert number is None
    case = next(iter(raw_cases.read_files(files, "images", 1)))
    assert case.pixels is not None and sys.stdin.asked == raw_cases.RUN_FILES


def archive(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def test_pictures_in_a_zip_archive_are_answered_as_the_files_are_and_nothing_is_written(folder, capsys, tmp_path):
    pictures = {f"a/{i}.png": (folder / f"0{i}.png").read_bytes() for i in range(4)}
    litter = {"__MACOSX/a/._0.png": b"x", "a/.DS_Store": b"x"}
    hostile = {"../../outside.png": pictures["a/0.png"], "/outside.png": pictures["a/1.png"]}
    archive(tmp_path / "x.zip", pictures | litter | hostile | {"a/words.txt": b"words"})
    before = sorted(tmp_path.parent.rglob("*"))
    code, out, err = run(capsys, folder / "model.onnx", tmp_path / "x.zip", "--output", "jsonl")
    rows = {row["file"].removeprefix(f"{tmp_path}/x.zip/"): row for row in map(json.loads, out.splitlines())}
    assert set(rows) == {*pictures, "../../outside.png", "outside.png", "a/words.txt"}
    assert code == 1 and "no answer for 3 of 7" in err and "error" in rows["a/words.txt"]
    _, out, _ = run(capsys, folder / "model.onnx", *(folder / f"0{i}.png" for i in range(4)), "--output", "jsonl")
    for name, row in zip(pictures, map(json.loads, out.splitlines()), strict=True):
        assert rows[name]["probabilities"] == pytest.approx(row["probabilities"], abs=1e-6)
    assert all("leads out of the archive" in rows[name]["error"] for name in ("../../outside.png", "outside.png"))
    assert sorted(tmp_path.parent.rglob("*")) == before and not Path("/outside.png").exists()


def test_series_in_a_zip_archive_are_the_volumes_of_their_folders(tmp_path):
    sample.main(tmp_path / "raw", params.check(params.SampleParams, {"source": "phantoms", "patients": 2}))
    files = sorted(path for path in (tmp_path / "raw").rglob("*") if path.is_file())
    archive(tmp_path / "x.zip", {str(path.relative_to(tmp_path / "raw")): path.read_bytes() for path in files})
    found = list(raw_cases.read_cases([str(tmp_path / "raw")], "volumes", 1))
    zipped = list(raw_cases.read_cases([str(tmp_path / "x.zip")], "volumes", 1))
    assert len([case for case in found if case.pixels is not None]) >= 2
    for one, other in zip(found, zipped, strict=True):
        assert other.name == one.name.replace(f"{tmp_path}/raw", f"{tmp_path}/x.zip")
        assert one.trouble == other.trouble and one.spacing_mm == other.spacing_mm
        assert one.pixels is None or np.array_equal(one.pixels, other.pixels)


def spoilt_archives(folder):
    """Archives that are not to be trusted, by what is said of them."""
    picture = (folder / "00.png").read_bytes()
    bomb = archive(folder / "bomb.zip", {"zeros.bmp": bytes(1 << 20)}).read_bytes()
    twice = archive(folder / "twice.zip", {"a.png": picture, "b.png": picture}).read_bytes()
    damaged = bytearray(archive(folder / "damaged.zip", {"a.png": picture}, zipfile.ZIP_STORED).read_bytes())
    damaged[60] ^= 1
    locked = bytearray(archive(folder / "locked.zip", {"a.png": picture}).read_bytes())
    locked[locked.index(b"PK\1\2") + 8] |= 1
    return {
        "1048576, expected 100 times at most": bomb,
        "two members of this name": twice.replace(b"b.png", b"a.png"),
        "another checksum (CRC-32)": bytes(damaged),
        "encrypted in its archive": bytes(locked),
        "packed by method 14": archive(folder / "lzma.zip", {"a.png": picture}, zipfile.ZIP_LZMA).read_bytes(),
        "damaged or cut short (it has no index at its end)": b"PK\3\4 and no more",
        "holds no files": archive(folder / "none.zip", {}).read_bytes(),
        "lie where it has no bytes for them": overlapping(twice),
    }


def overlapping(content):
    """An archive whose directory says that each member is packed in nearly all of its bytes."""
    changed = bytearray(content)
    at = -1
    while (at := content.find(b"PK\1\2", at + 1)) >= 0:
        changed[at + 20 : at + 24] = (len(content) - 100).to_bytes(4, "little")
    return bytes(changed)


def test_an_archive_that_is_a_bomb_or_damaged_has_a_row_with_the_reason_and_the_others_are_answered(
    folder, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(members, "ANY_RATIO_BYTES", 1 << 16)
    shutil.copy(folder / "00.png", tmp_path)
    for i, (told, content) in enumerate(spoilt_archives(tmp_path).items()):
        (tmp_path / f"{i}.zip").write_bytes(content)
        code, out, _ = run(capsys, folder / "model.onnx", tmp_path / f"{i}.zip", folder / "01.png", "--output", "jsonl")
        bad, good = map(json.loads, out.splitlines())
        assert code == 1 and "probabilities" in good
        assert told in bad["error"] and bad["file"].startswith(f"{tmp_path}/{i}.zip")


def test_a_member_that_is_larger_than_a_file_may_be_is_refused_before_it_is_unpacked(tmp_path):
    archive(tmp_path / "x.zip", {"a.png": b"x" * 1000})
    (file,) = raw_inputs.members(str(tmp_path / "x.zip"))
    with pytest.raises(Rejected, match="unpacks to 1000 bytes, expected 999 at most"):
        members.read(file.member, 999)


def test_an_archive_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    (file,) = raw_inputs.members(str(tmp_path / "x.zip"))
    assert "a pipe (FIFO), expected a file" in file.trouble


def test_an_output_that_nobody_reads_any_more_ends_the_program_without_a_traceback(folder):
    command = [sys.executable, "-m", "tools.predict", folder / "model.onnx", folder, folder / "*.png"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(HANG_SECONDS) == terminal.UNREAD


def test_a_file_that_can_not_be_written_is_named_and_nothing_half_written_stays(folder, capsys, tmp_path):
    (tmp_path / "file").touch()
    code, _, _ = run(capsys, folder / "model.onnx", folder / "01.png", "--to", tmp_path / "file" / "x.csv")
    assert str(code).startswith("error: ") and "file" in str(code)
    (tmp_path / "x.csv").write_text("former")
    model = with_input(folder / "model.onnx", tmp_path / "m.onnx")
    changed = onnx.load(model)
    (note,) = changed.metadata_props
    note.value = json.dumps(json.loads(note.value) | {"classes": ["one"]})
    model.write_bytes(changed.SerializeToString())
    code, _, _ = run(capsys, model, folder / "01.png", "--to", tmp_path / "x.csv")
    assert "no probabilities" in str(code) and (tmp_path / "x.csv").read_text() == "former"
    assert not list(tmp_path.glob("*partial*"))


def test_a_grey_picture_saved_in_colour_is_grey_for_a_model_of_grey_ones_and_one_in_colour_is_refused(
    folder, capsys, tmp_path
):
    model = with_input(folder / "model.onnx", tmp_path / "m.onnx", channels=[1])
    with Image.open(folder / "02.png") as picture:
        picture.convert("RGB").save(tmp_path / "a.png")
        coloured = np.array(picture.convert("RGB"))
    coloured[0, 0, 0] ^= 1
    Image.fromarray(coloured).save(tmp_path / "b.png")
    code, out, err = run(capsys, model, folder / "02.png", tmp_path / "[ab].png", "--output", "jsonl")
    grey, saved_in_colour, refused = map(json.loads, out.splitlines())
    assert saved_in_colour["probabilities"] == pytest.approx(grey["probabilities"], abs=1e-6)
    assert refused["error"].startswith("it is in colour, the model takes grey ones") and code == 1
    assert err.splitlines()[0] == "1 of 3 cases: grey pictures saved in colour, given to the model as grey"
    assert run(capsys, folder / "model.onnx", tmp_path / "a.png", tmp_path / "b.png")[::2] == (0, "")  # takes both


def test_a_sheet_of_explanations_says_how_many_cases_it_lacks_and_a_folder_has_them_all(
    folder, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(explanation, "MOST", 2)
    shutil.copy(folder / "model.pt", tmp_path)
    shutil.copy(folder / "model.onnx", tmp_path)
    arguments = tmp_path / "model.onnx", folder / "0[0-3].png", "--explain"
    code, out, err = run(capsys, *arguments, tmp_path / "sheet.png")
    assert code == 0 and out.count("\n") == 4
    assert err == f"{tmp_path}/sheet.png shows the first 2 of 4 cases: --explain FOLDER writes a file for each\n"
    assert run(capsys, *arguments, tmp_path / "maps")[2] == ""
    names = [path.name for path in sorted((tmp_path / "maps").iterdir())]
    assert names == [f"00000{i + 1}_0{i}.png" for i in range(4)]
    with Image.open(tmp_path / "maps" / names[0]) as heat:
        red, green, _ = np.asarray(heat.convert("RGB"), int).reshape(-1, 3).T
        assert min(heat.size) >= 512 and (red > green + 50).any()


def test_the_comparison_of_ways_to_run_a_model_stops_where_one_of_them_can_not_run(folder, tmp_path):
    model = with_input(folder / "model.onnx", tmp_path / "m.onnx", dtype="int16")
    with pytest.raises(UserError, match="can't run on 1 x 8 x 8"):
        agree.by_file(model, [raw_cases.RawCase("a", np.zeros((1, 8, 8), np.int16))])
