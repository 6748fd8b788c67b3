"""Exported files

The files of a model folder against the network that they came from, on the CPU: size, latency and throughput; and the
ONNX file, in ONNX Runtime, against other runtimes of that network. All have the same number of threads and answer the
same samples, which is checked first. They take turns of a fraction of a second, at batches of 1 and of 64. Before each
turn is a pause: ONNX Runtime's and OpenMP's threads wait actively for a while, and would slow down the next one.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.lib.core.errors import UserError
from stages.lib.export.formats import FORMATS, Runner, file_format
from stages.lib.model import checkpoint, left_out
from stages.lib.model.deployed import Deployed, Settings
from tools.bench import export_peers
from tools.bench.export_peers import PEERS, Given
from tools.bench.groups import Missing, Options
from tools.bench.results import Measured
from tools.bench.timing import WARM_CALLS, Comparison, Work, for_a_turn, in_turn

NAME = "export"
BATCHES = (1, 64)
TURN_SECONDS = 0.2
PAUSE_SECONDS = 0.1
TOLERANCE = 0.2  # of outputs: smaller variants are other models, near the original
RUNTIME_TOLERANCE = 1e-4  # of other runtimes of the same network
ONNX = "model.onnx"
NETWORK = "the network in torch"
WHY = {
    ".onnx": "ONNX Runtime starts threads of its own, and a variant converts between precisions around its operators.",
    ".pt2": "Python runs the exported graph operator by operator, after a check of its input.",
    ".torchscript": "TorchScript specialises its code by the shapes of former batches.",
}
"""Why the network may take less than a file of a format."""


def run(options: Options) -> Measured:
    if not (options.models / "model.pt").exists():
        raise Missing(f"{options.models} has no model.pt: make repro, or name another folder by --models")
    if options.threads:
        torch.set_num_threads(options.threads)
    return Measured(compare(options.models, options.rounds))


def compare(models: Path, rounds: int) -> list[Comparison]:
    """A row per file: bytes, then the seconds of a batch at each size.

    Raises:
        UserError: There is no exported file.
    """
    classifier, recipe = checkpoint.load(models / "model.pt")
    exported = (path for path in (*models.iterdir(), *models.glob("variants/*")) if path.suffix in FORMATS)
    files = sorted(path for path in exported if not left_out.why(path.read_bytes()))
    if not files:
        raise UserError(f"{models} has no exported file: run the export stage first")
    metadata = file_format(files[0].suffix).read_metadata(files[0])
    network = Deployed(classifier, Settings(**metadata["deployed"])).eval()
    loaded = {path.name: file_format(path.suffix).load(path) for path in files}
    shape, dtype = recipe.description["shape"], recipe.description["dtype"]
    rows = [size(models, path) for path in files]
    for batch in BATCHES:
        x = np.random.default_rng(0).integers(0, 100, (batch, *shape)).astype(dtype)
        with tempfile.TemporaryDirectory() as folder:
            given = Given(network, models / ONNX, x, Path(folder))
            runners: dict[str, Runner] = {NETWORK: export_peers.eager(given), **loaded}
            theirs = {peer.name: export_peers.made(peer, given) for peer in PEERS if ONNX in loaded}
            rows += at(batch, models.name, runners, x, rounds, theirs)
    return rows


def size(models: Path, path: Path) -> Comparison:
    """The bytes of a file against model.pt's."""
    ours, theirs = (float(one.stat().st_size) for one in (path, models / "model.pt"))
    why = "A file holds the program beside the weights."
    return Comparison(NAME, f"{models.name}, size of {path.name}", [ours], "model.pt", [theirs], "bytes", why=why)


def at(
    batch: int,
    dataset: str,
    runners: dict[str, Runner],
    x: np.ndarray,
    rounds: int,
    others: Mapping[str, export_peers.Run | str],
) -> list[Comparison]:
    """A row per file at one size of batch, and one per other runtime.

    Args:
        others: Runtimes by the names of PEERS; a text says why there is none.

    Raises:
        UserError: A file or a runtime gives other outputs than the network.
    """
    check(runners, x, TOLERANCE)
    peers = {name: of for name, of in others.items() if not isinstance(of, str)}
    check({NETWORK: runners[NETWORK]} | peers, x, RUNTIME_TOLERANCE)
    runners = runners | peers
    calls = {name: partial(runner, x) for name, runner in runners.items()}
    works = [for_a_turn(Work(name, call, prepare=partial(warm, call)), TURN_SECONDS) for name, call in calls.items()]
    taken = {name: of["s"] for name, of in in_turn(works, rounds, {"s": time.perf_counter}).items()}
    theirs = taken.pop(NETWORK)
    row = partial(Comparison, NAME, peer=NETWORK, theirs=theirs, amount=batch, things="samples")
    return [
        row(work=f"{dataset}, {name}, batch of {batch}", ours=ours, why=WHY[Path(name).suffix])
        for name, ours in taken.items()
        if name not in others
    ] + runtime_rows(taken, batch, dataset, others)


def runtime_rows(
    taken: Mapping[str, list[float]], batch: int, dataset: str, others: Mapping[str, export_peers.Run | str]
) -> list[Comparison]:
    """The ONNX file against each other runtime, those that there are not too."""
    work = f"{dataset}, {ONNX} in ONNX Runtime, batch of {batch}"
    rows = []
    for peer in PEERS:
        if (other := others.get(peer.name)) is not None:
            absent = other if isinstance(other, str) else ""
            row = partial(Comparison, NAME, work, taken[ONNX], peer.name, taken.get(peer.name, []))
            rows.append(row(amount=batch, things="samples", why=peer.why, absent=absent))
    return rows


def check(runners: Mapping[str, Callable[..., Any]], x: np.ndarray, tolerance: float) -> None:
    expected = runners[NETWORK](x)[0]
    for name, runner in runners.items():
        if not np.allclose(runner(x)[0], expected, atol=tolerance):
            raise UserError(f"{name} gives another result than {NETWORK}")


def warm(call: Callable[[], object]) -> None:
    time.sleep(PAUSE_SECONDS)
    for _ in range(WARM_CALLS):
        call()
