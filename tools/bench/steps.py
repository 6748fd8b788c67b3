"""Steps of training

What the train stage adds to the network: a step of the stage, without choices but for the network, against the same
network, loss and optimizer on a batch that is ready: normalised, in memory, the same each time. The stage's step draws
the batch from dataset.h5, shifts each sample, counts what is right, and moves the schedule. A row is a network on
pictures or volumes of random numbers; a turn is several steps, of which the mean counts. Losses of the first step are
compared.
"""

import copy
import math
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.lib.train import batches, drawing, loop, optimizers, step
from tools.bench import loading
from tools.bench.groups import Options
from tools.bench.loading import Ours
from tools.bench.results import Measured
from tools.bench.timing import Comparison, Work, race

NAME = "steps"
STAGE_WHY = "The batch is ready, and nothing is counted."


class Kind(NamedTuple):
    """A network and the samples that it learns from."""

    network: dict[str, Any]
    shape: tuple[int, ...]  # (C, H, W) or (C, D, H, W)
    cases: int
    steps: int  # of a turn


COMPACT: dict[str, Any] = {"name": "compact"}
RESNET: dict[str, Any] = {"name": "torchvision", "arguments": {"model": "resnet18"}}
KINDS = {
    "compact, 3x32x32": Kind(COMPACT, (3, 32, 32), 2048, 10),
    "compact, 3x224x224": Kind(COMPACT, (3, 224, 224), 256, 3),
    "compact, 1x32x64x64": Kind(COMPACT, (1, 32, 64, 64), 128, 3),
    "ResNet-18, 3x32x32": Kind(RESNET, (3, 32, 32), 2048, 10),
    "ResNet-18, 3x224x224": Kind(RESNET, (3, 224, 224), 256, 2),
}


def run(options: Options) -> Measured:
    if options.threads:
        torch.set_num_threads(options.threads)
    rows: list[Comparison] = []
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(name, kind, Path(folder), options.rounds)
    return Measured(rows, remarks=[f"torch had {torch.get_num_threads()} threads."])


def compare(name: str, kind: Kind, folder: Path, rounds: int) -> list[Comparison]:
    x = np.random.default_rng(0).integers(0, 256, (kind.cases, *kind.shape), np.uint8)
    ours = loading.prepare(x, folder, {"network": kind.network, "device": "cpu"})
    bare = bare_steps(ours)
    staged = stage_steps(ours)
    mine = Work("the train stage", lambda: next(staged), repeats=kind.steps)
    theirs = Work("the network alone", lambda: next(bare), STAGE_WHY, repeats=kind.steps)
    note = f"batches of {ours.task.batch_size}"
    return race(NAME, f"a step of {name}", mine, [theirs], rounds, agree=agree, note=note)


def order_of(ours: Ours) -> list[np.ndarray]:
    task = ours.task
    whole = batches.epoch_batches(len(task.train.y), task.batch_size, task.params.seed, ours.run.epoch)
    return [rows for rows in whole if len(rows) == task.batch_size]


def stage_steps(ours: Ours) -> Iterator[float]:
    """Steps as the stage makes them; yields the mean loss of each."""
    loop.set_to_train(ours.run.model, ours.task.params)
    for rows in cycle(order_of(ours)):
        sums = step.train_batch(ours.run, ours.task, rows, stopping=False)
        yield sums["loss"] / sums["weight"]


def bare_steps(ours: Ours) -> Iterator[float]:
    """Steps of a copy of the network, as it is now, on the first batch; yields the mean loss of each."""
    run, task = ours
    network = copy.deepcopy(run.model.network).train()
    optimizer = optimizers.make(task.params, network, len(task.objective.names))
    drawn = drawing.draw(run, task, order_of(ours)[0])
    x = drawing.samples(run, task, drawn, np.arange(len(drawn.rows))).clone(memory_format=torch.preserve_format)
    weight = task.objective.weight(drawn.targets, drawn.weights)

    def steps() -> Iterator[float]:
        while True:
            optimizer.zero_grad()
            loss, _ = task.objective.sums(network(x), drawn.targets, drawn.weights)
            (loss / weight).backward()
            optimizer.step()
            yield float(loss.detach()) / weight

    return steps()


def agree(ours: float, theirs: float) -> bool:
    """Whether two losses of the same weights and samples are the same."""
    return math.isclose(ours, theirs, rel_tol=1e-3)
