"""Compares training with the notes' own loop, on birds against airplanes: seconds and accuracies, as ratios.

    python -m tools.bench_train --images cifar10.zip                     # seeds 0, 1 and 2: about 20 minutes
    python -m tools.bench_train --images cifar10.zip --results r.json    # keeps each seed there, and goes on from there

Both learn from the same 8,000 images and are judged after each epoch by the same 2,000, by which neither chooses
anything. The notes' loop is plain torch: DataLoader, Net, batch 64, SGD 1e-2. The pipeline runs its stages, from image
files on; the seconds compared are those of training epochs with their validation, for both. In its first epochs `fast`
is trained and judged on shrunk images, so there are two answers to when it passes the notes: as it then is, and on
whole images. In the end it is judged as the validate stage deploys it, which counts in its seconds. A seed's three
parts are the notes' 100 epochs, the recipe `fast`, and epochs of both on the notes' network, batch and optimizer in
turn.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stages import dataset, ingest, split, train
from stages import statistics as measured
from stages.lib import params, tensors
from stages.lib.core import outs, terminal
from stages.lib.core.progress import progress
from stages.lib.model import checkpoint
from stages.lib.params.split import SplitParams
from stages.lib.params.train import TrainParams
from stages.lib.params.validate import ValidateParams
from stages.lib.validate.answers import ask
from tools import birds

RECIPE = Path("recipes/birds.yaml")
EPOCHS = 100  # of the notes' loop
ROUNDS, IN_TURN = 3, 8  # so many times, so many epochs of each in turn


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_train", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder or zip file with a folder a class")
    seeds_help = "of the weights and the order; the split is the same"
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help=seeds_help)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a JSON file of the seeds done, which are not run again")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    done = json.loads(given.results.read_text()) if given.results and given.results.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        sections = params.load(RECIPE).datasets
        dataset_h5 = prepare(given.images, Path(scratch), sections["birds"])
        for seed in given.seeds:
            if str(seed) not in done:
                done[str(seed)] = race(dataset_h5, Path(scratch), sections, seed)
                if given.results:
                    outs.write_json(given.results, done)
    about = {"cores": os.cpu_count(), "threads": given.threads, "torch": torch.__version__}
    print(json.dumps({"seeds": done, "mean": mean(list(done.values())), **about}, indent=2))


def race(dataset_h5: Path, folder: Path, sections: dict[str, Any], seed: int) -> dict[str, Any]:
    """All three comparisons with one seed."""
    fast, plain = (replace(sections[name]["train"], seed=seed) for name in ("birds", "birds_notes"))
    notes = notes_run(dataset_h5, seed)
    return {
        "notes": notes,
        "fast": fast_run(dataset_h5, folder, fast, sections["birds"]["validate"], notes),
        "epoch": epochs_in_turn(dataset_h5, folder, plain),
    }


def mean(races: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over the seeds, of every number that each seed has."""
    return {
        part: {
            name: statistics.fmean(race[part][name] for race in races)
            for name in races[0][part]
            if all(race[part].get(name) is not None for race in races)
        }
        for part in races[0]
    }


def prepare(images: Path, folder: Path, section: dict[str, Any]) -> Path:
    """Runs the stages from image files to dataset.h5; a fifth is held out, as the validation split."""
    raw, cases, cases_csv, split_csv, dataset_h5 = (
        folder / name for name in ("raw", "cases", "cases.csv", "split.csv", "dataset.h5")
    )
    birds.copy(images, birds.CLASSES, raw, folder / "unpacked")
    ingest.main(raw, cases, cases_csv, folder / "ingest.json", section["ingest"])
    split.main(cases_csv, split_csv, params.check(SplitParams, {"validation": 0.2, "test": 0.0}))
    measured.main(cases, split_csv, folder / "statistics.json", section["statistics"])
    dataset.main(cases, split_csv, folder / "statistics.json", dataset_h5, section["dataset"])
    return dataset_h5


