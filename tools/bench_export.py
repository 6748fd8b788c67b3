"""Compares the exported files with the network they came from: size, latency and throughput on the CPU, as ratios.

    python -m tools.bench_export models/digits --threads 2

All have the same number of threads and are warmed up. They take turns of a fraction of a second, at batches of 1 and of
64, so that a busy machine slows all of them. Before each turn is a pause: ONNX Runtime's and OpenMP's threads wait
actively for a while, and would slow down the next one. The median counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.export.formats import FORMATS, Runner
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings, outputs

BATCHES = (1, 64)
ROUNDS = 5
TURN_SECONDS = 0.2
PAUSE_SECONDS = 0.1


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_export", description=__doc__.partition("\n")[0])
    parser.add_argument("models", type=Path, help="a folder that train and export wrote, such as models/digits")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(compare(arguments.models).to_string(index=False, float_format="%.4g"))


def compare(models: Path) -> pd.DataFrame:
    """One row per file and batch size: bytes, ms per batch, samples per second, and speed over the network's."""
    classifier, recipe = checkpoint.load(models / "model.pt")
    files = sorted(path for path in (*models.iterdir(), *models.glob("variants/*")) if path.suffix in FORMATS)
    if not files:
        raise UserError(f"{models} has no exported file: run the export stage first")
    metadata = FORMATS[files[0].suffix].read_metadata(files[0])
    runners: dict[str, Runner] = {"network": eager(Deployed(classifier, Settings(**metadata["deployed"])).eval())}
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
            time.sleep(PAUSE_SECONDS)
            for _ in range(3):  # TorchScript optimises in its second call
                call()
            taken[name] += _timed(call, TURN_SECONDS)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _timed(call: Callable[[], object], turn_seconds: float) -> list[float]:
    """The seconds of each call, of as many as fit into a turn, one at least."""
    taken: list[float] = []
    while not taken or sum(taken) < turn_seconds:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    main()
