"""Reads HDF5 files that may be damaged or hostile: nothing of another file, nothing larger than the file itself.

HDF5 can do more than the outs need: links and data sets that lie in other files, filters that unpack, shapes of any
size without a byte behind them, strings that lie in a heap of whose damage its parser may never end. All of that is
refused. What is left is a place in this file, to be memory-mapped, and strings of a fixed length.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from stages.lib.core.reading import reading

PIXELS = ("uint8", "int8", "uint16", "int16", "float16", "float32")
"""The types that pixels may have."""
MOST_LETTERS = 64  # of an attribute


class Place(NamedTuple):
    """An array in a file."""

    start: int  # byte of the file
    dtype: np.dtype
    shape: tuple[int, ...]

    def mapped(self, path: Path) -> np.ndarray:
        """The array, memory-mapped and read-only."""
        if 0 in self.shape:  # it has no place in the file
            return np.empty(self.shape, self.dtype)
        return np.asarray(np.memmap(path, self.dtype, "r", offset=self.start, shape=self.shape))


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file; whatever goes wrong in the block is a `DamagedOut` that names it."""
    with reading(path), h5py.File(path, "r") as file:
        yield file


def group(parent: h5py.Group, name: str) -> h5py.Group:
    return _member(parent, name, h5py.Group)


def place(parent: h5py.Group, name: str, dtype: np.dtype | str, shape: Sequence[int | None]) -> Place:
    """Where an array lies in the file.

    Args:
        shape: The one that it must have; None: any length.

    Raises:
        ValueError: It is missing, not plain (in one piece, in this file), or of another dtype or shape.
    """
    array = _member(parent, name, h5py.Dataset)
    wanted = ["any" if n is None else str(n) for n in shape]
    if len(array.shape or ()) != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{array.name} has the shape {array.shape}, not ({', '.join(wanted)})")
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"{array.name} is of {array.dtype}, not of {np.dtype(dtype)}")
    settings = array.id.get_create_plist()
    if settings.get_layout() != h5py.h5d.CONTIGUOUS or settings.get_external_count():
        raise ValueError(f"{array.name} does not lie in the file in one piece")
    size = math.prod(array.shape) * array.dtype.itemsize
    start = array.id.get_offset() if size else 0
    if start is None or start + size > array.file.id.get_filesize():
        raise ValueError(f"{array.name} is larger than the file")
    return Place(start, array.dtype, array.shape)


def text(parent: h5py.Group, name: str) -> bytes:
    """The content of a data set that is one string."""
    array = _member(parent, name, h5py.Dataset)
    if array.shape != () or not _is_text(array.dtype):
        raise ValueError(f"{array.name} is no text of a fixed length")
    if array.dtype.itemsize > array.file.id.get_filesize():
        raise ValueError(f"{array.name} is larger than the file")
    return bytes(array[()])


def attribute(parent: h5py.Group, name: str, known: Sequence[str]) -> str:
    """An attribute that is one of the known words."""
    stored = parent.attrs.get_id(name) if name in parent.attrs else None
    if stored is None or stored.shape != () or not _is_text(stored.dtype) or stored.dtype.itemsize > MOST_LETTERS:
        raise ValueError(f"it has no attribute {name} that is a short text of a fixed length")
    if (word := parent.attrs[name].decode(errors="replace")) not in known:
        raise ValueError(f"its attribute {name} is {word!r}: expected {' or '.join(map(repr, known))}")
    return word


def _is_text(dtype: np.dtype) -> bool:
    """Whether it is a string of a fixed length; those of any length lie in the file's heap."""
    kind = h5py.check_string_dtype(dtype)
    return kind is not None and kind.length is not None


def _member(parent: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    spelt = f"{parent.name.rstrip('/')}/{name}"
    links, encoded = parent.id.links, name.encode()
    # Soft and external links lead elsewhere, even to other files; h5py would follow them to see whether they are there.
    if not links.exists(encoded) or links.get_info(encoded).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"it has no {spelt}")
    if not isinstance(member := parent[name], kind):
        raise ValueError(f"its {spelt} is no {kind.__name__.lower()}")
    return member
