import json
import shutil
import subprocess
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stages.lib import tensors
from stages.lib.export import metadata
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats import onnx
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings
from stages.lib.model.deployed import deployed as deployed_as
from tests import HANG_SECONDS, ROOT
from tests.conftest import write_dataset_h5, write_model_pt
from tools import agree
from tools.raw_cases import read_cases

WEB = ROOT / "examples" / "web"
CHROMIUM = agree.chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and shutil.which("node")), reason="chromium and node are not installed"),
    pytest.mark.skipif(not (WEB / "node_modules").is_dir(), reason="run `npm ci --prefix examples/web` first"),
]
GEOMETRY = {"colour": "grey_luminance", "resize": 10, "fill": 7.0}
LARGE = b"int16 1 9 4 5 1.0 0.5 0.5\n" + np.full((9, 4, 5), 7, np.int16).tobytes()


@pytest.fixture
def page():
    """The page's address, from a server of its own."""
    with agree.served(WEB) as address:
        yield address


def click(page, model, files):
    command = ["node", WEB / "click.mjs", CHROMIUM, page, model, *files]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["strange"] == []  # nothing comes from anywhere else
    early, first = ({k: of[k] for k in ("tables", "shown")} for of in (said["early"], said["answers"][0]))
    assert early == first, "a picture that was chosen before the model gets its answer when the model is there"
    return said["answers"]


def write_model(folder, shape, given):
    """model.onnx of an untrained network behind a geometry with what is given, and the same in torch."""
    write_dataset_h5(folder / "d.h5", shape)
    write_model_pt(folder / "m.pt", folder / "d.h5")
    about = asdict(tensors.read_description(folder / "d.h5"))
    about["geometry"] |= given
    deployed = Deployed(checkpoint.load(folder / "m.pt")[0], Settings()).eval()
    model = Native(Geometry(**about["geometry"]), deployed).eval()
    facts = {
        "dataset": "stripes",
        "classes": ["<img src=x onerror=alert()>", "</script><script>alert()</script>", "üçé"],
        "input": metadata.contract(about, "fitted"),
    }
    onnx.write(folder / "model.onnx", Program(model, shape, about["dtype"], facts))
    return model, facts["classes"]


def test_dropped_and_chosen_pictures_get_the_networks_percentages_in_a_browser(tmp_path, page):
    model, classes = write_model(tmp_path, (1, 8, 8), GEOMETRY)
    rng = np.random.default_rng(0)
    sizes = {"grey.png": (10, 10), "wide.png": (25, 61, 3), "narrow.png": (30, 4), "colour.png": (9, 9, 3)}
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).quantize(8).save(tmp_path / "palette.png")
    told = PngInfo()
    told.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="6"/>')
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "xmp.png", pnginfo=told)
    Image.fromarray(np.full((9, 9, 4), 100, np.uint8)).save(tmp_path / "clear.png")
    (tmp_path / "words.png").write_text("no picture")

    names = ("clear.png", "xmp.png", *sizes, "turned.png", "palette.png", "words.png")
    answers = click(page, tmp_path / "model.onnx", [tmp_path / name for name in names])
    assert "transparent" in answers[0]["message"] and answers[0]["tables"] == []
    assert "XMP" in answers[1]["message"] and answers[1]["tables"] == []
    assert answers[-1]["tables"] == []
    for answer in answers[2:-1]:
        turned = "turned" in answer["file"]
        with Image.open(answer["file"]) as picture:
            height, width = picture.size[:: 1 if turned else -1]
        assert answer["shown"] == [height, width]
        (case,) = read_cases([answer["file"]], "images", 1)  # as tools.predict does, and examples/cpp through it
        x = torch.from_numpy(np.array(case.pixels)[None])
        with torch.no_grad():
            wanted = model(x)[0].numpy()
        (table,) = answer["tables"]
        assert [row["name"] for row in table] == [classes[k] for k in (-wanted).argsort()]
        for row in table:
            assert row["value"] == pytest.approx(wanted[classes.index(row["name"])], abs=1e-4)
            assert row["text"] == f"{100 * row['value']:.2f} %"


def test_volumes_are_dropped_as_raw_numbers_and_pictures_are_refused(tmp_path, page):
    model, classes = write_model(tmp_path, (1, 6, 8, 8), {})
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x)
    header = b"int16 1 6 8 8 2.0 1.0 1.0\n"
    (tmp_path / "x.raw").write_bytes(b"".join(header + sample.tobytes() for sample in x) + LARGE)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "slice.png")
    raw, picture = click(page, tmp_path / "model.onnx", [tmp_path / "x.raw", tmp_path / "slice.png"])
    with torch.no_grad():
        spacing = torch.tensor([2.0, 1.0, 1.0])
        wanted = [*model(torch.from_numpy(x), spacing), model(torch.full((1, 1, 9, 4, 5), 7), spacing / 2)[0]]
    assert len(raw["tables"]) == len(x) + 1
    for table, row in zip(raw["tables"], wanted, strict=True):
        assert {line["name"]: line["value"] for line in table} == pytest.approx(
            dict(zip(classes, map(float, row), strict=True)), abs=1e-5
        )
    assert "takes int16 volumes in HU" in picture["message"] and picture["tables"] == []


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_a_number_has_its_unit_and_no_percent_and_labels_a_percentage_each(tmp_path, page, kind):
    write_dataset_h5(tmp_path / "d.h5", kind=kind)
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5", trained=True)
    about = tensors.read_description(tmp_path / "d.h5")
    settings = Settings(half_width=1.5 if kind == "regression" else 0.0)
    model = deployed_as(checkpoint.load(tmp_path / "m.pt")[0], about.asked, settings).eval()
    plain = about.plain()
    facts = {"dataset": "d", "classes": about.classes, "input": metadata.contract(plain, "fitted")}
    native = Native(Geometry(**about.geometry), model).eval()
    onnx.write(tmp_path / "model.onnx", Program(native, (1, 8, 8), "uint8", facts | metadata.answer(plain)))
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x[:2])
    files = [tmp_path / f"{i}.png" for i in range(len(x))]
    for file, one in zip(files, x, strict=True):
        Image.fromarray(one[0]).save(file)
    wanted = model(torch.from_numpy(x)).detach().numpy()
    for answer, row in zip(click(page, tmp_path / "model.onnx", files), wanted, strict=True):
        (table,) = answer["tables"]
        if kind == "regression":
            assert [line["name"] for line in table] == ["diameter [mm]", "diameter low [mm]", "diameter high [mm]"]
            assert [float(line["text"]) for line in table] == pytest.approx(row, rel=1e-4)
        else:
            assert [line["name"] for line in table] == [f"class{k}" for k in (-row).argsort()]
            assert all(line["text"] == f"{100 * line['value']:.2f} %" for line in table)
        assert sorted(line["value"] for line in table) == pytest.approx(sorted(row), rel=1e-4, abs=1e-5)
