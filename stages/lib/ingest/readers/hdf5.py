"""HDF5 files, and what is one by another name (MATLAB 7.3, NetCDF-4): the arrays that labels.csv names.

A file may hold a hundred thousand pictures and be larger than memory: it is read where it lies, and of it no more than
a case needs. What HDF5 can do beyond that is refused: links, data sets that lie in other files or are put together of
others, filters that are plugins.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import h5py
import numpy as np

from stages.lib.ingest.readers import arrays
from stages.lib.ingest.readers.arrays import Array, Recipe, parts
from stages.lib.ingest.readers.contract import (
    Assembly,
    Inspected,
    Options,
    Refusal,
    Rejected,
    check_is_of_the_files,
    place_of,
    where_raised,
)

__all__ = ["ALONE", "assemble", "inspect", "inspect_place", "parts", "read", "unpacked_bytes"]

ALONE = True
MOST_ARRAYS = 200_000  # of a file, and groups, by each of their names
CACHE_BYTES = 64 << 20  # of unpacked chunks, for the pictures that lie in one
LZF = 32000  # the filter that h5py brings along
FILTERS = {
    *(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SZIP),
    *(h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET, LZF),
}
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
COPY = "copy the array itself into one file, as h5repack does"


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's arrays, each as an `Array` whose place is the shape of its chunks; nothing of the file's own."""
    return _inspect(io.BytesIO(content), options)


