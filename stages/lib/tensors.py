"""dataset.h5: training-ready tensors of one shape and a compact dtype, to be memory-mapped.

Layout, with <split> one of train, validation, test:

    /<split>/x      (N, C, H, W) or (N, C, D, H, W), contiguous, the dataset's own integers (or float32)
    /<split>/y      (N,) int64: index into the classes
    /<split>/case   (N,) S16: the cases' identifiers, ascending
    /<split>/group  (N,) S16
    /description    JSON, see `Description`
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.lib.core.errors import UserError


@dataclass(frozen=True)
class Description:
    """The meaning of the tensors; it is copied into the checkpoint and into the exported files' metadata."""

    classes: list[str]
    axes: str  # "NCHW" or "NCDHW"
    shape: list[int]  # of one sample, without N
    dtype: str
    units: str  # "HU", or "" where the numbers have no unit
    spacing_mm: list[float] | None  # along D, H, W (or H, W)
    geometry: dict[str, Any]  # arguments of stages.lib.geometry.Geometry: how a case became this shape
    moments: dict[str, list[float]]  # minimum, maximum, mean, deviation: of each channel of the training split's x


@dataclass(frozen=True)
class Split:
    """One split's tensors, memory-mapped and read-only: the system reads what is used, and may drop it again."""

    x: np.ndarray  # (N, C, H, W) or (N, C, D, H, W)
    y: np.ndarray  # (N,) int64
    case: np.ndarray  # (N,) S16
    group: np.ndarray  # (N,) S16

    @property
    def cases(self) -> list[str]:
        return self.case.astype(str).tolist()

    @property
    def groups(self) -> list[str]:
        return self.group.astype(str).tolist()


def read_description(dataset_h5: Path) -> Description:
    with _open(dataset_h5) as file:
        return Description(**json.loads(file["description"][()]))


def read_split(dataset_h5: Path, name: str) -> Split:
    """One split of dataset.h5, memory-mapped."""
    with _open(dataset_h5) as file:
        return Split(*(_mapped(dataset_h5, file[name][array]) for array in ("x", "y", "case", "group")))


def _mapped(path: Path, array: h5py.Dataset) -> np.ndarray:
    start = array.id.get_offset()
    if start is None:  # an array without elements has no place in the file
        return np.empty(array.shape, array.dtype)
    return np.asarray(np.memmap(path, array.dtype, "r", offset=start, shape=array.shape))


def check_made_for(dataset_h5: Path, description: Mapping[str, object]) -> None:
    """Refuses a model that was trained on other tensors: its classes or its shape may differ, and nobody would notice.

    Args:
        description: The one that the model carries.

    Raises:
        UserError: It is not that of the tensors.
    """
    current = asdict(read_description(dataset_h5))
    differing = [name for name in current if current[name] != description.get(name)]
    if differing:
        raise UserError(
            f"{dataset_h5} is not what the model was trained on ({', '.join(differing)}): run the train stage again"
        )


def _open(dataset_h5: Path) -> h5py.File:
    if not dataset_h5.exists():
        raise UserError(f"{dataset_h5} not found: run the dataset stage first")
    return h5py.File(dataset_h5)


class Writer:
    """Writes dataset.h5 a split at a time, holding one sample in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        """Args: path: The file; shape: (C, H, W) or (C, D, H, W) of a sample; dtype: Of the samples."""
        self._file = h5py.File(path, "w", libver="v110")
        self._shape, self._dtype = shape, dtype

    def write_split(
        self, name: str, samples: Iterable[np.ndarray], labels: np.ndarray, cases: list[str], groups: list[str]
    ) -> None:
        group = self._file.create_group(name)
        x = group.create_dataset("x", (len(labels), *self._shape), self._dtype)
        for label, axis in zip("NCDHW" if len(self._shape) == 4 else "NCHW", x.dims, strict=True):
            axis.label = label
        for i, sample in enumerate(samples):
            x[i] = sample
        group["y"] = labels.astype(np.int64)
        group["case"] = np.array(cases, "S16")
        group["group"] = np.array(groups, "S16")

    def close(self, description: Description) -> None:
        self._file["description"] = json.dumps(asdict(description))
        self._file.close()
