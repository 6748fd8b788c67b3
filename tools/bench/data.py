"""Statistics and dataset

Against plain copying and reading, and against other resampling. Made on the spot: 50,000 colour pictures of 32x32 that
stay as they are, 1,600 of 512x512 that become 224x224, and ten volumes of 99x512x512 that become 96x160x160. Each side
works in as many processes as there are cores. Nobody's imports are timed, but on our side the start of the workers, and
the tables that are read and written beside the pixels. "Taking over" is the least that a run would cost which made anew
only what has changed: all cases are read and hashed, as ingest does with its store, and the former samples are copied.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xxhash

from stages import dataset as dataset_stage
from stages import statistics as statistics_stage
from stages.lib import tensors
from stages.lib.cases import write_cases
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.machine import MachineParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.workers import count
from tools.bench import synthetic
from tools.bench.data_peers import CT_MM, PEERS, WANTED_MM, resampling
from tools.bench.groups import Options
from tools.bench.processes import in_parts, quiet
from tools.bench.results import Measured
from tools.bench.timing import Comparison, Work, race

NAME = "data"
CHUNK = 1 << 20
LARGEST_DIFFERENCE = 3  # of means, in grey values or HU
COPY_WHY = "It copies bytes as they lie, and computes no moments."
READ_WHY = "It counts nothing."
TAKEN_WHY = "So much could be saved at most; dvc hashes and copies all of dataset.h5 in either case."


class Set(NamedTuple):
    """Cases of one shape, and what the dataset stage makes of them."""

    number: int
    shape: tuple[int, ...]  # (C, H, W) or (C, D, H, W)
    dtype: str
    spacing_mm: tuple[float, ...] | None
    params: dict[str, Any]


SETS = {
    "small": Set(50_000, (3, 32, 32), "uint8", None, {}),
    "large": Set(1_600, (3, 512, 512), "uint8", None, {"shape": (224, 224)}),
    "ct": Set(10, (1, 99, 512, 512), "int16", CT_MM, {"spacing_mm": WANTED_MM, "shape": (96, 160, 160)}),
}


def run(options: Options) -> Measured:
    rows: list[Comparison] = []
    for kind in SETS:
        with tempfile.TemporaryDirectory() as name:
            rows += compare(kind, Path(name), options.rounds)
    return Measured(rows)


def compare(kind: str, folder: Path, rounds: int) -> list[Comparison]:
    make(folder, SETS[kind])
    run_statistics(folder)
    ours = Work("dataset", partial(run_dataset, folder, kind))
    rows: list[Comparison] = []
    with ExitStack() as held:
        peers = [resampling(peer, folder, held) for peer in PEERS.get(kind, [])]
        if kind == "small":
            peers.append(Work("copying the bytes", partial(copy, folder), COPY_WHY))
        run_dataset(folder, kind)
        call = held.enter_context(in_parts(count(0)))
        peers.append(Work("taking over all", lambda: call(take_over, folder)[0], TAKEN_WHY))
        rows += race(NAME, f"dataset, {kind}", ours, peers, rounds, agree=agree)
    measure = Work("statistics", partial(run_statistics, folder))
    reading = Work("reading the bytes", partial(read, folder), READ_WHY)
    return rows + race(NAME, f"statistics, {kind}", measure, [reading], rounds)


def make(folder: Path, of: Set) -> None:
    """cases/ and split.csv, of 20 different samples at most."""
    rng = np.random.default_rng(0)
    few = [synthetic.blocks(rng, of.shape, of.dtype) for _ in range(min(of.number, 20))]
    names = [f"{i:016x}" for i in range(of.number)]
    pixels = {name: few[i % len(few)] for i, name in enumerate(names)}
    axes = "CHW" if len(of.shape) == 3 else "CDHW"
    spacings = [of.spacing_mm] * of.number if of.spacing_mm else None
    write_cases(folder / "cases", pixels, axes, "HU" if of.spacing_mm else "", spacings)
    table = pd.DataFrame({"case": names, "group": names, "label": ["ab"[i % 2] for i in range(of.number)]})
    turns = ["train"] * 7 + ["validation"] + ["test"] * 2
    table["split"] = [turns[i % 10] for i in range(of.number)]
    table.to_csv(folder / "split.csv", index=False)


def run_statistics(folder: Path) -> None:
    cases, split_csv, statistics_json = (folder / name for name in ("cases", "split.csv", "statistics.json"))
    with quiet():
        statistics_stage.main(cases, split_csv, statistics_json, StatisticsParams(), MachineParams())


def run_dataset(folder: Path, kind: str) -> Path:
    """Runs dataset; dataset.h5."""
    cases, split_csv, statistics_json, dataset_h5 = (
        folder / name for name in ("cases", "split.csv", "statistics.json", "dataset.h5")
    )
    params = DatasetParams(**SETS[kind].params)
    with quiet():
        dataset_stage.main(cases, split_csv, statistics_json, dataset_h5, params, MachineParams())
    return dataset_h5


def agree(ours: Path, theirs: np.ndarray | None) -> bool:
    """Whether the middles of two samples (C, ...) are the same on average; copying gives none to compare.

    Args:
        ours: dataset.h5, of which the first training sample is meant.
    """
    if theirs is None:
        return True
    sample = tensors.read_split(ours, "train").x[0]
    return abs(middle_mean(sample, sample.shape) - middle_mean(theirs, sample.shape)) < LARGEST_DIFFERENCE


def middle_mean(sample: np.ndarray, shape: tuple[int, ...]) -> float:
    """The mean of the middle half along each axis of a shape, which lies in the middle of the sample.

    So crops and padding do not count.
    """
    sides = zip(sample.shape[1:], shape[1:], strict=True)
    middle = tuple(slice((of - n) // 2 + n // 4, (of - n) // 2 + 3 * n // 4) for of, n in sides)
    return float(np.mean(sample[(slice(None), *middle)]))


def copy(folder: Path) -> None:
    """All cases to another file, and onto the disk, as a stage's outs are."""
    (piece,) = (folder / "cases").iterdir()
    with open(piece, "rb") as source, open(folder / "copy", "wb") as target:
        shutil.copyfileobj(source, target, CHUNK)
        target.flush()
        os.fsync(target.fileno())


def take_over(folder: Path, part: int, parts: int) -> None:
    """A part of the cases is hashed; the same part of dataset.h5 is copied, and goes onto the disk."""
    (piece,) = (folder / "cases").iterdir()
    hashed = xxhash.xxh3_128()
    for block in _blocks(piece, part, parts):
        hashed.update(block)
    former = folder / "dataset.h5"
    with open(folder / f"former{part}", "wb") as target:
        for block in _blocks(former, part, parts):
            target.write(block)
        target.flush()
        os.fsync(target.fileno())


def _blocks(path: Path, part: int, parts: int) -> Iterator[memoryview]:
    """A part of a file, in blocks."""
    size = path.stat().st_size
    buffer = memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as source:
        source.seek(size * part // parts)
        left = size * (part + 1) // parts - size * part // parts
        while left and (number := source.readinto(buffer[: min(left, CHUNK)])):
            left -= number
            yield buffer[:number]


def read(folder: Path) -> None:
    (piece,) = (folder / "cases").iterdir()
    for _ in _blocks(piece, 0, 1):
        pass
