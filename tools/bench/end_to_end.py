"""From a folder of pictures to a checked ONNX file

A folder with train, val and test, each with a folder of pictures per class, becomes an ONNX file whose answers about
every test picture are compared with the network's. Ours is `dvc repro` in a copy of the project, all stages from ingest
to export; the others are scripts of their own as their documentation has them, from the start of Python on, one at a
time. All train torchvision's ResNet-18 from new weights: the same pictures, epochs, batch size and threads, AdamW with
the same peak of one rise and fall of the learning rate, pictures mirrored from left to right, float32, validation after
each epoch. Ultralytics' network has its own last layers; its pictures and schedule are prepared its own way.

The error is on the test pictures, which no side has seen. The last rows are what one changed parameter costs: `dvc
repro` runs the stages that depend on it, where a script runs as a whole; they are against the quickest of the scripts
in the same round. A round is a seed, three at most.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.core.sources import ROOT
from tools import tiny_project
from tools.bench import synthetic
from tools.bench.groups import Options
from tools.bench.results import Measured
from tools.bench.timing import Comparison

NAME = "end_to_end"
WORK, ERROR = "pictures to a checked ONNX file", "error on the test pictures"
DATASET = "bench"
SCRIPT = "tools.bench.end_to_end_peers"
SEEDS = 3  # at most
PARTS = {"train": 100, "val": 20, "test": 100}  # pictures per class
CLASSES = 10  # at most
SIDE = 32  # of pictures that are made on the spot
TASK: dict[str, Any] = {"epochs": 5, "batch_size": 64, "lr": 2e-3, "weight_decay": 1e-2}
TOLERANCE = 1e-4  # between an ONNX file's probabilities and its network's; beyond it a side fails
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "nothing": {},
    "resamples of validate": {"validate": {"resamples": 999}},
    "lr of train": {"train": {"lr": 1e-3}},
}
"""What is changed before a rerun, by what the table calls it."""


class Peer(NamedTuple):
    """A library whose script `end_to_end_peers` has."""

    name: str
    package: str
    how: str = ""  # to install it, where `make bench` does not


OURS_DOES_MORE = (
    "Ours also writes TorchScript and .pt2 files, scores with intervals, figures and a card, each stage in a Python of "
    "its own, so that a stage can be left out the next time."
)
ACCURACY_WHY = "The differences of a few epochs on few pictures are those of seeds, and of each library's defaults."
PEERS = {
    "plain": Peer("plain torch script", "torchvision"),
    "lightning": Peer("Lightning", "lightning"),
    "timm": Peer("timm", "timm"),
    "monai": Peer("MONAI", "monai"),
    "fastai": Peer("fastai", "fastai"),
    "ultralytics": Peer(
        "Ultralytics classify",
        "ultralytics",
        "its licence is the AGPL, so it is no dependency: `pip install ultralytics` in .venv-bench adds it",
    ),
}
ABSENT = {
    "AutoGluon": "not installable: every release of autogluon.multimodal refuses the torchvision that is pinned here"
}
"""Peers without a script, and why."""


class Run(NamedTuple):
    """One side's way to its ONNX file."""

    seconds: float
    accuracy: float  # on the test pictures


class Round(NamedTuple):
    """All sides with one seed."""

    ours: Run
    reruns: dict[str, float]  # seconds, by CHANGES
    theirs: dict[str, Run | str]  # by PEERS; a text says why there is none


def run(options: Options) -> Measured:
    seeds = range(min(options.rounds, SEEDS))
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch, "pictures")
        classes = lay_out(options.pictures, pictures)
        rounds = [race(pictures, Path(scratch, str(seed)), seed, options.threads) for seed in seeds]
    numbers = ", ".join(f"{classes * of} {part}" for part, of in PARTS.items())
    source = "of --pictures" if options.pictures else "made on the spot"
    remark = f"{classes} classes {source}: {numbers}; {TASK['epochs']} epochs, batches of {TASK['batch_size']}, seeds "
    return Measured(rows(rounds), remarks=[remark + ", ".join(map(str, seeds)) + "."])


def lay_out(pictures: Path | None, folder: Path) -> int:
    """Writes the folders train, val and test, from a folder with one folder of pictures per class or made on the spot.

    Returns:
        The number of classes.

    Raises:
        UserError: A class has too few pictures, or they have several sizes.
    """
    if pictures is None:
        draw(folder)
        return CLASSES
    classes = sorted(path for path in pictures.iterdir() if path.is_dir())[:CLASSES]
    if len(classes) < 2:
        raise UserError(f"{pictures} has {len(classes)} folder(s): expected one folder of pictures per class")
    sizes = set()
    for given in classes:
        files = iter(sorted(path for path in given.iterdir() if path.is_file()))
        for part, number in PARTS.items():
            (folder / part / given.name).mkdir(parents=True)
            for _ in range(number):
                if (path := next(files, None)) is None:
                    raise UserError(f"{given} has too few pictures: expected {sum(PARTS.values())}")
                with Image.open(path) as picture:
                    sizes.add(picture.size)
                shutil.copy(path, folder / part / given.name)
    if len(sizes) > 1:
        raise UserError(f"the pictures in {pictures} have {len(sizes)} sizes: expected one")
    return len(classes)


