import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from stages import dataset, export, ingest, sample, split, statistics, train, validate
from stages.lib import command, params
from stages.lib.core.errors import UserError
from tools import agree

SECTIONS = {
    "ingest": {"identifiers": "open"},
    "split": {"validation": 0.2, "test": 0.25},
    "statistics": {},
    "dataset": {},
    "train": {"network": {"name": "fully_connected"}, "epochs": 2},
    "validate": {"resamples": 20},
    "export": {},
}


def run_chain(root):
    """Runs all stages on root/data/raw/small in this process; returns all their paths by name."""
    paths = {}
    stages = (ingest, split, statistics, dataset, train, validate, export)
    for stage in stages:
        name = stage.__name__.removeprefix("stages.")
        section = params.check(params.SECTIONS[name], SECTIONS[name])
        given = params.check(params.IngestParams, SECTIONS["ingest"])
        others = {"params": section, "machine": params.MachineParams(workers=1), "ingest": given, "dataset": "small"}
        others["network"] = {"name": "fully_connected", "arguments": {}}
        arguments = command.arguments(stage.main, name, "small", others)
        for path in arguments.keys() - others.keys():
            paths[path] = arguments[path] = root / arguments[path]
        stage.main(**arguments)
    return paths


def write_pictures(raw):
    rng = np.random.default_rng(0)
    for i in range(60):
        folder = raw / ("bright" if i % 2 else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        size = rng.integers(9, 30, 2)
        pixels = rng.integers(0, 100, size) + (120 if i % 2 else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


def write_deep_colour(raw):
    """16-bit pictures in colour and of mixed sizes; the class is the stronger of red and blue."""
    rng = np.random.default_rng(0)
    for i in range(60):
        folder = raw / ("blue" if i % 2 else "red")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 20_000, (*rng.integers(9, 30, 2), 3))
        pixels[..., 2 if i % 2 else 0] += 40_000
        tifffile.imwrite(folder / f"{i}.tif", pixels.astype(np.uint16), photometric="rgb")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["pictures of mixed sizes", "16 bits in colour", "series"])
def test_raw_files_get_validations_probabilities_from_every_exported_file(tmp_path, monkeypatch, data):
    raw = tmp_path / "data/raw/small"
    if data == "series":
        sample.main(raw, params.check(params.SampleParams, {"source": "phantoms", "patients": 24}))
    elif data == "16 bits in colour":
        write_deep_colour(raw)
    else:
        write_pictures(raw)
    paths = run_chain(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # the C++ program and the web page have tests of their own
    given = raw, paths["dataset_h5"], paths["predictions_csv"], paths["model_onnx"].parent
    table = agree.compare(*given)
    assert len(table) == 3 and (table["cases"] >= 5).all()
    assert (table["largest difference"] < 1e-5).all()

    wrong = pd.read_csv(paths["predictions_csv"])
    wrong.iloc[-1, -1] += 0.5
    wrong.to_csv(paths["predictions_csv"], index=False)
    assert (agree.compare(*given)["largest difference"] > 0.4).all()
    for folder in sorted(path for path in raw.iterdir() if path.is_dir())[1:]:
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="was it changed after ingest"):
        agree.compare(*given)
