"""Tiny inputs, made on the spot."""

from pathlib import Path

import numpy as np
import pytest

from stages.lib import tensors


def write_dataset_h5(path: Path, shape: tuple[int, ...] = (1, 8, 8), classes: int = 3, per_split: int = 24) -> None:
    """A dataset.h5 of (C, H, W) uint8 or (C, D, H, W) int16; where the bright stripe lies tells the class."""
    rng = np.random.default_rng(0)
    volume = len(shape) == 4
    dtype, low, high = ("int16", -1000, 400) if volume else ("uint8", 0, 255)
    names = [f"class{i}" for i in range(classes)]
    writer = tensors.Writer(path, shape, dtype)
    everything = []
    for split in tensors.SPLITS:
        labels = np.arange(per_split) % classes
        x = rng.integers(low, (low + high) // 2, (per_split, *shape)).astype(dtype)
        for i, label in enumerate(labels):
            stripe = shape[-1] // classes
            x[i, ..., label * stripe : (label + 1) * stripe] = high
        ids = [f"{split[:2]}{i:04d}" for i in range(per_split)]
        writer.write_split(split, x, labels, ids, ids)
        everything.append(x)
    train = everything[0].astype(np.float64)
    moments = {
        k: [float(getattr(train, f)())] * shape[0]
        for k, f in (("minimum", "min"), ("maximum", "max"), ("mean", "mean"), ("deviation", "std"))
    }
    writer.close(
        tensors.Description(
            classes=names,
            axes="NCDHW" if volume else "NCHW",
            shape=list(shape),
            dtype=dtype,
            units="HU" if volume else "",
            spacing_mm=[2.0, 1.0, 1.0] if volume else None,
            geometry={},
            moments=moments,
        )
    )


@pytest.fixture
def images_h5(tmp_path: Path) -> Path:
    """A dataset.h5 of 8x8 grey pictures in 3 classes, 24 a split."""
    write_dataset_h5(tmp_path / "images.h5")
    return tmp_path / "images.h5"


@pytest.fixture
def volumes_h5(tmp_path: Path) -> Path:
    """A dataset.h5 of 6x8x8 int16 volumes in 3 classes, 24 a split."""
    write_dataset_h5(tmp_path / "volumes.h5", (1, 6, 8, 8))
    return tmp_path / "volumes.h5"
