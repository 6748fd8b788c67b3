"""Loading

An epoch of training samples in random order, in batches of 64: float32, normalised, each mirrored from left to right
with probability 1/2. Ours are the train stage's own batches from dataset.h5; the others bring the same pictures, from
memory, from PNG files or from files of their own format. Nothing is trained.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from stages import dataset as dataset_stage
from stages import statistics as statistics_stage
from stages.lib.cases import write_cases
from stages.lib.params import check
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.params.train import TrainParams
from stages.lib.train import batches, drawing, setup
from stages.lib.train.parallel.distributed import World
from stages.lib.train.run import Run
from stages.lib.train.task import Task
from tools.bench import loading_peers, synthetic
from tools.bench.groups import Options
from tools.bench.loading_peers import BATCH, Pictures
from tools.bench.processes import quiet
from tools.bench.results import Measured
from tools.bench.timing import Comparison, Work, race

NAME = "loading"
SIZES = {32: 10_000, 224: 1_000}  # training samples by side
PARAMS: dict[str, Any] = {
    "batch_size": BATCH,
    "augment": {"flip": "W", "shift": [0]},
    "device": "cpu",
    "network": {"name": "fully_connected", "arguments": {"widths": [8]}},
    "deterministic": False,
}


class Ours(NamedTuple):
    """A training at its beginning."""

    run: Run
    task: Task

    def epoch(self) -> loading_peers.Means:
        """Draws every batch of the epoch as the train stage does; the mean of each sample."""
        order = batches.epoch_batches(len(self.task.train.y), BATCH, self.task.params.seed, self.run.epoch)
        return loading_peers.means(self._samples(rows) for rows in order)

    def _samples(self, rows: np.ndarray) -> torch.Tensor:
        drawn = drawing.draw(self.run, self.task, rows)
        return drawing.samples(self.run, self.task, drawn, np.arange(len(rows)))


def run(options: Options) -> Measured:
    if options.threads:
        torch.set_num_threads(options.threads)
    rows: list[Comparison] = []
    for side, samples in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(side, samples, Path(folder), options.rounds)
    return Measured(rows)


def compare(side: int, samples: int, folder: Path, rounds: int) -> list[Comparison]:
    """Ours and every peer, for pictures of side x side."""
    ours = prepare(make(side, samples), folder)
    pictures = as_peers_have_it(ours.task, ours.run, folder)
    work, epoch = f"loading and mirroring, {side}x{side}", Work("the train stage's batches", ours.epoch)
    peers = loading_peers.works(pictures)
    return race(NAME, work, epoch, peers, rounds, agree=agree, amount=samples, things="samples")


def make(side: int, samples: int) -> np.ndarray:
    """Different pictures (N, 3, side, side) uint8."""
    rng = np.random.default_rng(0)
    few = np.stack([synthetic.waves(rng, side).transpose(2, 0, 1) for _ in range(20)])
    pictures = few[np.arange(samples) % len(few)]
    pictures[:, :, 0, :4] = rng.integers(0, 256, (samples, 3, 4), np.uint8)
    return pictures


def prepare(x: np.ndarray, folder: Path, section: Mapping[str, Any] = PARAMS) -> Ours:
    """Runs the stages from cases/ to dataset.h5, all cases in the training split, and begins a training.

    Args:
        x: (N, C, H, W) or (N, C, D, H, W).
        section: Params of train.
    """
    names = [f"{i:016x}" for i in range(len(x))]
    write_cases(folder / "cases", dict(zip(names, x, strict=True)), "CHW" if x.ndim == 4 else "CDHW")
    table = pd.DataFrame({"case": names, "group": names, "label": ["ab"[i % 2] for i in range(len(x))]})
    table.assign(split="train").to_csv(folder / "split.csv", index=False)
    cases, split_csv, statistics_json, dataset_h5 = (
        folder / name for name in ("cases", "split.csv", "statistics.json", "dataset.h5")
    )
    with quiet():
        statistics_stage.main(cases, split_csv, statistics_json, StatisticsParams())
        dataset_stage.main(cases, split_csv, statistics_json, dataset_h5, DatasetParams(shape=x.shape[2:]))
    params = check(TrainParams, {**section, "keep": "last"})
    task, recipe = setup.prepare(dataset_h5, params, "bench", torch.device("cpu"), World())
    return Ours(setup.begin(task, recipe), task)


def as_peers_have_it(task: Task, run: Run, folder: Path) -> Pictures:
    """The same pictures, classes and normalisation."""
    normalise = run.model.normalise
    mean, scale = (getattr(normalise, name).flatten().tolist() for name in ("shift", "scale"))
    x, y = (torch.from_numpy(array.copy()) for array in (task.train.x, task.train.y))
    return Pictures(x, y, mean, [1 / factor for factor in scale], folder)


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two epochs hold the same samples: their means, which neither order nor mirroring changes."""
    return ours.shape == theirs.shape and torch.allclose(ours.sort().values, theirs.sort().values, atol=1e-4)
