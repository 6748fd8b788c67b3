import io
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from stages import dataset, export, ingest, sample, split, statistics, train, validate
from stages.lib import command, params
from stages.lib.cases import Cases
from stages.lib.core.errors import UserError
from stages.lib.export.formats import FORMATS, open_model
from tools import agree, predict
from tools.browse.pictures import Pictures

SECTIONS = {
    "ingest": {"identifiers": "open"},
    "split": {"validation": 0.2, "test": 0.25},
    "statistics": {},
    "dataset": {},
    "train": {"network": {"name": "fully_connected"}, "epochs": 2},
    "validate": {"resamples": 20},
    "export": {},
}


STAGES = (ingest, split, statistics, dataset, train, validate, export)


def run_chain(root, stages=STAGES, **changed):
    """Runs all stages on root/data/raw/small in this process; returns all their paths by name.

    Args:
        stages: What runs, each with a function `main`, and named as the stage.
        changed: Further keys of sections, by the name of the stage.
    """
    paths = {}
    sections = {name: section | changed.get(name, {}) for name, section in SECTIONS.items()}
    for stage in stages:
        name = stage.__name__.removeprefix("stages.")
        section = params.check(params.SECTIONS[name], sections[name])
        given = params.check(params.IngestParams, sections["ingest"])
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


def write_tiffs(raw, pixels, **options):
    """60 files of two classes, of which `pixels(rng, brighter)` are the content."""
    for i in range(60):
        rng = np.random.default_rng(i)
        folder = raw / ("high" if i % 2 else "low")
        folder.mkdir(parents=True, exist_ok=True)
        given = {name: of(rng) if callable(of) else of for name, of in options.items()}
        tifffile.imwrite(folder / f"{i}.tif", pixels(rng, i % 2), **given)


def write_bands(raw):
    """Five bands of 16 bits, of mixed sizes; the class is in the last one."""

    def pixels(rng, high):
        found = rng.integers(0, 20_000, (5, *rng.integers(9, 30, 2)))
        found[4] += 40_000 * high
        return found.astype(np.uint16)

    write_tiffs(raw, pixels, photometric="minisblack", planarconfig="separate")


def write_floats(raw):
    write_tiffs(raw, lambda rng, high: rng.normal(2.5 * high - 1, 0.7, rng.integers(9, 30, 2)).astype(np.float32))


def write_stacks(raw):
    """ImageJ's stacks of two channels and of mixed sizes and spacings."""

    def pixels(rng, high):
        found = rng.integers(0, 900, (rng.integers(4, 8), 2, *rng.integers(9, 14, 2)))
        found[:, 1] += 2_000 * high
        return found.astype(np.uint16)

    def metadata(rng):
        return {"axes": "ZCYX", "spacing": rng.uniform(1, 2), "unit": "um"}

    write_tiffs(raw, pixels, imagej=True, metadata=metadata, resolution=lambda rng: tuple(rng.uniform(1, 2, 2)))


def write_plain_stacks(raw):
    """Pages of floating point numbers, of which nothing is said."""

    def pixels(rng, high):
        return rng.normal(2.5 * high - 1, 0.7, (rng.integers(4, 8), 10, 11)).astype(np.float64)

    write_tiffs(raw, pixels, photometric="minisblack", metadata=None)


STACK = {"ingest": {"frames": "stack"}}
AUGMENTED = {"train": {"augment": {"flip": "HW", "rotate": 20.0, "scale": 0.1, "noise": 0.1}}}
MICROSCOPY = {  # how it is written, further keys, dtype and channels, and whether the spacing is known
    "five bands of 16 bits": (write_bands, AUGMENTED, "uint16", 5, False),
    "float32": (write_floats, AUGMENTED, "float32", 1, False),
    "stacks": (write_stacks, STACK | AUGMENTED, "uint16", 2, True),
    "stacks without a spacing": (write_plain_stacks, STACK, "float32", 1, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("data", MICROSCOPY)
def test_many_channels_floats_and_stacks_go_from_raw_tiffs_to_every_exported_file(tmp_path, monkeypatch, capsys, data):
    write, changed, dtype, channels, spaced = MICROSCOPY[data]
    raw = tmp_path / "data/raw/small"
    write(raw)
    paths = run_chain(tmp_path, **changed)
    models = paths["model_onnx"].parent
    monkeypatch.setattr(shutil, "which", lambda name: None)
    table = agree.compare(raw, paths["dataset_h5"], paths["predictions_csv"], models)
    assert len(table) == 3 and (table["cases"] >= 5).all()
    assert (table["largest difference"] < 1e-5).all()

    contract = open_model(models / "model.onnx", trust=True)[1]["input"]
    assert (contract["dtype"], contract["channels"], len(contract["inputs"])) == (dtype, [channels], 1 + spaced)
    for suffix in FORMATS:
        with pytest.raises(SystemExit) as left:
            predict.main([str(models / f"model{suffix}"), str(raw / "high" / "1.tif"), "--trust"])
        assert not left.value.code and " %" in capsys.readouterr().out
    with Cases(paths["cases"]) as cases:
        shown = Pictures(cases, paths["statistics_json"])
        for case in cases.ids[:3]:
            with Image.open(io.BytesIO(shown.small(case))) as small:
                assert len(set(small.convert("L").tobytes())) > 10
            assert len(shown.slice(case, 0)) == np.prod(cases[case].shape[-2:]) * channels * np.dtype(dtype).itemsize
        assert len(shown.alike()) == len(cases)


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
