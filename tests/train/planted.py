"""Trainings that go wrong in a way that is known, and what the diagnosis says of each.

python -m tests.train.planted                 # the table of docs/training.md, with the seed that it was made with
python -m tests.train.planted --seed 3 good   # other weights, pictures, noise and splits; cases with such names
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from stages import train
from stages.lib import params, tensors
from stages.lib.params.train import TrainParams
from stages.lib.splits import SPLITS

SEED = 30  # of the table; the limits of `verdict` were chosen with others
Made = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> samples and answers
NO_AUGMENTATION = {"shift": [0]}
CONSTANT = {"schedule": {"name": None}}
ADAM = {"optimizer": {"name": "Adam"}, **CONSTANT, "augment": NO_AUGMENTATION}
TWO_LAYERS = {"name": "fully_connected", "arguments": {"widths": [64], "activation": "ReLU"}}
WIDE = {"name": "fully_connected", "arguments": {"widths": [512], "activation": "ReLU"}}
SMALL = {"name": "compact", "arguments": {"widths": [8, 16]}}


@dataclass(frozen=True)
class Planted:
    """A training whose fault is known."""

    what: str
    expected: str  # verdict
    make: Callable[[np.random.Generator], Made]
    given: dict[str, Any]  # params of the train stage
    kind: str = "classes"  # of target, as of `tensors.Asked`; "" is a class alone
    killed: str = ""  # a layer whose units never answer


def digits(
    rng: np.random.Generator, n: int = 1400, validation: int = 397, shuffled: bool = False, flipped: float = 0.0
) -> Made:
    """Scans of digits, 8x8, in 10 classes.

    Args:
        shuffled: Whether the labels are dealt anew.
        flipped: The part of the labels that is of another class.
    """
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(y))
    x, y = x[order].reshape(-1, 1, 8, 8) * 15, y[order]
    y = rng.permutation(y) if shuffled else y
    wrong = rng.random(len(y)) < flipped
    y = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
    return parted(x, y, n, validation)


def parted(x: np.ndarray, y: np.ndarray, n: int, validation: int) -> Made:
    cuts = {
        "train": slice(n),
        "validation": slice(n, n + validation),
        "test": slice(n + validation, n + validation + 4),
    }
    return {name: (x[cut].astype(np.uint8), y[cut]) for name, cut in cuts.items()}


def stripes(
    rng: np.random.Generator,
    n: int = 300,
    validation: int = 150,
    shape: tuple[int, ...] = (8, 8),
    contrast: float = 1.0,
    shuffled: bool = False,
    classes: int = 3,
) -> Made:
    """Noise with a brighter stripe, whose place is the class: pictures, or volumes."""
    total = n + validation + 4
    y = rng.integers(0, classes, total)
    x = rng.normal(100, 25, (total, 1, *shape))
    width = shape[-1] // classes
    for i, label in enumerate(y):
        x[i, ..., label * width : (label + 1) * width] += 50 * contrast
    return parted(x.clip(0, 255), rng.permutation(y) if shuffled else y, n, validation)


def labels(rng: np.random.Generator, flipped: float = 0.0, shuffled: bool = False) -> Made:
    """Three labels of a picture, one for each third that is bright; every tenth answer is unknown."""
    total = 604
    holds = rng.random((total, 3)) < (0.5, 0.3, 0.6)
    x = rng.normal(80, 25, (total, 1, 9, 9)) + 60 * np.repeat(holds, 3, 1)[:, None, None, :]
    said = rng.permutation(holds) if shuffled else holds
    said = np.where(rng.random(said.shape) < flipped, ~said, said).astype(float)
    said[rng.random(said.shape) < 0.1] = np.nan
    return parted(x.clip(0, 255), said, 400, 200)


def numbers(rng: np.random.Generator, shuffled: bool = False, noise: float = 0.0) -> Made:
    """The diameter of a disc, in mm."""
    total = 604
    size = rng.uniform(2, 14, total)
    centre = rng.uniform(6, 10, (total, 2, 1, 1))
    at = np.indices((16, 16))[None]
    inside = np.hypot(*np.moveaxis(at - centre, 1, 0)) < size[:, None, None] / 2
    x = rng.normal(60, 15, (total, 1, 16, 16)) + 120 * inside[:, None]
    said = (rng.permutation(size) if shuffled else size) + rng.normal(0, noise, total) if noise or shuffled else size
    return parted(x.clip(0, 255), said[:, None], 400, 200)


CASES = [
    Planted("good: digits", "sound", digits, {"network": SMALL, "epochs": 12}),
    Planted("good: volumes", "sound", lambda rng: stripes(rng, shape=(6, 8, 9)), {"network": SMALL, "epochs": 10}),
    Planted("good: labels, some unknown", "sound", labels, {"network": SMALL, "epochs": 15}, "multilabel"),
    Planted("good: a number", "sound", numbers, {"network": SMALL, "epochs": 25}, "regression"),
    Planted(
        "good: smoothed, mixed up, weighted, shrunk at first",
        "sound",
        digits,
        {
            "network": SMALL,
            "epochs": 14,
            "loss": {"label_smoothing": 0.1, "class_weights": "balanced"},
            "augment": {"mixup": 0.2},
            "progressive": {"epochs": 2, "scale": 0.75},
        },
    ),
    Planted("good: a constant rate", "sound", digits, {"network": TWO_LAYERS, **ADAM, "lr": 0.002, "epochs": 15}),
    Planted(
        "chance: digits' labels shuffled",
        "at chance",
        lambda rng: digits(rng, shuffled=True),
        {"network": SMALL, "epochs": 8},
    ),
    Planted(
        "chance: volumes without a stripe",
        "at chance",
        lambda rng: stripes(rng, 400, 200, (6, 8, 9), contrast=0.0),
        {"network": SMALL, "epochs": 5, "lr": 0.003},
    ),
    Planted(
        "chance: labels shuffled",
        "at chance",
        lambda rng: labels(rng, shuffled=True),
        {"network": SMALL, "epochs": 5, "lr": 0.003},
        "multilabel",
    ),
    Planted(
        "chance: numbers shuffled",
        "at chance",
        lambda rng: numbers(rng, shuffled=True),
        {"network": SMALL, "epochs": 5, "lr": 0.003},
        "regression",
    ),
    Planted(
        "learnt by heart: labels shuffled, a wide network",
        "memorisation",
        lambda rng: digits(rng, 400, 300, shuffled=True),
        {"network": WIDE, **ADAM, "lr": 0.003, "epochs": 30},
    ),
    Planted(
        "learnt by heart: numbers shuffled",
        "memorisation",
        lambda rng: numbers(rng, shuffled=True),
        {"network": WIDE, **ADAM, "lr": 0.003, "epochs": 40},
        "regression",
    ),
    Planted(
        "overfit: faint stripes in 60 pictures, the best epoch kept",
        "overfitting",
        lambda rng: stripes(rng, 60, 400, contrast=0.2),
        {"network": WIDE, **ADAM, "lr": 0.003, "epochs": 40},
    ),
    Planted(
        "overfit: the last epoch kept",
        "overfitting",
        lambda rng: stripes(rng, 60, 400, contrast=0.2),
        {"network": WIDE, **ADAM, "lr": 0.003, "epochs": 40, "keep": "last"},
    ),
    Planted("unfinished: 3 epochs, one cycle", "unfinished", digits, {"network": SMALL, "epochs": 3}),
    Planted(
        "unfinished: a constant rate",
        "unfinished",
        digits,
        {"network": TWO_LAYERS, **ADAM, "lr": 0.0002, "epochs": 8},
    ),
    Planted("lr 50", "learning rate too high", digits, {"network": SMALL, "epochs": 8, "lr": 50.0}),
    Planted(
        "lr 50, a number",
        "learning rate too high",
        numbers,
        {"network": SMALL, "epochs": 8, "lr": 50.0},
        "regression",
    ),
    Planted(
        "lr 3, Adam, tanh",
        "learning rate too high",
        digits,
        {"network": {"name": "convolutional"}, **ADAM, "lr": 3.0, "epochs": 6},
    ),
    Planted("lr 1e-6", "learning rate too low", digits, {"network": TWO_LAYERS, **ADAM, "lr": 1e-6, "epochs": 6}),
    Planted(
        "dead: a layer whose ReLUs never answer",
        "dead layer",
        digits,
        {
            "network": {"name": "fully_connected", "arguments": {"widths": [32, 32], "activation": "ReLU"}},
            **ADAM,
            "lr": 0.001,
            "epochs": 6,
        },
        killed="layers.3",
    ),
    Planted(
        "vanishing: 12 layers of sigmoids",
        "vanishing gradients",
        lambda rng: stripes(rng, 100, 100),
        {
            "network": {"name": "fully_connected", "arguments": {"widths": [16] * 12, "activation": "Sigmoid"}},
            "epochs": 4,
            "lr": 0.1,
            "optimizer": {"name": "SGD"},
            **CONSTANT,
        },
    ),
    Planted(
        "underfit: one hidden unit for 10 classes",
        "underfitting",
        digits,
        {"network": {"name": "fully_connected", "arguments": {"widths": [1]}}, "epochs": 20},
    ),
    Planted(
        "underfit: labels by one hidden unit",
        "underfitting",
        labels,
        {"network": {"name": "fully_connected", "arguments": {"widths": [1]}}, "epochs": 20},
        "multilabel",
    ),
    Planted(
        "label noise: 30 % of the digits",
        "label noise",
        lambda rng: digits(rng, flipped=0.3),
        {"network": SMALL, "epochs": 12},
    ),
    Planted(
        "label noise: 25 % of the labels",
        "label noise",
        lambda rng: labels(rng, flipped=0.25),
        {"network": SMALL, "epochs": 10, "lr": 0.003},
        "multilabel",
    ),
    Planted(
        "4 validation cases, hard to tell",
        "too few validation cases",
        lambda rng: stripes(rng, 100, 4, contrast=0.3),
        {"network": SMALL, "epochs": 6},
    ),
    Planted(
        "no validation split",
        "not validated",
        lambda rng: digits(rng, validation=0),
        {"network": SMALL, "epochs": 8, "keep": "last"},
    ),
]


def write(path: Path, made: Made, kind: str) -> None:
    """A dataset.h5 of uint8 samples."""
    x, answers = made["train"]
    asked = None
    if kind == "multilabel":
        asked = tensors.Asked("multilabel", ["left", "middle", "right"])
    elif kind == "regression":
        asked = tensors.Asked("regression", ["diameter"], "mm", float(answers.mean()), float(answers.std()))
    classes = asked.names if asked else [f"class{i}" for i in range(int(answers.max()) + 1)]
    spacing = [1.0] * (x.ndim - 2) if x.ndim == 5 else None
    geometry = {"colour": "keep", "resize": None, "spacing_mm": spacing, "shape": list(x.shape[2:]), "fill": 0.0,
                "dtype": "uint8"}  # fmt: skip
    moments = {"minimum": [float(x.min())], "maximum": [float(x.max())], "mean": [float(x.mean())],
               "deviation": [float(x.std())]}  # fmt: skip
    axes = "NCDHW" if x.ndim == 5 else "NCHW"
    about = tensors.Description(
        classes, axes, list(x.shape[1:]), "uint8", "", spacing, geometry, moments, asdict(asked) if asked else None
    )
    with tensors.writing(path, x.shape[1:], "uint8") as writer:
        for name in SPLITS:
            samples, said = made[name]
            ids = [f"{name[:2]}{i:05d}" for i in range(len(samples))]
            y, target = (np.zeros(len(said), int), said) if asked else (said, None)
            writer.write_split(name, samples, y, ids, ids, target)
        writer.describe(about)


def diagnosed(planted: Planted, folder: Path, seed: int) -> dict[str, Any]:
    """Trains, and returns the diagnosis."""
    write(folder / "dataset.h5", planted.make(np.random.default_rng(seed)), planted.kind)
    given = {"seed": seed, "batch_size": 32, **planted.given}
    if planted.killed:
        given["pretrained"] = str(kill(folder, given, planted.killed))
    outs = folder / "model.pt", folder / "train.json", folder / "history.csv"
    train.main(folder / "dataset.h5", *outs, params.check(TrainParams, given), "planted")
    return json.loads(outs[1].read_text())["diagnosis"]


def kill(folder: Path, given: dict[str, Any], layer: str) -> Path:
    """Weights to begin from, of which one layer's biases are so low that no sample passes the ReLU after it."""
    from stages.lib.model import networks

    about = tensors.read_description(folder / "dataset.h5")
    network = given["network"]
    torch.manual_seed(given["seed"])
    weights = networks.build(
        network["name"], about.shape[0], len(about.classes), tuple(about.shape[1:]), network["arguments"]
    ).state_dict()
    weights[f"{layer}.bias"].fill_(-1e3)
    torch.save(weights, folder / "dead.pth")
    return folder / "dead.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    print("| planted | verdict | right | the sentence |\n|---|---|---|---|")
    for planted in CASES:
        if options.names and not any(name in planted.what for name in options.names):
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            found = diagnosed(planted, Path(folder), options.seed)
        right = "yes" if found["verdict"] == planted.expected else f"no: {planted.expected}"
        sentence = found["sentence"].partition(": ")[2].partition("; try ")[0]
        print(f"| {planted.what} | {found['verdict']} | {right} | {sentence} |", flush=True)


if __name__ == "__main__":
    main()
