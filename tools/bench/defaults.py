"""Without choices

What `train: {}` reaches on several tasks, against ResNet-18 from new weights by a plain recipe in as many seconds:
AdamW, one rise and fall of the learning rate to 1e-3 over those seconds, pictures mirrored from left to right. Both see
the same tensors, those of `dataset: {}`, and are judged on the test split, which neither has seen. A round is a seed,
three at most. Tasks are the demo datasets, where they have been made, and each folder of `--tasks` with a folder of
pictures per class. Of volumes the peer is torchvision's R3D-18.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from stages import dataset as dataset_stage
from stages import split as split_stage
from stages import statistics as statistics_stage
from stages import train as train_stage
from stages.lib import tensors
from stages.lib.model import checkpoint, inference
from stages.lib.params import check
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.ingest import IngestParams
from stages.lib.params.split import SplitParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.params.train import TrainParams
from stages.lib.validate.scores import overall
from tools.bench.groups import Options
from tools.bench.processes import quiet
from tools.bench.results import Measured
from tools.bench.timing import Comparison
from tools.ingested import ingest_into

NAME = "defaults"
DEMOS = ("digits", "phantoms")
SEEDS = 3  # at most
PEAK, BATCH = 1e-3, 64  # of the peer
SCORES = {"accuracy": "error on the test pictures", "auroc": "1 - AUROC on the test pictures"}
WHY = "Of a few hundred test pictures, a difference of some percent is that of seeds."


class Result(NamedTuple):
    """One seed of one side: scores of the test split."""

    accuracy: float
    auroc: float
    seconds: float


def run(options: Options) -> Measured:
    seeds = range(min(options.rounds, SEEDS))
    rows: list[Comparison] = []
    remarks: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, dataset_h5 in tasks(options.tasks, Path(scratch)).items():
            results = [race(name, dataset_h5, Path(scratch), seed, options.threads) for seed in seeds]
            rows += rows_of(name, results)
            number = len(tensors.read_split(dataset_h5, "train").y)
            shape = " x ".join(map(str, tensors.read_description(dataset_h5).shape))
            seconds = np.median([ours.seconds for ours, _ in results])
            remarks.append(f"{name}: {number} training cases of {shape}, {seconds:.0f} s each.")
    if not rows:
        remarks.append("Neither --tasks nor the demo datasets are there.")
    return Measured(rows, remarks=remarks)


def tasks(folder: Path | None, scratch: Path) -> dict[str, Path]:
    """dataset.h5 of each task: the demos', and those made of the folders."""
    found = {name: path for name in DEMOS if (path := Path("data", name, "dataset.h5")).exists()}
    for raw in sorted(path for path in folder.iterdir() if path.is_dir()) if folder else ():
        out = scratch / raw.name
        found[raw.name] = out / "dataset.h5"
        with quiet():
            open_names = check(IngestParams, {"identifiers": "open"})
            ingest_into(out, raw, open_names)
            split_stage.main(out / "cases.csv", out / "split.csv", SplitParams())
            statistics_stage.main(out / "cases", out / "split.csv", out / "statistics.json", StatisticsParams())
            dataset_stage.main(
                out / "cases", out / "split.csv", out / "statistics.json", found[raw.name], DatasetParams()
            )
    return found


def race(name: str, dataset_h5: Path, scratch: Path, seed: int, threads: int) -> tuple[Result, Result]:
    """One seed of both sides, the peer for as long as ours took."""
    threads = threads or torch.get_num_threads()
    ours = by_default(name, dataset_h5, scratch / f"{name}-{seed}", {"seed": seed, "threads": threads})
    return ours, by_resnet(dataset_h5, seed, ours.seconds)


