"""Training

The train stage against a plain torch training loop, on birds against airplanes of CIFAR-10 (`--images`). Both learn
from the same 8,000 images and are judged after each epoch by the same 2,000, by which neither chooses anything. The
plain loop has a DataLoader, the network `convolutional`, batches of 64, SGD with a learning rate of 1e-2 and 100
epochs. The pipeline runs its stages, from image files on; the seconds compared are those of training epochs with their
validation, for both. In its first epochs the recipe `fast` is trained and judged on shrunk images, so there are two
answers to when it passes the plain loop: as it then is, and on whole images. In the end it is judged as the validate
stage deploys it, which counts in its seconds. A round is a seed: 100 epochs of the plain loop, the recipe `fast`, and
epochs of both on the plain loop's network, batch size and optimizer.
"""

import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from stages import dataset, split, train
from stages import statistics as measured
from stages.lib import params, tensors
from stages.lib.core.progress import progress
from stages.lib.model import checkpoint
from stages.lib.params.split import SplitParams
from stages.lib.params.train import TrainParams
from stages.lib.params.validate import ValidateParams
from stages.lib.validate.answers import ask
from tools import birds
from tools.bench.groups import Missing, Options
from tools.bench.processes import fresh
from tools.bench.results import Measured
from tools.bench.timing import Comparison
from tools.bench.training_peers import PlainLoop
from tools.ingested import ingest_into

NAME = "training"
RECIPE = Path("recipes/birds.yaml")
EPOCHS = 100  # of the plain loop
IN_TURN = 8  # epochs of each in a round
LOOP = f"plain torch loop, {EPOCHS} epochs"
PASSES = ("passes its accuracy", "passes its accuracy on whole images")
FAST_WHY = "`fast` trains a larger network, and averages mirrored pictures."
EPOCH_WHY = "The stage also measures gradients and writes a checkpoint after each epoch."


class Epochs(NamedTuple):
    """A whole training."""

    seconds: float
    cpu_seconds: float
    accuracy: float  # of the 2,000, at the end


class Fast(NamedTuple):
    """The recipe `fast` beside the plain loop."""

    whole: Epochs  # accuracy as it is deployed
    accuracy_as_trained: float
    passes: list[float | None]  # seconds, as PASSES; None where it never does
    passing_epochs: list[int | None]


class Race(NamedTuple):
    """All comparisons of one seed."""

    loop: Epochs
    fast: Fast
    epochs: dict[str, float]  # median seconds of an epoch: loop, stage, stage_bfloat16


def run(options: Options) -> Measured:
    if options.images is None:
        raise Missing("training needs --images, a folder or zip file with folders of images airplane and bird")
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        sections = params.load(RECIPE).datasets
        dataset_h5 = prepare(options.images, Path(scratch), sections["birds"])
        races = [race(dataset_h5, Path(scratch), sections, seed) for seed in range(options.rounds)]
    return Measured(rows(races), remarks=[f"torch had {torch.get_num_threads()} threads; seeds 0 to {len(races) - 1}."])


def race(dataset_h5: Path, folder: Path, sections: dict[str, Any], seed: int) -> Race:
    fast, plain = (replace(sections[name]["train"], seed=seed) for name in ("birds", "birds_notes"))
    loop = loop_run(dataset_h5, seed)
    judging = sections["birds"]["validate"]
    return Race(loop, fast_run(dataset_h5, folder, fast, judging, loop), epochs_in_turn(dataset_h5, folder, plain))


def rows(races: list[Race]) -> list[Comparison]:
    """The table: accuracies as error rates, so that less is better in every row."""
    loops, fasts = [one.loop for one in races], [one.fast for one in races]

    def row(work: str, ours: list[float], theirs: list[float], unit: str = "s", note: str = "") -> Comparison:
        return Comparison(NAME, work, ours, LOOP, theirs, unit, why=FAST_WHY, note=note)

    found = []
    for i, when in enumerate(PASSES):
        done = [(fast, loop) for fast, loop in zip(fasts, loops, strict=True) if fast.passes[i] is not None]
        if done:
            note = "in epochs " + ", ".join(str(fast.passing_epochs[i]) for fast, _ in done)
            seconds = [float(fast.passes[i] or 0) for fast, _ in done]
            found.append(row(f"fast {when}", seconds, [loop.seconds for _, loop in done], note=note))
    error = "error rate of fast as {}"
    found += [
        row("fast, whole training", [of.whole.seconds for of in fasts], [of.seconds for of in loops]),
        row("fast, whole training", [of.whole.cpu_seconds for of in fasts], [of.cpu_seconds for of in loops],
            "s of processor"),
        row(error.format("deployed"), *errors([of.whole.accuracy for of in fasts], loops), "%"),
        row(error.format("trained"), *errors([of.accuracy_as_trained for of in fasts], loops), "%"),
    ]  # fmt: skip
    return found + epoch_rows([one.epochs for one in races])


def errors(accuracies: list[float], loops: list[Epochs]) -> tuple[list[float], list[float]]:
    """Error rates in percent, ours and the loop's."""
    return [100 * (1 - of) for of in accuracies], [100 * (1 - of.accuracy) for of in loops]


