"""The tensors of a fold: those of training and validation in dataset.h5, read when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from stages.lib import tensors
from stages.lib.core.errors import DamagedOut
from stages.lib.studies import folds
from stages.lib.studies.folds import Folds
from stages.lib.tensors import Split


class Rows:
    """Samples of several memory-mapped arrays as one array: what is indexed is read, and nothing else."""

    def __init__(self, parts: Sequence[np.ndarray], rows: np.ndarray) -> None:
        """Args: rows: Which samples, as positions in all parts end to end."""
        self._parts, self._rows = list(parts), rows
        self.shape = (len(rows), *parts[0].shape[1:])
        self.dtype, self.ndim = parts[0].dtype, parts[0].ndim
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: "int | slice | np.ndarray") -> np.ndarray:
        rows = self._rows[key]
        found = np.empty((np.size(rows), *self.shape[1:]), self.dtype)
        start = 0
        for part in self._parts:
            own = (np.atleast_1d(rows) >= start) & (np.atleast_1d(rows) < start + len(part))
            found[own] = part[np.atleast_1d(rows)[own] - start]
            start += len(part)
        return found if np.ndim(rows) else found[0]


@dataclass(frozen=True)
class Pool:
    """All cases outside of the test split, ascending by name, with their folds."""

    splits: Sequence[Split]  # training and validation, of dataset.h5
    order: np.ndarray  # (N,) of all of both
    folds: Folds

    def chosen(self, which: np.ndarray) -> Split:
        """Some of the cases: (N,) bool."""
        rows = self.order[which]
        columns: dict[str, Any] = {}
        for name in ("y", "case", "group", "target", "weight"):
            parts = [getattr(split, name) for split in self.splits]
            columns[name] = None if parts[0] is None else np.concatenate(parts)[rows]
        return Split(cast(np.ndarray, Rows([split.x for split in self.splits], rows)), **columns)

    def held(self, fold: int) -> Split:
        """The cases of a fold."""
        return self.chosen(self.folds.fold_of == fold)

    def others(self, fold: int) -> Split:
        """The cases that are trained on when a fold is held out."""
        return self.chosen(self.folds.fold_of != fold)


def read(dataset_h5: Path, folds_csv: Path) -> Pool:
    """Raises:
    DamagedOut: One of the files is damaged, or they are not of the same cases.
    """
    dealt = folds.read(folds_csv)
    splits = [tensors.read_split(dataset_h5, name) for name in ("train", "validation")]
    case = np.concatenate([split.case for split in splits])
    order = np.argsort(case, kind="stable")
    if not np.array_equal(case[order], dealt.case):
        raise DamagedOut("they are not of the same cases", folds_csv, dataset_h5)
    return Pool(splits, order, dealt)
