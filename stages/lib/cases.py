"""cases.h5: every case's own integers, one after the other, to be memory-mapped.

Layout (N cases in the order of their identifiers, A axes: "CHW" for images, "CDHW" for volumes):

    /pixels/<dtype>  (elements,) contiguous: the cases of that dtype end to end, each in C order
    /case            (N,) S16: keyed hash, the name of the case everywhere in the project
    /dtype           (N,) S8: which of /pixels the case lies in
    /offset          (N,) int64: its first element there
    /shape           (N, A) int64
    /spacing_mm      (N, A - 1) float64: along D, H, W (or H, W); nan where unknown
    attributes       axes ("CHW" or "CDHW"), units ("HU" or "")

One flat array a dtype, not a data set a case: 50,000 small pictures would be 50,000 HDF5 objects, slow to make and to
open, and cases differ in shape. A case is read without a copy, as a view of the mapped file:

    with Cases(path) as cases:
        for pixels in cases:  # (C, H, W) or (C, D, H, W), read-only
            ...
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import h5py
import numpy as np

from stages.lib.errors import UserError


@dataclass(frozen=True, slots=True)
class Entry:
    """What must be known of a case before there is a place for its pixels."""

    case: str
    dtype: str
    shape: tuple[int, ...]  # (C, H, W) or (C, D, H, W)
    spacing_mm: tuple[float, ...] | None = None  # along D, H, W (or H, W)


class Cases:
    """Reads cases.h5, in the order of the file, which is that of cases.csv; with mode "r+" its pixels can be set."""

    def __init__(self, path: Path, mode: Literal["r", "r+"] = "r") -> None:
        if not path.exists():
            raise UserError(f"{path} not found: run the ingest stage first")
        with h5py.File(path) as file:
            self.axes: str = file.attrs["axes"]
            self.units: str = file.attrs["units"]
            self.ids: list[str] = [case.decode() for case in file["case"][:]]
            self.shapes: np.ndarray = file["shape"][:]  # (N, A)
            self.spacings_mm: np.ndarray = file["spacing_mm"][:]  # (N, A - 1)
            self._dtypes = [dtype.decode() for dtype in file["dtype"][:]]
            self._offsets = file["offset"][:]
            starts = {dtype: pixels.id.get_offset() for dtype, pixels in file["pixels"].items()}
            self._mapped = {
                dtype: np.memmap(path, dtype, mode, offset=starts[dtype], shape=pixels.shape)
                for dtype, pixels in file["pixels"].items()
            }
        self._starts = starts
        self._index = {case: i for i, case in enumerate(self.ids)}

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.axes) - 1

    @property
    def dtypes(self) -> list[str]:
        """The dtypes that occur, sorted."""
        return sorted(self._mapped)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, case: int | str) -> np.ndarray:
        """A case's pixels by position or identifier: a view, (C, H, W) or (C, D, H, W)."""
        i = self.index(case) if isinstance(case, str) else case
        shape = tuple(self.shapes[i])
        start = int(self._offsets[i])
        flat = self._mapped[self._dtypes[i]][start : start + math.prod(shape)]
        return flat.reshape(shape).view(np.ndarray)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def index(self, case: str) -> int:
        """The position of a case.

        Raises:
            UserError: The file has no such case.
        """
        if case not in self._index:
            raise UserError(f"case {case} is not in cases.h5: run the ingest and split stages again")
        return self._index[case]

    def byte_offset(self, i: int) -> int:
        """Where in the file a case's first pixel lies."""
        dtype = self._dtypes[i]
        return self._starts[dtype] + int(self._offsets[i]) * np.dtype(dtype).itemsize

    def __enter__(self) -> "Cases":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._mapped.clear()


def allocate(path: Path, entries: Sequence[Entry], axes: str, units: str = "") -> None:
    """Makes a cases.h5 with a place for every case, in the order given; `Cases(path, "r+")` then fills them.

    Several processes may fill at once, through a map of their own, or by writing at `byte_offset` (which keeps the
    pages out of their memory).

    Args:
        axes: "CHW" or "CDHW".
        units: "HU" where the numbers are Hounsfield units.
    """
    ends: Counter[str] = Counter()
    offsets = []
    for entry in entries:
        offsets.append(ends[entry.dtype])
        ends[entry.dtype] += math.prod(entry.shape)
    # A place on the disk at once, so that it can be mapped, and not filled with zeros first.
    places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    places.set_obj_track_times(False)  # HDF5 would note the time
    with h5py.File(path, "w", libver="v110") as file:
        file.attrs["axes"], file.attrs["units"] = axes, units
        file["case"] = np.array([entry.case for entry in entries], "S16")
        file["dtype"] = np.array([entry.dtype for entry in entries], "S8")
        file["offset"] = np.array(offsets, np.int64)
        file["shape"] = np.array([entry.shape for entry in entries], np.int64).reshape(-1, len(axes))
        unknown = (math.nan,) * (len(axes) - 1)
        file["spacing_mm"] = np.array([entry.spacing_mm or unknown for entry in entries]).reshape(-1, len(axes) - 1)
        for name, label in (("shape", axes), ("spacing_mm", axes[1:])):
            file[name].attrs["columns"] = label
        pixels = file.create_group("pixels")
        for dtype in sorted(ends):
            space = h5py.h5s.create_simple((ends[dtype],))
            kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
            h5py.h5d.create(pixels.id, dtype.encode(), kind, space, places)