def draw(folder: Path) -> None:
    """Pictures whose classes are tilts of stripes in noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for part, number in PARTS.items():
        for i in range(CLASSES):
            (folder / part / f"class{i}").mkdir(parents=True)
            for j in range(number):
                tilt = np.pi * (i + rng.uniform(-0.5, 0.5)) / (2 * CLASSES)  # mirrored, it is still its class
                stripes = 40 * np.sin(2 * np.pi * 4 * (x * np.cos(tilt) + y * np.sin(tilt)) + rng.uniform(0, 6))
                noisy = synthetic.waves(rng, SIDE) * 0.3 + stripes[..., None] + rng.normal(90, 30, (SIDE, SIDE, 3))
                picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
                picture.save(folder / part / f"class{i}" / f"{j:04d}.png")


def race(pictures: Path, folder: Path, seed: int, threads: int) -> Round:
    """Every side once, in folders of their own below `folder`."""
    folder.mkdir(parents=True)
    ours, reruns = run_ours(pictures, folder / "ours", seed, threads)
    theirs = {name: run_peer(name, pictures, folder / name, seed, threads) for name in PEERS}
    shutil.rmtree(folder)
    return Round(ours, reruns, theirs)


def block(seed: int, threads: int, change: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """The block of params.yaml for what all sides do."""
    train: dict[str, Any] = {
        "network": {"name": "torchvision", "arguments": {"model": "resnet18"}},
        "optimizer": {"name": "AdamW", "arguments": {"weight_decay": TASK["weight_decay"]}},
        "schedule": {"name": "OneCycleLR", "every": "batch"},
        "augment": {"flip": "W", "shift": [0]},
        "keep": "last",
        "device": "cpu",
        "deterministic": False,
        "seed": seed,
    } | {name: TASK[name] for name in ("epochs", "batch_size", "lr")}
    sections: dict[str, Any] = {
        "ingest": {"identifiers": "open"},
        "split": {},
        "statistics": {},
        "dataset": {},
        "train": train,
    }
    sections |= {"validate": {}, "export": {"tolerance": TOLERANCE}}
    for name in ("train", "validate", "export"):
        sections[name] = sections[name] | {"threads": threads} | (change or {}).get(name, {})
    return sections


def run_ours(pictures: Path, folder: Path, seed: int, threads: int) -> tuple[Run, dict[str, float]]:
    """`dvc repro` in a new copy of the project; then again after each of CHANGES."""
    tiny_project.copy_files(folder, {DATASET: block(seed, threads)})
    shutil.copytree(pictures, folder / "data/raw" / DATASET)
    tiny_project.commit(folder)
    seconds = repro(folder)
    validated = json.loads((folder / f"metrics/{DATASET}/validate.json").read_text())
    reruns = {}
    for name, change in CHANGES.items():
        tiny_project.write_params(folder, {DATASET: block(seed, threads, change)})
        reruns[name] = repro(folder)
    return Run(seconds, validated["test"]["accuracy"]), reruns


def repro(folder: Path) -> float:
    """Seconds of `dvc repro` of all that the ONNX file and its scores need."""
    say("  dvc repro", sys.stderr)
    began = time.perf_counter()
    tiny_project.run(folder, "dvc", "repro", f"validate@{DATASET}", f"export@{DATASET}")
    return time.perf_counter() - began


def run_peer(name: str, pictures: Path, folder: Path, seed: int, threads: int) -> Run | str:
    """A peer's script in a Python of its own; or why there is no result."""
    peer = PEERS[name]
    if not find_spec(peer.package):
        return "not installed" + (f": {peer.how}" if peer.how else "")
    say(f"  {peer.name}", sys.stderr)
    folder.mkdir(parents=True)
    task = TASK | {"seed": seed, "threads": threads, "tolerance": TOLERANCE}
    command = [sys.executable, "-m", SCRIPT, name, str(pictures), str(folder), json.dumps(task)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        return f"failed: {(done.stderr.strip() or 'no message').splitlines()[-1][:200]}"
    return Run(seconds, json.loads((folder / "result.json").read_text())["accuracy"])


def rows(rounds: Sequence[Round]) -> list[Comparison]:
    """Seconds and errors against every peer, those without a result too; then the reruns against the quickest."""
    found = []
    for name, peer in PEERS.items():
        results = [of.theirs[name] for of in rounds]
        absent = next((one for one in results if isinstance(one, str)), "")
        # Of what a peer did in some rounds alone, there is no fair median.
        runs = [] if absent else [one for one in results if isinstance(one, Run)]
        row, mine = partial(Comparison, NAME, peer=peer.name, absent=absent), [of.ours for of in rounds]
        found.append(row(WORK, _seconds(mine), theirs=_seconds(runs), why=OURS_DOES_MORE))
        found.append(row(ERROR, _errors(mine), theirs=_errors(runs), unit="%", why=ACCURACY_WHY))
    for name, why in ABSENT.items():
        found.append(Comparison(NAME, WORK, _seconds([of.ours for of in rounds]), name, [], absent=why))
    return found + rerun_rows(rounds)


def _seconds(runs: Sequence[Run]) -> list[float]:
    return [one.seconds for one in runs]


def _errors(runs: Sequence[Run]) -> list[float]:
    return [100 * (1 - one.accuracy) for one in runs]


def rerun_rows(rounds: Sequence[Round]) -> list[Comparison]:
    """A row per change, against the quickest script of those that have a result in every round; none without one."""
    whole: dict[str, list[float]] = {}
    for name, peer in PEERS.items():
        runs = [one for one in (of.theirs[name] for of in rounds) if isinstance(one, Run)]
        if len(runs) == len(rounds):
            whole[peer.name] = [one.seconds for one in runs]
    if not whole:
        return []
    quickest = min(whole, key=lambda name: median(whole[name]))
    return [
        Comparison(NAME, f"again after a change: {name}", [of.reruns[name] for of in rounds], f"{quickest}, all of it",
                   whole[quickest], why=OURS_DOES_MORE)
        for name in CHANGES
    ]  # fmt: skip