def epoch_rows(epochs: list[dict[str, float]]) -> list[Comparison]:
    theirs = [of["loop"] for of in epochs]
    work = "an epoch of the plain loop's network"
    return [
        Comparison(NAME, name, [of[key] for of in epochs], "plain torch loop", theirs, why=EPOCH_WHY)
        for name, key in ((work, "stage"), (f"{work}, in bfloat16", "stage_bfloat16"))
    ]


def prepare(images: Path, folder: Path, section: dict[str, Any]) -> Path:
    """Runs the stages from image files to dataset.h5; a fifth is held out, as the validation split."""
    raw, cases, cases_csv, split_csv, dataset_h5 = (
        folder / name for name in ("raw", "cases", "cases.csv", "split.csv", "dataset.h5")
    )
    birds.copy(images, birds.CLASSES, raw, folder / "unpacked")
    ingest_into(folder, raw, section["ingest"])
    split.main(cases_csv, split_csv, params.check(SplitParams, {"validation": 0.2, "test": 0.0}))
    measured.main(cases, split_csv, folder / "statistics.json", section["statistics"])
    dataset.main(cases, split_csv, folder / "statistics.json", dataset_h5, section["dataset"])
    return dataset_h5


def staged(dataset_h5: Path, folder: Path, section: TrainParams) -> tuple[pd.DataFrame, float]:
    """The train stage in a process of its own, as dvc starts it: history.csv with the seconds of each epoch as it tells
    them, and the processor's seconds."""
    return fresh(trained, dataset_h5, folder, section, torch.get_num_threads())


def trained(dataset_h5: Path, folder: Path, section: TrainParams, threads: int) -> tuple[pd.DataFrame, float]:
    torch.set_num_threads(threads)
    before = sum(os.times()[:4])  # its workers' too
    with tempfile.TemporaryFile("w+") as told:
        os.dup2(told.fileno(), sys.stderr.fileno())  # its workers', too
        train.main(dataset_h5, folder / "model.pt", folder / "train.json", folder / "history.csv", section, "birds")
        sys.stderr.flush()
        told.seek(0)
        seconds = [float(found) for found in re.findall(r"\| ([\d.]+) s$", told.read(), re.MULTILINE)]
    return pd.read_csv(folder / "history.csv").assign(seconds=seconds), sum(os.times()[:4]) - before


def loop_run(dataset_h5: Path, seed: int) -> Epochs:
    """The plain loop's 100 epochs, and the last one's accuracy."""
    loop = PlainLoop(dataset_h5, seed)
    used = time.process_time()
    seconds, accuracy = 0.0, 0.0
    for _ in progress(range(EPOCHS), "plain loop", "epoch"):
        taken, accuracy = loop.epoch()
        seconds += taken
    return Epochs(seconds, time.process_time() - used, accuracy)


def fast_run(dataset_h5: Path, folder: Path, section: TrainParams, judging: ValidateParams, loop: Epochs) -> Fast:
    """`fast` by the train stage, beside what the plain loop reached; at last as it is deployed."""
    history, used = staged(dataset_h5, folder, section)
    elapsed = history["seconds"].cumsum()
    started = time.perf_counter()
    deployed = deployed_accuracy(dataset_h5, folder / "model.pt", judging)
    seconds = float(elapsed.iloc[-1]) + time.perf_counter() - started
    better = np.flatnonzero(history["validation_accuracy"] > loop.accuracy)
    first = [next(iter(of.tolist()), None) for of in (better, better[better >= section.progressive.epochs])]
    return Fast(
        Epochs(seconds, used, deployed),
        float(history["validation_accuracy"].iloc[-1]),
        [None if epoch is None else float(elapsed[epoch]) for epoch in first],
        [None if epoch is None else epoch + 1 for epoch in first],
    )


def deployed_accuracy(dataset_h5: Path, model_pt: Path, section: ValidateParams) -> float:
    """As the validate stage has it, with its test-time augmentation."""
    classifier, _, _ = checkpoint.load_for(dataset_h5, model_pt)
    split = tensors.read_split(dataset_h5, "validation")
    said = ask(classifier, split, "".join(section.flips), section.batch_size, "deployed").probabilities(1.0)
    return float((said.argmax(1) == split.y).mean())


def epochs_in_turn(dataset_h5: Path, folder: Path, section: TrainParams) -> dict[str, float]:
    """Median seconds of an epoch of each on the plain loop's network, batch size and optimizer."""
    loop = PlainLoop(dataset_h5, section.seed)
    seconds = {"loop": [loop.epoch()[0] for _ in range(IN_TURN)]}
    for name, precision in (("stage", "float32"), ("stage_bfloat16", "bfloat16")):
        changed: Any = {"epochs": IN_TURN, "precision": precision}
        history, _ = staged(dataset_h5, folder, replace(section, **changed))
        seconds[name] = history["seconds"].tolist()
    return {name: statistics.median(taken) for name, taken in seconds.items()}