def inspect_place(path: str, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Likewise of a file that is read where it lies."""
    return _inspect(path, options)


def _inspect(source: str | io.BytesIO, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    try:
        with h5py.File(source, "r") as file:
            found = [array for array in _arrays(file, options)]
    except Rejected:
        raise
    except Exception as error:  # whatever a damaged file makes of the library
        check_is_of_the_files(error)
        raise Rejected("corrupt", where_raised(error)) from None
    return tuple(map(tuple, found)), ()


def _arrays(file: h5py.File, options: Options) -> Iterator[Array]:
    """All data sets that hard links lead to, and links of other kinds, each with the reason why it is not followed.

    By as many names as there are: a group, or a data set, may lie in several groups.
    """
    waiting: list[tuple[str, Any, int]] = [("", file["/"].id, h5py.h5o.get_info(file["/"].id).addr)]
    around: set[int] = set()  # addresses of the groups that it is in, as a group may hold itself
    number = 0
    while waiting:
        above, group, address = waiting.pop()
        if group is None:
            around.remove(address)
            continue
        if address in around:
            continue
        around.add(address)
        waiting.append((above, None, address))  # comes when all below have been
        for name in group:
            path = f"{above}{name.decode(errors='surrogateescape')}"
            number += 1
            if number > MOST_ARRAYS:
                raise Rejected("too_large", f"more than {MOST_ARRAYS} names of arrays and groups: split the file")
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                yield Array(arrays.identified(path, options), reason="unsupported_format", detail=f"a link: {COPY}")
                continue
            member = h5py.h5o.open(group, name)
            if isinstance(member, h5py.h5g.GroupID):
                waiting.append((f"{path}/", member, h5py.h5o.get_info(member).addr))
            elif isinstance(member, h5py.h5d.DatasetID):
                yield _array(arrays.identified(path, options), member, options)


def _array(name: str, stored: h5py.h5d.DatasetID, options: Options) -> Array:
    """What is known of a data set, or why it is not read."""

    def refused(reason: str, detail: str) -> Array:
        return Array(name, reason=reason, detail=detail)

    settings = stored.get_create_plist()
    if settings.get_layout() not in LAYOUTS or settings.get_external_count():
        return refused("unsupported_format", f"an array that lies in other files, or is made of other arrays: {COPY}")
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if not filters <= FILTERS or not all(map(h5py.h5z.filter_avail, filters)):
        return refused("unsupported_format", "packed by a plugin of HDF5: repack it with deflate, as h5repack does")
    try:
        dtype = stored.dtype
    except TypeError:
        return refused("unsupported_depth", "an array of a type that NumPy doesn't have")
    shape = stored.shape
    if shape is None:
        return refused("not_an_image", "an array without a number")
    try:
        arrays.dtype_of(dtype)
    except Rejected as error:
        return refused(error.reason, error.detail)
    chunk = tuple(settings.get_chunk()) if settings.get_layout() == h5py.h5d.CHUNKED else ()
    if chunk:
        if math.prod(chunk) > options.params.max_voxels:
            limit = f"ingest.max_voxels is {options.params.max_voxels}"
            return refused("too_large", f"chunks of {math.prod(chunk)} numbers; {limit}")
    elif math.prod(shape):
        size = math.prod(shape) * dtype.itemsize
        start = stored.get_offset()  # None of what lies in the header
        if not stored.get_storage_size():
            return refused("truncated", "an array whose numbers were never written")
        if start is not None and start + size > h5py.h5i.get_file_id(stored).get_filesize():
            return refused("truncated", "the file ends before the array does")
    return Array(name, dtype.str, tuple(map(int, shape)), (chunk,))


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """No case: which array is meant, a file doesn't say."""
    found = Assembly([])
    for file in files:
        detail = f"an HDF5 file of {len(file.common)} arrays: {arrays.WAYS}"
        found.refused.append(Refusal((file.path,), "several_arrays", detail))
    return found


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """Slices start..stop, each (H, W), or the picture (C, H, W)."""
    (file,), given = files, Recipe(*recipe)
    opened = _last.opened(file, load)
    try:
        array = opened[given.name]
        chunk = Array(*given.array).place[0]
        complete = _last.is_complete(given.name, array, chunk)

        def get(key: tuple[Any, ...]) -> np.ndarray:
            if not complete:
                _check_written(array, chunk, key)
            return np.asarray(array[key])

        yield from arrays.blocks(given, get, start, stop)
    except (OSError, RuntimeError, KeyError) as error:  # h5py's words for damage of any kind
        raise Rejected("corrupt", where_raised(error)) from None


def _is_complete(array: h5py.Dataset, chunk: Sequence[int]) -> bool:
    """Whether all chunks were written, which takes as long as there are chunks."""
    return not chunk or array.id.get_num_chunks() == _chunks(array.shape, chunk)


def _chunks(shape: Sequence[int], chunk: Sequence[int]) -> int:
    return math.prod(-(-side // step) for side, step in zip(shape, chunk, strict=True))


def _check_written(array: h5py.Dataset, chunk: Sequence[int], key: tuple[Any, ...]) -> None:
    """Raises:
    Rejected: A chunk was never written: HDF5 would give zeros for it, as if they were pixels.
    """
    starts = []
    for one, side, step in zip(key, array.shape, chunk, strict=True):
        low, high = (one, one + 1) if isinstance(one, int) else (0, side)
        starts.append(range(low // step * step, high, step))
    arrays.check_chunks(starts)
    for at in product(*starts):
        if array.id.get_chunk_info_by_coord(at).byte_offset is None:
            raise Rejected("truncated", "numbers that were never written")


def unpacked_bytes(recipe: tuple[Any, ...]) -> int:
    """What a chunk of a case's array takes in memory."""
    array = Array(*Recipe(*recipe).array)
    return math.prod(array.place[0]) * np.dtype(array.stored).itemsize if array.place[0] else 0


class _Last:
    """The file that was opened last: a hundred thousand cases may be of it."""

    def __init__(self) -> None:
        self._key: tuple[str, bytes] | None = None
        self._file: h5py.File | None = None
        self._complete: dict[str, bool] = {}  # by the array's name

    def is_complete(self, name: str, array: h5py.Dataset, chunk: Sequence[int]) -> bool:
        """What `_is_complete` says of an array of the file, which is asked once."""
        if name not in self._complete:
            self._complete[name] = _is_complete(array, chunk)
        return self._complete[name]

    def opened(self, file: Inspected, load: Callable[[Inspected], bytes]) -> h5py.File:
        """Raises:
        Rejected: It has changed, or is damaged.
        """
        path = place_of(load, file)  # always, as load below: they notice when the file has changed
        content = b"" if path else load(file)
        key = path or file.path, file.digest
        if self._file is None or key != self._key:
            if self._file is not None:
                self._file.close()  # before it is opened anew: HDF5 would go on with what it knows
            self._file, self._complete = None, {}
            try:
                self._file = h5py.File(path or io.BytesIO(content), "r", rdcc_nbytes=CACHE_BYTES)
            except OSError as error:
                raise Rejected("corrupt", where_raised(error)) from None
            self._key = key
        return self._file


_last = _Last()