class Notes:
    """The notes' training, as they write it; data in memory, normalised."""

    def __init__(self, dataset_h5: Path, seed: int) -> None:
        torch.manual_seed(seed)
        about = tensors.read_description(dataset_h5)
        mean, deviation = (torch.tensor(about.moments[name]).view(-1, 1, 1) for name in ("mean", "deviation"))
        parts = []
        for name in ("train", "validation"):
            part = tensors.read_split(dataset_h5, name)
            x = (torch.from_numpy(part.x.copy()) - mean) / deviation
            parts.append(TensorDataset(x.float(), torch.from_numpy(part.y.copy())))
        self.train = DataLoader(parts[0], batch_size=64, shuffle=True)
        self.validation = DataLoader(parts[1], batch_size=64)
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 32), nn.Tanh(), nn.Linear(32, 2),
        )  # fmt: skip
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-2)

    def epoch(self) -> tuple[float, float]:
        """Trains and validates once: seconds, accuracy."""
        started = time.perf_counter()
        self.model.train()
        for x, y in self.train:
            loss = nn.functional.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.model.eval()
        correct, total = 0, 0
        with torch.no_grad():
            for x, y in self.validation:
                correct += int((self.model(x).argmax(1) == y).sum())
                total += len(y)
        return time.perf_counter() - started, correct / total


def staged(dataset_h5: Path, folder: Path, section: TrainParams) -> tuple[pd.DataFrame, float]:
    """The train stage in a process of its own, as dvc starts it: history.csv with the seconds of each epoch as it tells
    them, and the processor's seconds."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(trained, dataset_h5, folder, section, torch.get_num_threads()).result()


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


def notes_run(dataset_h5: Path, seed: int) -> dict[str, float]:
    """The notes' 100 epochs: wall and processor seconds, and the last epoch's accuracy."""
    notes = Notes(dataset_h5, seed)
    used = time.process_time()
    seconds, accuracy = 0.0, 0.0
    for _ in progress(range(EPOCHS), "notes", "epoch"):
        taken, accuracy = notes.epoch()
        seconds += taken
    return {"epochs": EPOCHS, "seconds": seconds, "cpu_seconds": time.process_time() - used, "accuracy": accuracy}


def fast_run(
    dataset_h5: Path, folder: Path, section: TrainParams, judging: ValidateParams, notes: dict[str, float]
) -> dict[str, Any]:
    """`fast` by the train stage, beside what the notes' loop took and reached; at last as it is deployed."""
    history, used = staged(dataset_h5, folder, section)
    elapsed = history["seconds"].cumsum()
    started = time.perf_counter()
    accuracy = deployed_accuracy(dataset_h5, folder / "model.pt", judging)
    seconds = float(elapsed.iloc[-1]) + time.perf_counter() - started
    found: dict[str, Any] = {
        "epochs": len(history),
        "seconds": seconds,
        "cpu_seconds": used,
        "accuracy": accuracy,
        "accuracy_as_trained": float(history["validation_accuracy"].iloc[-1]),
        "seconds_left_of_the_notes": notes["seconds"] - seconds,
    }
    better = np.flatnonzero(history["validation_accuracy"] > notes["accuracy"])
    for when, epochs in (("passes", better), ("passes_on_whole_images", better[better >= section.progressive.epochs])):
        if len(epochs):
            at = float(elapsed[epochs[0]])
            found |= {
                f"{when}_after_epochs": int(epochs[0]) + 1,
                f"{when}_after_seconds": at,
                f"{when}_times_sooner": notes["seconds"] / at,
            }
    return found


def deployed_accuracy(dataset_h5: Path, model_pt: Path, section: ValidateParams) -> float:
    """As the validate stage has it, with its test-time augmentation."""
    classifier, _, _ = checkpoint.load_for(dataset_h5, model_pt)
    split = tensors.read_split(dataset_h5, "validation")
    said = ask(classifier, split, "".join(section.flips), section.batch_size, "deployed").probabilities(1.0)
    return float((said.argmax(1) == split.y).mean())


def epochs_in_turn(dataset_h5: Path, folder: Path, section: Any) -> dict[str, Any]:
    """Seconds of an epoch of each on the notes' network, batch and optimizer; a busy moment hits all alike."""
    notes = Notes(dataset_h5, section.seed)
    seconds: dict[str, list[float]] = {name: [] for name in ("notes", "stage", "stage_bfloat16")}
    for _ in range(ROUNDS):
        seconds["notes"] += [notes.epoch()[0] for _ in range(IN_TURN)]
        for name, precision in (("stage", "float32"), ("stage_bfloat16", "bfloat16")):
            history, _ = staged(dataset_h5, folder, replace(section, epochs=IN_TURN, precision=precision))
            seconds[name] += history["seconds"].tolist()
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {f"{name}_seconds": taken for name, taken in middle.items()} | {
        "times_quicker": middle["notes"] / middle["stage"],
        "times_quicker_in_bfloat16": middle["notes"] / middle["stage_bfloat16"],
    }


if __name__ == "__main__":
    main()
