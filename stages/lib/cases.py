"""cases/: every case's own integers, end to end in HDF5 files of a few MiB (the pieces), to be memory-mapped.

Which piece a case is in depends on the first bits of its identifier. So new data change only the pieces that they fall
into: ingest writes no others again, and `dvc push` sends no others. A piece, in the order of the identifiers (n cases,
A axes: "CHW" for images, "CDHW" for volumes):

    <first bits in hexadecimal digits>.h5
        /index           (n,) of
            case         S16: keyed hash, the identifier of the case everywhere in the project
            dtype        S8: which array of /pixels holds the case
            offset       int64: its first element in that array
            shape        (A,) int64
            spacing_mm   (A - 1,) float64: along D, H, W (or H, W); nan where unknown
        /pixels/<dtype>  (elements,) contiguous: the cases of that dtype end to end, each in C order
        attributes       axes ("CHW" or "CDHW"), units ("HU" or ""), of a fixed length

One flat array per dtype, not one array per case: cases differ in shape, and 50,000 small pictures would be 50,000 HDF5
objects, slow to write and to open. A case is read without a copy, as a view of the mapped file:

    with Cases(folder) as cases:
        for pixels in cases:  # (C, H, W) or (C, D, H, W), read-only
            ...
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from stages.lib.core import hdf5, new_hdf5
from stages.lib.core.errors import DamagedOut
from stages.lib.core.reading import reading

MIN_PIECE_BYTES = 1 << 20  # of raw files, on average over the pieces of a larger data set
MIN_PIECE_CASES = 2  # likewise
AXES = ("CHW", "CDHW")
UNITS = ("", "HU")
MOST_MAPPED = 16  # pieces at once
BLOCK_CASES = 1 << 16  # looked at at once
MOST_PIXELS = 1 << 48  # of a piece: products of sizes stay far from what int64 holds


def piece_bits(raw_bytes: int, cases: int) -> int:
    """How many first bits of an identifier say which piece its case is in.

    That follows from the data alone, not from the folder's earlier state: else the same data could give other bytes.
    """
    most = min(raw_bytes // MIN_PIECE_BYTES, cases // MIN_PIECE_CASES)
    return max(1, most).bit_length() - 1


def piece_name(piece: int, bits: int) -> str:
    return f"{piece:0{max(1, math.ceil(bits / 4))}x}.h5"


def index_dtype(axes: str) -> np.dtype:
    return np.dtype(
        [
            *[("case", "S16"), ("dtype", "S8"), ("offset", "<i8")],
            *[("shape", "<i8", len(axes)), ("spacing_mm", "<f8", len(axes) - 1)],
        ]
    )


@dataclass(frozen=True)
class Piece:
    """One file of cases/, checked."""

    path: Path
    axes: str
    units: str
    pixels: dict[str, hdf5.Place]  # by dtype

    @classmethod
    def read(cls, path: Path) -> "tuple[Piece, np.ndarray]":
        """Reads all but the pixels; gives its index, too.

        Raises:
            DamagedOut: The file is none that ingest could have written.
        """
        with hdf5.opened(path) as file:
            axes, units = hdf5.attribute(file, "axes", AXES), hdf5.attribute(file, "units", UNITS)
            hdf5.place(file, "index", index_dtype(axes), (None,))
            index = file["index"][:]
            arrays = hdf5.group(file, "pixels")
            if strange := set(arrays) - set(hdf5.PIXELS):
                raise ValueError(f"pixels of {min(strange)}: expected {', '.join(hdf5.PIXELS)}")
            pixels = {name: hdf5.place(arrays, name, name, (None,)) for name in arrays}
            _check_index(index, {name: place.shape[0] for name, place in pixels.items()})
        return cls(path, axes, units, pixels), index


def _check_index(index: np.ndarray, elements: Mapping[str, int]) -> None:
    """Raises a ValueError unless the cases fill the arrays of pixels, one after the other."""
    shapes, spacings = index["shape"], index["spacing_mm"]
    if not len(index):
        raise ValueError("it has no case")
    if (shapes < 1).any() or shapes.astype(float).prod(axis=1).sum() > MOST_PIXELS:
        raise ValueError("a case has an impossible shape")
    if not (np.isnan(spacings) | (spacings > 0) & np.isfinite(spacings)).all():
        raise ValueError("a case has a spacing that is no positive number")
    packed, ends = index_of(index["case"], index["dtype"], shapes, spacings)
    if ends != elements or not np.array_equal(packed["offset"], index["offset"]):
        raise ValueError("its index does not fit its pixels")


class Cases:
    """Reads cases/, in the order of the identifiers, which is that of cases.csv."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: cases/.

        Raises:
            DamagedOut: It is missing, or a piece is none that ingest could have written.
        """
        self.folder = folder
        with reading(folder):
            names = sorted(name for name in os.listdir(folder) if name.endswith(".h5"))
            if not names:
                raise ValueError("it has no cases")
        self._read: list[Piece] = []
        columns = {name: _Column() for name in ("case", "dtype", "offset", "shape", "spacing_mm")}
        for name in names:
            piece, index = Piece.read(folder / name)
            self._read.append(piece)
            for field, column in columns.items():
                column.add(index[field])
        first = self._read[0]
        self.axes, self.units = first.axes, first.units
        for piece in self._read:
            if (piece.axes, piece.units) != (first.axes, first.units):
                raise DamagedOut(f"{piece.path.name} has other axes or units than {first.path.name}", folder)
        sizes = columns["case"].sizes
        self.piece_of = np.repeat(np.arange(len(names), dtype=np.int32), sizes)
        self.names, self.dtype_of, self.offsets = (columns[name].joined() for name in ("case", "dtype", "offset"))
        self.shapes, self.spacings_mm = columns["shape"].joined(), columns["spacing_mm"].joined()  # (N, A), (N, A - 1)
        if not (self.names[1:] > self.names[:-1]).all():
            raise DamagedOut("the cases are not in order, or one is there twice", folder)
        if not _is_ascii(self.names):
            raise DamagedOut("the identifier of a case is no ASCII text", folder)
        self._mapped: dict[tuple[int, str], np.ndarray] = {}  # the last few: each holds its file open

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.axes) - 1

    @property
    def dtypes(self) -> list[str]:
        """The dtypes that occur, sorted."""
        return sorted({dtype for piece in self._read for dtype in piece.pixels})

    def __len__(self) -> int:
        return len(self.names)

    def firsts(self) -> list[int]:
        """The first case of each number of channels and spacing, ascending."""
        found: dict[bytes, int] = {}
        for at in range(0, len(self), BLOCK_CASES):
            block = slice(at, at + BLOCK_CASES)  # a table of all would take much memory
            spacings = np.ascontiguousarray(self.spacings_mm[block]).view(np.int64)  # nan is equal to itself so
            kinds, first = np.unique(
                np.concatenate([self.shapes[block, :1], spacings], axis=1), axis=0, return_index=True
            )
            for kind, i in zip(kinds, first.tolist(), strict=True):
                found.setdefault(kind.tobytes(), at + i)
        return sorted(found.values())

    @property
    def ids(self) -> list[str]:
        """The cases' identifiers."""
        return self.names.astype(str).tolist()

    def __getitem__(self, case: int | str) -> np.ndarray:
        """A case's pixels by position or identifier: a read-only view, (C, H, W) or (C, D, H, W)."""
        i = self.index(case) if isinstance(case, str) else case
        shape = tuple(self.shapes[i])
        start = int(self.offsets[i])
        flat = self._map(int(self.piece_of[i]), self.dtype_of[i].decode())[start : start + math.prod(shape)]
        return flat.reshape(shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def index(self, case: str) -> int:
        """The position of a case.

        Raises:
            DamagedOut: There is no such case.
        """
        name = case.encode("ascii", "replace")
        i = int(np.searchsorted(self.names, np.bytes_(name)))
        if i == len(self.names) or self.names[i] != name:
            raise DamagedOut(f"it has no case {case}", self.folder)
        return i

    def place(self, i: int) -> tuple[Path, hdf5.Place]:
        """The piece that a case lies in, and the place there of all its pixels of the case's dtype."""
        piece = self._read[int(self.piece_of[i])]
        return piece.path, piece.pixels[self.dtype_of[i].decode()]

    def _map(self, piece: int, dtype: str) -> np.ndarray:
        if (mapped := self._mapped.get((piece, dtype))) is None:
            while len(self._mapped) >= MOST_MAPPED:
                del self._mapped[next(iter(self._mapped))]
            of = self._read[piece]
            with reading(of.path):
                mapped = self._mapped[piece, dtype] = of.pixels[dtype].mapped(of.path)
        return mapped

    def __enter__(self) -> "Cases":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._mapped.clear()


class _Column:
    """A column of the index of all pieces; one row stands for all, as long as they are equal."""

    def __init__(self) -> None:
        self.sizes: list[int] = []  # rows of each piece
        self._parts: list[np.ndarray] = []  # all of them, or one that they are all equal to

    def add(self, rows: np.ndarray) -> None:
        bits = rows.view(np.int64) if rows.dtype.kind == "f" else rows  # nan is equal to itself so
        self.sizes.append(len(rows))
        self._parts.append(rows[:1].copy() if (bits == bits[:1]).all() else rows.copy())

    def joined(self) -> np.ndarray:
        """The column, read-only where one row stands for all. The parts are let go."""
        parts, self._parts = self._parts, []
        first = parts[0]
        total = sum(self.sizes)
        if all(len(part) == 1 and part.tobytes() == first.tobytes() for part in parts):
            return np.broadcast_to(first, (total, *first.shape[1:]))
        joined = np.empty((total, *first.shape[1:]), first.dtype)
        end = total
        for size in reversed(self.sizes):
            joined[end - size : end] = parts.pop()  # each is let go as soon as it is copied: nothing is held twice
            end -= size
        return joined


def _is_ascii(names: np.ndarray) -> bool:
    blocks = (names[at : at + BLOCK_CASES] for at in range(0, len(names), BLOCK_CASES))
    return all(np.ascontiguousarray(block).tobytes().isascii() for block in blocks)


def index_of(
    cases: np.ndarray, dtypes: np.ndarray, shapes: np.ndarray, spacings_mm: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    """A piece's index, and the number of elements of each dtype in it.

    Args:
        cases: (n,) S16, ascending.
        dtypes: (n,) S8.
        shapes: (n, A).
        spacings_mm: (n, A - 1).
    """
    index = np.zeros(len(cases), index_dtype(AXES[shapes.shape[1] - 3]))
    index["case"], index["dtype"], index["shape"], index["spacing_mm"] = cases, dtypes, shapes, spacings_mm
    sizes = shapes.prod(axis=1)
    ends = {}
    for dtype in np.unique(dtypes):
        of_dtype = dtypes == dtype
        after = sizes[of_dtype].cumsum()
        index["offset"][of_dtype] = after - sizes[of_dtype]
        ends[dtype.decode()] = int(after[-1])
    return index, ends


def allocate(path: Path, index: np.ndarray, elements: Mapping[str, int], axes: str, units: str = "") -> dict[str, int]:
    """Writes a piece without its pixels, and returns the byte of the file at which each dtype's pixels start.

    Several processes may then write the pixels at once.

    Args:
        index, elements: As `index_of` gives them.
        axes: "CHW" or "CDHW".
        units: "HU" where the numbers are Hounsfield units.
    """
    # Room on the disk at once, so that it can be mapped; not filled with zeros first.
    places = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    places.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    places.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    places.set_obj_track_times(False)  # HDF5 would store the time of writing
    with new_hdf5.creating(path) as file:
        file.attrs["axes"], file.attrs["units"] = np.bytes_(axes), np.bytes_(units)  # as `hdf5.attribute` wants them
        file["index"] = index
        pixels = file.create_group("pixels")
        starts = {}
        for dtype in sorted(elements):
            space = h5py.h5s.create_simple((elements[dtype],))
            stored = h5py.h5t.py_create(np.dtype(dtype), logical=True)
            starts[dtype] = h5py.h5d.create(pixels.id, dtype.encode(), stored, space, places).get_offset()
    return starts


def write_cases(
    folder: Path,
    pixels: Mapping[str, np.ndarray],
    axes: str,
    units: str = "",
    spacings_mm: Sequence[tuple[float, ...]] | None = None,
    name: str = "0.h5",
) -> None:
    """Writes cases that fit into memory as one piece of this name: arrays (C, H, W) or (C, D, H, W) by identifier."""
    ids = sorted(pixels)
    arrays = [pixels[case] for case in ids]
    unknown = [(math.nan,) * (len(axes) - 1)] * len(ids)
    index, elements = index_of(
        np.array(ids, "S16"),
        np.array([array.dtype.name for array in arrays], "S8"),
        np.array([array.shape for array in arrays]),
        np.array(spacings_mm or unknown),
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    starts = allocate(path, index, elements, axes, units)
    with open(path, "r+b") as file:
        for array, entry in zip(arrays, index, strict=True):
            file.seek(starts[array.dtype.name] + int(entry["offset"]) * array.itemsize)
            file.write(np.ascontiguousarray(array).tobytes())
