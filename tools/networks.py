"""docs/models.md: every network of torchvision's zoo, and of this project's own, as every file that export writes.

    python -m tools.networks              # all that docs/models.json lacks, then the page; hours on two cores
    python -m tools.networks vit_b_16     # these again
    python -m tools.networks --all        # all again

Each network is made with random weights, for the smallest shape of a few that it takes, and goes the way of the stage
export: behind its geometry, with softmax, into each format, which is loaded in its own runtime and asked about batches
of several sizes. A process takes a few networks and goes, and its memory with it.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.export import convert
from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from stages.lib.core.markdown import escape
from stages.lib.core.progress import say
from stages.lib.export import parity
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats import FORMATS, file_format
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import networks
from stages.lib.model.classifier import Classifier, Normalise
from stages.lib.model.deployed import Deployed, Settings
from stages.lib.params.export import ExportParams

PAGE, RESULTS = Path("docs/models.md"), Path("docs/models.json")
OTHERS = ("torchvision", "hub")  # of this project's networks, those that are others'
IMAGES = [(n, n) for n in (16, 32, 48, 64, 80, 96, 128, 160, 224)]
VOLUMES = [(4, 16, 16), (4, 32, 32), (8, 32, 32), (16, 64, 64), (16, 112, 112), (16, 224, 224)]
CLASSES = ["a", "b", "c"]
FEW = 12  # networks that a process takes
SAMPLES, BATCH = 3, 2  # so that a file is asked about batches of two and of one
PACKAGES = ("torch", "torchvision", "onnxruntime")
YES = "yes"


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.networks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", help="their names in the table; none for those that it lacks")
    parser.add_argument("--all", action="store_true", help="measure all again")
    parser.add_argument("--jobs", type=int, default=1, help="networks at once, in processes of their own")
    given = parser.parse_args(argv)
    rows = _read()
    every = known()
    if unknown := [name for name in given.networks if name not in every]:
        raise UserError(f"no network is called {', '.join(unknown)}: docs/models.md has the names")
    wanted = given.networks or [name for name in every if given.all or name not in rows]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, context, max_tasks_per_child=FEW) as pool:
        waiting = {pool.submit(measure, name): name for name in wanted}
        for done in as_completed(waiting):
            name = waiting[done]
            try:
                rows = _read() | {name: done.result()}  # another run may have written, too
            except BrokenProcessPool:
                raise UserError("a process was killed: is the memory too small? Go on with --jobs 1") from None
            in_order = {name: rows[name] for name in every if name in rows}
            outs.write_json(RESULTS, in_order)  # after each: the run takes hours
            outs.write_bytes(PAGE, page(in_order, _made_with()).encode())
            say(f"{name}: " + ", ".join(f"{suffix[1:]} {rows[name]['formats'][suffix[1:]]}" for suffix in FORMATS))


def _read() -> dict[str, dict[str, Any]]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def known() -> list[str]:
    """The names of all networks: this project's own, for images and volumes, then torchvision's."""
    from torchvision import models

    own = [f"{name}, {kind}" for name in networks.NETWORKS if name not in OTHERS for kind in ("images", "volumes")]
    return [*own, *models.list_models(models), *models.list_models(models.video)]


def measure(name: str) -> dict[str, Any]:
    """A row of the table: shape, parameters, and of each format "yes" or why it can't be had."""
    began = time.monotonic()
    warnings.simplefilter("ignore")  # others' deprecations
    torch.set_num_threads(1)
    network, size = smallest(name)
    shape = (1, *size)
    normalise = Normalise([0], [255], [127.5], [1 / 64], len(size))
    deployed = Deployed(Classifier(normalise, network), Settings()).eval()
    module = Native(Geometry("keep", None, None, size, 0.0, "uint8"), deployed).eval()
    facts = {"classes": CLASSES, "input": {"inputs": ["input"], "channels": [1], "dtype": "uint8", "size": "fitted"}}
    program = Program(module, shape, "uint8", facts, ExportParams().opset)
    with tempfile.TemporaryDirectory() as folder:
        paths = {suffix: Path(folder) / f"model{suffix}" for suffix in FORMATS}
        said = convert(program, paths, ExportParams())
        for suffix in paths.keys() - said.keys():
            try:
                check(paths[suffix], module, shape)
            except UserError as error:
                said[suffix] = str(error).replace(str(paths[suffix]), paths[suffix].name)
    return {
        "shape": list(shape),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "formats": {suffix[1:]: said.get(suffix, YES) for suffix in FORMATS},
        "seconds": round(time.monotonic() - began),
    }


