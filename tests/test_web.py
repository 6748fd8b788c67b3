import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.lib import checkpoint, tensors
from stages.lib.deployed import Deployed, Settings
from stages.lib.exported import onnx
from stages.lib.exported.program import Program
from stages.lib.geometry import Geometry
from tests.conftest import write_dataset_h5, write_model_pt
from tools import agree

WEB = Path(__file__).parents[1] / "examples" / "web"
CHROMIUM = agree.chromium()
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and shutil.which("node")), reason="chromium and node are not installed"),
    pytest.mark.skipif(not (WEB / "node_modules").is_dir(), reason="run `npm ci --prefix examples/web` first"),
]
GEOMETRY = {
    "colour": "grey_luminance",
    "resize": 10,
    "spacing_mm": None,
    "shape": [8, 8],
    "fill": 7.0,
    "dtype": "uint8",
}


@pytest.fixture
def page():
    """The page's address, from a server of its own."""
    with agree.served(WEB) as address:
        yield address


def click(page, model, files):
    command = ["node", WEB / "click.mjs", CHROMIUM, page, model, *files]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["strange"] == []  # nothing comes from anywhere else
    return said["answers"]


def write_model(folder, shape, geometry):
    """model.onnx of an untrained network, and that network with its softmax."""
    write_dataset_h5(folder / "d.h5", shape)
    write_model_pt(folder / "m.pt", folder / "d.h5")
    model = Deployed(checkpoint.load(folder / "m.pt")[0], Settings()).eval()
    about = tensors.read_description(folder / "d.h5")
    contract = {"axes": about.axes, "shape": about.shape, "dtype": about.dtype, "units": about.units}
    facts = {"dataset": "stripes", "classes": ["cat", "a dog", "üçé"], "input": contract, "geometry": geometry}
    onnx.write(folder / "model.onnx", Program(model, shape, about.dtype, facts))
    return model, facts["classes"]


def test_dropped_and_chosen_pictures_get_the_networks_percentages_in_a_browser(tmp_path, page):
    model, classes = write_model(tmp_path, (1, 8, 8), GEOMETRY)
    rng = np.random.default_rng(0)
    sizes = {"grey.png": (10, 10), "wide.png": (25, 61, 3), "narrow.png": (30, 4), "colour.png": (9, 9, 3)}
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name)
    Image.fromarray(np.full((9, 9, 4), 100, np.uint8)).save(tmp_path / "clear.png")
    (tmp_path / "words.png").write_text("no picture")

    files = [tmp_path / name for name in ("clear.png", "grey.png", "wide.png", "narrow.png", "colour.png", "words.png")]
    answers = click(page, tmp_path / "model.onnx", files)
    assert "transparent" in answers[0]["message"] and answers[0]["tables"] == []
    assert answers[-1]["tables"] == []
    for answer in answers[1:-1]:
        with Image.open(answer["file"]) as picture:
            pixels = np.array(picture)
        x = torch.from_numpy(pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None])
        with torch.no_grad():
            wanted = model(Geometry(**GEOMETRY)(x))[0].numpy()
        (table,) = answer["tables"]
        assert [row["class"] for row in table] == [classes[k] for k in (-wanted).argsort()]
        for row in table:
            assert row["probability"] == pytest.approx(wanted[classes.index(row["class"])], abs=1e-4)
            assert row["percent"] == f"{100 * row['probability']:.2f} %"


def test_volumes_are_dropped_as_raw_numbers_and_pictures_are_refused(tmp_path, page):
    model, classes = write_model(tmp_path, (1, 6, 8, 8), {})
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x)
    x.tofile(tmp_path / "x.raw")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "slice.png")
    raw, picture = click(page, tmp_path / "model.onnx", [tmp_path / "x.raw", tmp_path / "slice.png"])
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    assert len(raw["tables"]) == len(x)
    for table, row in zip(raw["tables"], wanted, strict=True):
        assert {line["class"]: line["probability"] for line in table} == pytest.approx(
            dict(zip(classes, map(float, row), strict=True)), abs=1e-5
        )
    assert "takes int16 volumes in HU" in picture["message"] and picture["tables"] == []
