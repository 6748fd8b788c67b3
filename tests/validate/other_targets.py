"""Data sets and models of other targets than one class, small enough to be validated in seconds."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from stages import validate
from stages.lib import params, tensors
from stages.lib.model import checkpoint
from stages.lib.params.ingest import IngestParams
from stages.lib.params.validate import ValidateParams
from stages.lib.splits import SPLITS
from stages.lib.tensors import Asked, Split
from stages.lib.train.losses import NumberObjective
from tests.conftest import write_dataset_h5, write_model_pt

TABLES = (
    "validate.json",
    "scores.csv",
    "predictions.csv",
    "confusion.csv",
    "roc.csv",
    "precision_recall.csv",
    "reliability.csv",
)
HISTORY = "epoch,train_loss,train_{0},validation_loss,validation_{0}\n1,1.1,-0.3,1.2,0.4\n2,0.5,0.8,0.7,0.6\n"
CASES = 40  # of each split
ASKED = {
    "classes": Asked("classes", ["a", "b", "c"]),
    "ordinal": Asked("ordinal", ["none", "mild", "severe"]),
    "multilabel": Asked("multilabel", ["effusion", "mass", "rare"]),
    "regression": Asked("regression", ["diameter"], "mm", 20.0, 8.0),
    "log_regression": Asked("log_regression", ["volume"], "ml", 3.0, 0.5),
}


def answers(kind: str, brightness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is true of cases, (N, K), nearly as their brightness from 0 to 1 tells."""
    noisy = brightness + rng.normal(0, 0.1, len(brightness))
    if kind in ("classes", "ordinal"):
        own = np.eye(3)[np.clip((noisy * 3).astype(int), 0, 2)]
        return 0.8 * own + 0.1 * (1 - own) if kind == "classes" else own
    if kind == "multilabel":
        held = np.stack([noisy > 0.5, noisy < 0.3, rng.random(len(noisy)) < 0.1], 1).astype(float)
        held[rng.random(held.shape) < 0.2] = np.nan
        return held
    deviations = (noisy - 0.5) * 3
    learnt = ASKED[kind].mean + ASKED[kind].deviation * deviations
    return (np.exp(learnt) if kind == "log_regression" else learnt)[:, None]


def write(
    path: Path,
    kind: str,
    shape: tuple[int, ...] = (1, 8, 8),
    weighted: bool = False,
    cases: dict[str, int] | None = None,
) -> None:
    """A dataset.h5 of cases whose brightness tells the answer."""
    write_dataset_h5(path, shape)
    about, asked = tensors.read_description(path), ASKED[kind]
    about = tensors.Description(**about.plain() | {"classes": asked.names, "target": asdict(asked)})
    rng = np.random.default_rng(0)
    low, high = about.moments["minimum"][0], about.moments["maximum"][0]
    with tensors.writing(path, shape, about.dtype) as writer:
        for name in SPLITS:
            number = (cases or {}).get(name, CASES)
            brightness = rng.random(number)
            target = answers(kind, brightness, rng)
            y = target.argmax(1) if asked.target.of_one_class else np.zeros(number, int)
            ids = [f"{name[:2]}{i:04d}" for i in range(number)]
            weight = rng.integers(0, 3, number).astype(float) if weighted else None
            writer.reserve(name, y, ids, ids, target, weight)
            noise = rng.normal(0, 0.02, (number, *shape))
            x = (brightness.reshape(-1, *[1] * len(shape)) + noise).clip(0, 1) * (high - low) + low
            writer._file[name]["x"][...] = x.astype(about.dtype)
        writer.describe(about)


def write_trained(path: Path, dataset_h5: Path) -> None:
    """A model.pt that has learnt a little of it."""
    write_model_pt(path, dataset_h5)
    model, recipe = checkpoint.load(path)
    about, split = tensors.read_description(dataset_h5), tensors.read_split(dataset_h5, "train")
    x, target = torch.from_numpy(np.array(split.x)), torch.from_numpy(np.array(split.target))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss(model(x), target, about.asked, split).backward()
        optimizer.step()
    checkpoint.save(path, recipe, model)


def loss(answered: torch.Tensor, target: torch.Tensor, asked: Asked, split: Split) -> torch.Tensor:
    if asked.target.of_one_class:
        return torch.nn.functional.cross_entropy(answered, target)
    if asked.kind == "multilabel":
        known = ~torch.isnan(target)
        return torch.nn.functional.binary_cross_entropy_with_logits(answered[known], target[known])
    wanted = NumberObjective(params.check(params.train.TrainParams, {}).loss, split, asked).targets(
        split, np.arange(len(split.y))
    )
    return torch.nn.functional.mse_loss(answered, wanted)


def run(folder: Path, dataset_h5: Path, model_pt: Path, **given: object) -> dict:
    """Validates; gives validate.json."""
    of_number = tensors.read_description(dataset_h5).asked.target.of_number
    (folder / "history.csv").write_text(HISTORY.format("r2" if of_number else "accuracy"))
    paths = {name.replace(".", "_"): folder / name for name in (*TABLES, "figures")}
    section = params.check(ValidateParams, given)
    ingest = IngestParams(pictures=True)
    validate.main(dataset_h5, model_pt, folder / "history.csv", **paths, params=section, ingest=ingest)
    return json.loads((folder / "validate.json").read_text())
