"""Compares every way to run a model with validation's predictions.csv, from raw file to percentages.

    python -m tools.agree digits

The raw files of the test split's first cases are given, as they were read, to each exported file in its own runtime,
and, where CMake, node and Chromium are installed, to the C++ program and to the web page in headless Chromium. Exits 1
when a probability differs by more than 1e-4, or a number by more than 1e-4 deviations of the numbers in training.
"""

import argparse
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.lib import command, tensors
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.reading import reading
from stages.lib.export import parity
from stages.lib.export.formats import FORMATS, open_model
from stages.lib.export.formats.runner import target
from stages.lib.geometry import Geometry
from stages.lib.model import left_out
from stages.lib.validate.predictions import COLUMNS
from tools import predict, raw_inputs
from tools.raw_cases import RawCase

CASES = 50
TOLERANCE = 1e-4
SIX_DIGITS = 1e-5  # the relative precision of numbers in tables, and as the examples print them
ROOT = Path(__file__).parents[1]
LINE = re.compile(r"^ *(\S+)( %)?  (.*)$", re.MULTILINE)  # of the C++ program
CPP, WEB = ROOT / "examples" / "cpp", ROOT / "examples" / "web"


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.agree", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", help="a block of params.yaml's `datasets` that has been exported")
    dataset = parser.parse_args().dataset
    paths: dict[str, Path] = {}
    for stage in ("ingest", "export", "validate"):
        deps, outs = command.stage_paths(stage, dataset)
        paths |= deps | outs
    with command.ways_back():
        table = compare(paths["raw"], paths["dataset_h5"], paths["predictions_csv"], paths["model_onnx"].parent)
    print(table.to_string(index=False))
    sys.exit(0 if (table["largest difference"] <= TOLERANCE).all() else 1)


def compare(raw: Path, dataset_h5: Path, predictions_csv: Path, models: Path) -> pd.DataFrame:
    """One row per way to run the model: its number of cases, and its largest difference from validation.

    A difference is as of `parity.off`, without what six digits of a number, as predictions.csv has them, can't tell.
    The files are the export stage's outs, so they are trusted.
    """
    asked = tensors.read_description(dataset_h5).asked
    paths = {suffix: models / f"model{suffix}" for suffix in FORMATS}
    there = {suffix: path for suffix, path in paths.items() if not (path.is_file() and left_out.why(path.read_bytes()))}
    first = next(iter(there.values()), models / "model.onnx")
    cases, wanted = test_cases(raw, dataset_h5, predictions_csv, open_model(first, trust=True)[1])
    ways: dict[str, Callable[[], np.ndarray]] = {
        f"tools.predict {path.name}": functools.partial(by_file, path, cases) for path in there.values()
    }
    if shutil.which("cmake") and ".torchscript" in there:
        ways["C++ program"] = functools.partial(by_program, models / "model.torchscript", cases)
    if ".onnx" in there and chromium() and shutil.which("node") and (WEB / "node_modules").is_dir():
        ways["web page"] = functools.partial(by_page, models / "model.onnx", cases)
    rows = [(name, len(cases), parity.off(way(), wanted, asked, SIX_DIGITS).beyond) for name, way in ways.items()]
    return pd.DataFrame(rows, columns=["way", "cases", "largest difference"])


def test_cases(raw: Path, dataset_h5: Path, predictions_csv: Path, metadata: dict) -> tuple[list[RawCase], np.ndarray]:
    """The first test cases as raw files, and what predictions.csv says of them, (N, K).

    Raises:
        UserError: A case is not found, or the model does not bring its input to the size that was validated.
    """
    if metadata["input"]["size"] != "fitted":
        raise UserError("these files run on the size they are given (export.size: any), validation on the dataset's")
    geometry = Geometry(**metadata["geometry"])
    split = tensors.read_split(dataset_h5, "test")
    with reading(predictions_csv):
        table = pd.read_csv(predictions_csv, dtype={"case": str})
        if tuple(table.columns[: len(COLUMNS)]) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)} and the model's answer")
        answer = slice(len(COLUMNS) - 1, len(COLUMNS) - 1 + len(target(metadata).outputs))
        predictions = table.set_index("case").iloc[:, answer].astype(float)
        if lacking := set(split.cases) - set(predictions.index):
            raise ValueError(f"it has no case {min(lacking)}")
    rows = {np.array(x).tobytes(): i for i, x in enumerate(split.x[:CASES])}
    found = {}
    for case in predict.taken(raw_inputs.find([str(raw)])[0], metadata):
        if case.pixels is None:
            continue
        spacing = None if case.spacing_mm is None else torch.tensor(case.spacing_mm, dtype=torch.float64)
        sample = geometry(torch.from_numpy(case.pixels)[None], spacing)[0].to(geometry.dtype).numpy()
        if (i := rows.get(sample.tobytes())) is not None:
            found[i] = case
    if len(found) < len(rows):
        raise UserError(f"{len(rows) - len(found)} test cases are not among {raw}: was it changed after ingest?")
    order = sorted(found)
    return [found[i] for i in order], predictions.loc[[split.cases[i] for i in order]].to_numpy(float)


def by_file(model: Path, cases: Sequence[RawCase]) -> np.ndarray:
    answers = [one for batch in predict.answered(open_model(model, trust=True)[0], cases) for one in batch]
    if trouble := next((one.trouble for one in answers if one.trouble), ""):
        raise UserError(f"{model}: {trouble}")
    return np.stack([one.values for one in answers if one.values is not None]).astype(float)


def by_program(model: Path, cases: Sequence[RawCase]) -> np.ndarray:
    """Builds examples/cpp and runs it on the raw numbers."""
    metadata = open_model(model, trust=True)[1]
    with tempfile.TemporaryDirectory() as folder:
        build, samples = Path(folder) / "build", Path(folder) / "samples.raw"
        for step in (["-S", CPP, "-B", build, f"-DTORCH={Path(torch.__file__).parent}"], ["--build", build]):
            subprocess.run(["cmake", *map(str, step)], check=True, stdout=subprocess.DEVNULL)
        samples.write_bytes(b"".join(predict.as_raw(case, metadata) for case in cases))
        call = [build / "classify", model, samples]
        printed = subprocess.run(call, check=True, capture_output=True, encoding="utf-8").stdout
    tables = [LINE.findall(text) for text in printed.split("sample ")[1:]]
    named = [{name: float(value) / (100 if percent else 1) for value, percent, name in table} for table in tables]
    return np.array([[row[name] for name in target(metadata).outputs_with_unit] for row in named])


def by_page(model: Path, cases: Sequence[RawCase]) -> np.ndarray:
    """Drops the cases on examples/web: 8-bit pictures as files, what a browser can't read as raw numbers."""
    metadata = open_model(model, trust=True)[1]
    with tempfile.TemporaryDirectory() as folder, served(WEB) as address:
        files = [case.name for case in cases]
        if metadata["input"]["dtype"] != "uint8":
            files = [f"{folder}/samples.raw"]
            Path(files[0]).write_bytes(b"".join(predict.as_raw(case, metadata) for case in cases))
        call: list[str | Path] = ["node", WEB / "click.mjs", str(chromium()), address, model, *files]
        printed = subprocess.run(call, check=True, capture_output=True, encoding="utf-8").stdout
    tables = [table for answer in json.loads(printed)["answers"] for table in answer["tables"]]
    named = [{line["name"]: line["value"] for line in table} for table in tables]
    return np.array([[row[name] for name in target(metadata).outputs_with_unit] for row in named])


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of one folder, for this machine alone."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


if __name__ == "__main__":
    main()