def by_default(name: str, dataset_h5: Path, out: Path, given: dict[str, Any]) -> Result:
    """Trains as `train: {}` does, apart from what is given."""
    out.mkdir(parents=True)
    began = time.perf_counter()
    with quiet():
        files = (out / "model.pt", out / "train.json", out / "history.csv")
        train_stage.main(dataset_h5, *files, check(TrainParams, given), name)
    seconds = time.perf_counter() - began
    classifier, _ = checkpoint.load(out / "model.pt")
    test = tensors.read_split(dataset_h5, "test")
    (logits,) = inference.predict_all(classifier, test.x, BATCH, "predict")
    return judged(test.y, torch.from_numpy(np.asarray(logits)).softmax(1).numpy(), seconds)


def by_resnet(dataset_h5: Path, seed: int, seconds: float) -> Result:
    """Trains ResNet-18 for so long, by its clock."""
    torch.manual_seed(seed)
    train, test = (tensors.read_split(dataset_h5, name) for name in ("train", "test"))
    about = tensors.read_description(dataset_h5)
    network = made(about.shape, len(about.classes)).to(memory_format=layout(len(about.shape)))
    mean, deviation = (torch.tensor(about.moments[name], dtype=torch.float32) for name in ("mean", "deviation"))
    column = (1, -1, *[1] * (len(about.shape) - 1))
    mean, deviation = mean.view(column), deviation.clamp(min=1e-6).view(column)

    def prepared(rows: np.ndarray, x: np.ndarray) -> Tensor:
        samples = (torch.from_numpy(x[rows].astype(np.float32)) - mean) / deviation
        return samples.contiguous(memory_format=layout(len(about.shape)))

    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK)
    rng = np.random.default_rng(seed)
    began = time.perf_counter()
    network.train()
    while (spent := (time.perf_counter() - began) / seconds) < 1:
        order = rng.permutation(len(train.y))
        for at in range(0, max(1, len(order) - 1), BATCH):
            spent = min(1.0, (time.perf_counter() - began) / seconds)
            for group in optimizer.param_groups:
                group["lr"] = PEAK * rate(spent)
            rows = np.sort(order[at : at + BATCH])
            x = prepared(rows, train.x)
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5)
            x[mirrored] = x[mirrored].flip(-1)
            loss = functional.cross_entropy(network(x), torch.from_numpy(train.y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if spent >= 1:
                break
    network.eval()
    with torch.inference_mode():
        parts = [
            network(prepared(np.arange(at, min(at + BATCH, len(test.y))), test.x)).softmax(1)
            for at in range(0, len(test.y), BATCH)
        ]
    return judged(test.y, torch.cat(parts).numpy(), seconds)


def rate(spent: float) -> float:
    """The learning rate as a fraction of its peak: up for three tenths of the time, then down along a cosine."""
    rise = 0.3
    return max(0.04, spent / rise) if spent < rise else 0.5 * (1 + math.cos(math.pi * (spent - rise) / (1 - rise)))


def made(shape: Sequence[int], classes: int) -> nn.Module:
    """ResNet-18 of new weights, or R3D-18 for volumes, whose first layer takes the samples' channels."""
    if len(shape) == 4:
        network = torchvision.models.video.r3d_18(num_classes=classes)
        network.stem[0] = nn.Conv3d(shape[0], 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        return network
    network = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(shape[0], 64, 7, 2, 3, bias=False)
    return network


def layout(axes: int) -> torch.memory_format:
    return torch.channels_last if axes == 3 else torch.channels_last_3d


def judged(labels: np.ndarray, probabilities: np.ndarray, seconds: float) -> Result:
    scores = overall(labels, probabilities.astype(np.float64))
    return Result(scores["accuracy"], scores["auroc"], seconds)


def rows_of(name: str, results: Sequence[tuple[Result, Result]]) -> list[Comparison]:
    found = []
    for score, work in SCORES.items():
        sides = zip(*((100 * (1 - getattr(one, score)) for one in both) for both in results), strict=True)
        ours, theirs = map(list, sides)
        found.append(Comparison(NAME, f"{work}, {name}", ours, "ResNet-18", theirs, unit="%", why=WHY))
    return found
