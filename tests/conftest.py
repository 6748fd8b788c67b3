"""How tests are distributed over the cores, and small inputs that they share."""

import gc
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.lib import cases, splits, tensors, workers
from stages.lib.model import checkpoint

# A shell's background job inherits that SIGINT is ignored, and one of nohup SIGHUP: programs under test would, too, and
# rightly not end at either.
for ignored in {signal.SIGINT, signal.SIGHUP}:
    if signal.getsignal(ignored) == signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)

# No power fails in a test: what is written outlives a killed process, too, without waiting for the disk. A descriptor
# that is no file's is still an error.
os.fsync = os.fstat  # type: ignore[assignment]


SLOWEST = (  # over a minute each
    "studies/test_by_dvc.py",
    "tools/test_agree_targets.py",
    "test_docs.py",
    "export/test_export.py",
    "tools/test_agree.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one process per core that this process may use."""
    return workers.count(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In parallel, runs files with slow tests first, the slowest before all: a long one at the very end would leave the
    other cores idle.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow_files = {item.path for item in items if item.get_closest_marker("slow")}
        slowest = {Path(__file__).parent / name: place - len(SLOWEST) for place, name in enumerate(SLOWEST)}
        items.sort(key=lambda item: slowest.get(item.path, item.path not in slow_files))


def pytest_collection_finish() -> None:
    """Takes what the imports and the tests themselves are made of out of the garbage collector's rounds."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Gives it back: some libraries complain about what is left at the end."""
    gc.unfreeze()


@pytest.fixture
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No workers for what takes as many as there are cores, but in slow tests: each needs a second to start."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


def target_of(kind: str, labels: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """What a dataset.h5 has of a kind of target besides: y, (N, K) target, and the description's `target`.

    A class's share is 0.75 of the stripe's; the label of a stripe holds, no other does, and of every fifth case the
    last is not known; a number is 10 mm and 2 mm more for each place of the stripe.
    """
    shares = np.where(labels[:, None] == np.arange(len(names)), 0.75, 0.25 / max(1, len(names) - 1))
    if kind in ("classes", "ordinal"):
        return labels, shares, {"kind": kind, "names": names}
    if kind == "multilabel":
        holds = (shares > 0.5).astype(float)
        holds[::5, -1] = np.nan
        return np.zeros_like(labels), holds, {"kind": kind, "names": names}
    values = 10.0 + 2 * labels[:, None]
    learnt = np.log(values) if kind == "log_regression" else values
    known = {"mean": float(learnt.mean()), "deviation": float(learnt.std())} if len(learnt) else {}
    return np.zeros_like(labels), values, {"kind": kind, "names": ["diameter"], "unit": "mm", **known}


def write_dataset_h5(
    path: Path,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 3,
    per_split: int = 24,
    empty: tuple[str, ...] = (),
    kind: str | None = None,
    weighted: bool = False,
) -> None:
    """A dataset.h5 of (C, H, W) uint8 or (C, D, H, W) int16; the position of a bright stripe is the class.

    Args:
        kind: Of the target, as of `target_of`; None: the class alone.
        weighted: Whether every second case counts twice.
    """
    rng = np.random.default_rng(0)
    volume = len(shape) == 4
    dtype, low, high = ("int16", -1000, 400) if volume else ("uint8", 0, 255)
    names = [f"class{i}" for i in range(classes)]
    everything = {}
    for split in splits.SPLITS:
        labels = np.arange(0 if split in empty else per_split) % classes
        x = rng.integers(low, (low + high) // 2, (len(labels), *shape)).astype(dtype)
        for i, label in enumerate(labels):
            stripe = shape[-1] // classes
            x[i, ..., label * stripe : (label + 1) * stripe] = high
        everything[split] = x, labels, [f"{split[:2]}{i:04d}" for i in range(len(labels))]
    answers = {
        split: target_of(kind, of[1], names) if kind else (of[1], None, None) for split, of in everything.items()
    }
    asked = answers["train"][2]
    asked = asdict(tensors.Asked(**asked)) if asked else None
    train = everything["train"][0].astype(np.float64)
    moments = {
        k: [float(getattr(train, f)())] * shape[0]
        for k, f in (("minimum", "min"), ("maximum", "max"), ("mean", "mean"), ("deviation", "std"))
    }
    about = tensors.Description(
        classes=names if asked is None else asked["names"],
        axes="NCDHW" if volume else "NCHW",
        shape=list(shape),
        dtype=dtype,
        units="HU" if volume else "",
        spacing_mm=[2.0, 1.0, 1.0] if volume else None,
        geometry={
            "colour": "keep",
            "resize": None,
            "spacing_mm": [2.0, 1.0, 1.0] if volume else None,
            "shape": list(shape[1:]),
            "fill": float(low),
            "dtype": dtype,
        },
        moments=moments,
        target=asked,
    )
    with tensors.writing(path, shape, dtype) as writer:
        for split, (x, _, ids) in everything.items():
            weight = 1.0 + np.arange(len(x)) % 2 if weighted else None
            writer.write_split(split, x, answers[split][0], ids, ids, answers[split][1], weight)
        writer.describe(about)


def write_cases_of(folder: Path, dataset_h5: Path) -> None:
    """The cases/ for a dataset.h5 of `write_dataset_h5`: the same samples, which geometry leaves as they are."""
    read = [tensors.read_split(dataset_h5, name) for name in splits.SPLITS]
    about = tensors.read_description(dataset_h5)
    pixels = {case: x for split in read for case, x in zip(split.cases, split.x, strict=True)}
    spacings = [tuple(about.spacing_mm)] * len(pixels) if about.spacing_mm else None
    cases.write_cases(folder, pixels, about.axes[1:], about.units, spacings)


def write_cases(folder: Path, pixels: list[np.ndarray], spacing_mm: tuple[float, ...] | None = None) -> None:
    """Writes cases/ and split.csv: alternating classes; of every 10 cases, 6 train, 2 validation and 2 test."""
    axes = "CHW" if pixels[0].ndim == 3 else "CDHW"
    ids = [f"case{i:04d}" for i in range(len(pixels))]
    spacings = [spacing_mm] * len(ids) if spacing_mm else None
    cases.write_cases(
        folder / "cases", dict(zip(ids, pixels, strict=True)), axes, "HU" if axes == "CDHW" else "", spacings
    )
    split = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    table = pd.DataFrame({"case": ids, "group": ids, "label": ["a" if i % 2 else "b" for i in range(len(ids))]})
    table["split"] = [split[i % 10] for i in range(len(ids))]
    table.to_csv(folder / "split.csv", index=False)


def write_model_pt(
    path: Path, dataset_h5: Path, network: str = "fully_connected", arguments: dict | None = None, trained: bool = False
) -> None:
    """A checkpoint for a dataset.h5 of `write_dataset_h5`; if `trained`, it has learnt to recognise the stripes."""
    torch.manual_seed(0)
    about = tensors.read_description(dataset_h5)
    low, high = about.moments["minimum"], about.moments["maximum"]
    scale = [1 / (b - a) for a, b in zip(low, high, strict=True)]
    normalise = {"low": low, "high": high, "shift": low, "scale": scale, "dims": len(about.shape) - 1}
    recipe = checkpoint.Recipe(network, arguments or {}, normalise, about.plain())
    model = checkpoint.build(recipe)
    if trained:
        split = tensors.read_split(dataset_h5, "train")
        x = torch.from_numpy(np.array(split.x))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(40):
            optimizer.zero_grad()
            _loss(model(x), split, about.asked).backward()
            optimizer.step()
    checkpoint.save(path, recipe, model)


def _loss(answers: torch.Tensor, split: tensors.Split, asked: tensors.Asked) -> torch.Tensor:
    if asked.target.of_one_class:
        return torch.nn.functional.cross_entropy(answers, torch.from_numpy(np.array(split.y)))
    target = torch.from_numpy(np.array(split.target))
    if asked.kind == "multilabel":
        return torch.nn.functional.binary_cross_entropy_with_logits(answers, target.nan_to_num())
    learnt = target.log() if asked.kind == "log_regression" else target
    return torch.nn.functional.mse_loss(answers, (learnt - asked.mean) / asked.deviation)


@pytest.fixture
def images_h5(tmp_path: Path) -> Path:
    """A dataset.h5 of 8x8 grey pictures in 3 classes, 24 per split."""
    write_dataset_h5(tmp_path / "images.h5")
    return tmp_path / "images.h5"


@pytest.fixture
def volumes_h5(tmp_path: Path) -> Path:
    """A dataset.h5 of 6x8x8 int16 volumes in 3 classes, 24 per split."""
    write_dataset_h5(tmp_path / "volumes.h5", (1, 6, 8, 8))
    return tmp_path / "volumes.h5"