def smallest(name: str, images: Sequence[tuple[int, ...]] = IMAGES) -> tuple[nn.Module, tuple[int, ...]]:
    """A network, and the smallest size that it can be trained on: of `images`, or of VOLUMES."""
    own, _, kind = name.partition(", ")
    torch.manual_seed(0)
    reason = "it takes none of the sizes"
    sizes = VOLUMES if kind == "volumes" or name in _video() else images
    for size in sizes:
        arguments = {} if kind else {"model": name}
        network = networks.build(own if kind else "torchvision", 1, len(CLASSES), size, arguments)
        try:
            with torch.no_grad():
                network.train()(torch.randn(2, 1, *size))
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            reason = str(error)
            continue
        return network.eval(), size
    raise UserError(f"{name} takes no sample of {sizes[-1]}: {reason}")


def _video() -> list[str]:
    from torchvision import models

    return models.list_models(models.video)


def check(path: Path, module: Native, shape: tuple[int, ...]) -> None:
    """Raises UserError where a file says something else than the module, for samples of the shape and larger ones."""
    rng = np.random.default_rng(0)
    runner = file_format(path.suffix).load(path, any_operator=True)
    tolerance = ExportParams().tolerance
    for more in (0, 1):
        x = rng.integers(0, 256, (SAMPLES, shape[0], *(n + more for n in shape[1:]))).astype(np.uint8)
        with torch.inference_mode():
            expected = [
                np.concatenate([module(torch.from_numpy(x[i : i + 1])).double().numpy() for i in range(SAMPLES)])
            ]
        parity.check(runner, x, expected, BATCH, tolerance, path.name)


def page(rows: Mapping[str, Mapping[str, Any]], made_with: str) -> str:
    """The page's text.

    Args:
        made_with: Versions and machine.
    """
    reasons: dict[str, int] = {}

    def cell(said: str) -> str:
        return said if said == YES else f"no ({reasons.setdefault(said, len(reasons) + 1)})"

    lines = [
        f"| {escape(name)} | {' x '.join(map(str, row['shape']))} | {row['parameters']:,} | "
        + " | ".join(cell(row["formats"][suffix[1:]]) for suffix in FORMATS)
        + " |"
        for name, row in rows.items()
    ]
    counts = [sum(row["formats"][suffix[1:]] == YES for row in rows.values()) for suffix in FORMATS]
    table = "\n".join(
        ["| network | shape | parameters | TorchScript | ONNX | .pt2 |", "|---|---|---|---|---|---|", *lines]
    )
    waiting = [escape(name) for name in known() if name not in rows]
    left = (
        f"\nNot measured yet, which `python -m tools.networks` goes on with: {'; '.join(waiting)}.\n" if waiting else ""
    )
    notes = "\n".join(f"{number}. {escape(reason)}" for reason, number in reasons.items())
    return f"""# Networks and the files that they leave in

`python -m tools.networks` writes this page: each network, of this project and of torchvision's zoo, with random weights
and its own default arguments, goes the way of the stage export into each format. Each file is loaded in its own runtime
and answers batches of two and of one, of the shape and one pixel larger on each side, within `export.tolerance` (1e-5)
of the network, or is none.
Made with {made_with}.

The shape is C x H x W or C x D x H x W: the smallest of a few that the network can be trained on. By themselves ViT and
MaxViT take 224 x 224 alone, and MViT 16 x 224 x 224: the option `resize: 224` brings H and W there. TorchScript is
traced; what can't be is scripted.

Of {len(rows)} networks, {counts[0]} leave in TorchScript, {counts[1]} in ONNX and {counts[2]} in .pt2.
A format that a network can't have is left out of its export, with the reason below; `export.formats` names those that
must be there.

{table}
{left}{chr(10) + "Why not:" + chr(10) + chr(10) + notes + chr(10) if notes else ""}"""


def _made_with() -> str:
    versions = [*(f"{name} {version(name)}" for name in PACKAGES), f"ONNX opset {ExportParams().opset}"]
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{', '.join(versions)}, on {cpus} cores of an {cpu}, {sys.platform}"


if __name__ == "__main__":
    main()
