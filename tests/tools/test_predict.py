import csv
import io
import json
import shutil
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
from stages.lib.export import formats, metadata
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings
from tests import raw_data
from tests.conftest import write_dataset_h5, write_model_pt
from tools import predict, raw_cases

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


def test_a_model_that_fails_while_it_runs_gives_one_message(folder, capsys, tmp_path):
    model = onnx.load(folder / "model.onnx")
    (note,) = model.metadata_props
    about = json.loads(note.value)
    about["input"]["dtype"] = "int16"
    note.value = json.dumps(about)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    code, out, _ = run(capsys, tmp_path / "m.onnx", folder / "01.png")
    assert str(code).startswith("error: the model can't run on ") and "\n" not in str(code) and out == ""


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
    assert "\x1b" not in out + err and len(out.splitlines()) == len(err.splitlines()) == 1
    for form in ("json", "csv"):
        _, out, _ = run(capsys, folder / "model.onnx", tmp_path / name, "--output", form)
        assert not {"\x1b", "\udcff"} & set(out)
        assert form != "json" or json.loads(out)[0]["file"] == str(tmp_path / name)
    one = predict.Answer("a.png", np.array([0.75, 0.25], np.float32), None)
    table = predict.as_table([one], ["\x1b]0;t\x07\r\n::error::", "b"], 2)
    assert table == r"a.png   \u001b]0;t\u0007\r\n::error:: 75.00 %   b 25.00 %" + "\n"


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


def test_names_that_match_nothing_are_a_mistake(folder, capsys):
    code, _, _ = run(capsys, folder / "model.onnx", folder / "nothing*.png")
    assert "not found: expected a picture" in str(code)


def test_a_series_is_read_to_the_pixels_and_spacing_that_ingest_stores(tmp_path):
    raw = tmp_path / "raw"
    sample.main(raw, params.check(params.SampleParams, {"source": "phantoms", "patients": 3}))
    names = ("cases", "cases.csv", "ingest.json")
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
    model = onnx.load(folder / "model.onnx")
    (note,) = model.metadata_props
    about = json.loads(note.value)
    assert about["input"]["transparency"] == "reject"
    about["input"]["transparency"] = "white"
    note.value = json.dumps(about)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    clear = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(clear[..., :3] + 255).save(tmp_path / "white.png")
    told = [
        run(capsys, tmp_path / "m.onnx", tmp_path / name, "--output", "csv", "--top", 3)[1].replace(name, "")
        for name in ("clear.png", "white.png")
    ]
    assert told[0] == told[1] and "class0" in told[0]
    assert "transparent" in run(capsys, folder / "model.onnx", tmp_path / "clear.png")[2]
