"""Compares the exported files with the network they came from: size, latency and throughput on the CPU, as ratios.

    python -m tools.bench_export models/digits --threads 2

All have the same number of threads and are warm. Each is asked for batches of 1 and of 64 for a moment in turn with the
others, so that a busy machine hits all alike, after a pause: ONNX Runtime's and OpenMP's threads go on looking for work
for a while, and would slow down whoever comes next. The median counts.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.lib.core.errors import UserError
from stages.lib.export.formats import FORMATS, Runner
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings, outputs

BATCHES = (1, 64)
ROUNDS = 5
MOMENT = 0.2  # seconds that each is asked for in a round
PAUSE = 0.1  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_export", description=__doc__.partition("\n")[0])
    parser.add_argument("models", type=Path, help="a folder that train and export wrote, such as models/digits")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        print(compare(arguments.models).to_string(index=False, float_format="%.4g"))
    except UserError as error:
        sys.exit(f"error: {error}")


def compare(models: Path) -> pd.DataFrame:
    """One row a file and batch size: bytes, milliseconds a batch, samples a second, and these over the network's."""
    classifier, recipe = checkpoint.load(models / "model.pt")
    files = sorted(path for path in (*models.iterdir(), *models.glob("variants/*")) if path.suffix in FORMATS)
    if not files:
        raise UserError(f"{models} has no exported file: run the export stage first")
    facts = FORMATS[files[0].suffix].read_metadata(files[0])
    runners: dict[str, Runner] = {"network": eager(Deployed(classifier, Settings(**facts["deployed"])).eval())}
    runners |= {path.name: FORMATS[path.suffix].load(path) for path in files}
    sizes = {path.name: path.stat().st_size for path in files} | {"network": (models / "model.pt").stat().st_size}
    shape, dtype = recipe.description["shape"], recipe.description["dtype"]
    rows = []
    for batch in BATCHES:
        x = np.random.default_rng(0).integers(0, 100, (batch, *shape)).astype(dtype)
        seconds = in_turn({name: partial(runner, x) for name, runner in runners.items()})
        for name, taken in seconds.items():
            ratio = seconds["network"] / taken
            rows.append((name, batch, sizes[name], 1000 * taken, batch / taken, f"{ratio:.2f}x"))
    return pd.DataFrame(rows, columns=["file", "batch", "bytes", "ms", "samples/s", "of network"])


def eager(model: torch.nn.Module) -> Runner:
    @torch.inference_mode()
    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(output.numpy() for output in outputs(model(torch.from_numpy(x))))

    return run


def in_turn(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each call, once it is warm."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            time.sleep(PAUSE)
            for _ in range(3):  # TorchScript optimises in its second call
                call()
            taken[name] += _timed(call, MOMENT)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _timed(call: Callable[[], object], moment: float) -> list[float]:
    """The seconds of each call of those that fit into a moment, one at least."""
    taken: list[float] = []
    while not taken or sum(taken) < moment:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    main()
