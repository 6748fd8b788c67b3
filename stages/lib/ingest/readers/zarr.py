"""Zarr stores, versions 2 and 3, as folders: the only array of one, or those that labels.csv names.

The zarr package would read them, too. It is not used, as its codecs unpack whatever a chunk claims, and may unpickle
objects. Here a chunk is unpacked to the bytes that the shape of chunks gives and no further, by imagecodecs and
Python's own modules; arrays are of numbers, and their codecs of a list.

A chunk that is not there is of the fill value, as the format says. Tests compare the numbers with the zarr package's.
"""

import bz2
import json
import lzma
import math
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.opening import read as read_file
from stages.lib.ingest.in_place import files_below
from stages.lib.ingest.readers import arrays
from stages.lib.ingest.readers.arrays import Array, Recipe, parts
from stages.lib.ingest.readers.contract import Assembly, Inspected, Options, Refusal, Rejected, place_of

__all__ = ["ALONE", "assemble", "inspect", "inspect_place", "parts", "read", "unpacked_bytes"]

ALONE = True
MOST_ARRAYS = 200_000  # of a store
MAX_METADATA = 1 << 26  # bytes of a file; that of a group may hold those of all its arrays
V2, V3 = ".zarray", "zarr.json"
CACHE_BYTES = 64 << 20  # of unpacked chunks, for the pictures that lie in one
MOST_KEPT = 10_000  # chunks, those that are not there among them
MORE_BYTES = 1 << 16  # that a packed chunk may be larger than what it holds
ABSENT = (1 << 64) - 1  # the place of a chunk that a shard lacks
V3_TYPES = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64"),
)
PACKED = ("zlib", "gzip", "bz2", "lzma", "zstd", "blosc", "lz4")  # codecs, by their names in both versions
FILL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
COPY = "save it again with blosc, zstd or gzip, and without filters"


class Packing(NamedTuple):
    """How the numbers of a chunk lie in bytes."""

    shape: tuple[int, ...]  # of the chunk
    dtype: np.dtype
    order: tuple[int, ...]  # of its axes
    packed: tuple[str, ...]  # codecs, the last one applied first when unpacking


class Grid(NamedTuple):
    """An array's chunks."""

    shape: tuple[int, ...]
    fill: Any
    key: Callable[[Sequence[int]], str]  # the file of a chunk
    chunk: Packing
    shard: "Packing | None"  # of the index of a shard, whose chunks `chunk` describes
    index_first: bool  # whether a shard begins with its index


class _Unknown(Exception):
    """Something that is not read; the text says what, in words of this module."""


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """No file is a store: folders are read where they lie."""
    raise Rejected("unsupported_format", "a file of a Zarr store: keep the store's folder together")


def inspect_place(path: str, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A store's arrays, each as an `Array` whose place is its version and its metadata; nothing of the file's own."""
    found: dict[str, Array] = {}
    for below in files_below(path):
        folder, _, name = below.rpartition("/")
        if name not in (V2, V3):
            continue
        array = _array(os.path.join(path, below), folder, options)
        if array is None:
            continue
        if folder in found:
            raise Rejected("malformed", "a Zarr store with an array of both versions, 2 and 3")
        found[folder] = array
        if len(found) > MOST_ARRAYS:
            raise Rejected("too_large", f"more than {MOST_ARRAYS} arrays")
    return tuple(map(tuple, found.values())), ()


def _array(path: str, folder: str, options: Options) -> Array | None:
    """What is known of an array, or why it is not read; None of a group."""
    name = arrays.identified(folder, options)
    try:
        about = json.loads(read_file(path, MAX_METADATA)[0])
        if path.endswith(V3) and about["node_type"] != "array":
            return None
        kept = {key: about[key] for key in (V2_KEYS if path.endswith(V2) else V3_KEYS) if key in about}
        version, text = 2 if path.endswith(V2) else 3, json.dumps(kept)
        grid = _grid(version, text)
    except OSError:
        raise
    except _Unknown as error:
        return Array(name, reason="unsupported_format", detail=str(error))
    except Exception:  # JSON of any kind and depth
        return Array(name, reason="malformed", detail="metadata that are none of Zarr's")
    try:
        arrays.dtype_of(grid.chunk.dtype)
    except Rejected as error:
        return Array(name, reason=error.reason, detail=error.detail)
    most = max(math.prod(grid.chunk.shape), _entries(grid))
    if most > options.params.max_voxels:
        limit = f"ingest.max_voxels is {options.params.max_voxels}"
        return Array(name, reason="too_large", detail=f"chunks of {most} numbers; {limit}")
    return Array(name, grid.chunk.dtype.str, grid.shape, (version, text))


V2_KEYS = (
    "zarr_format",
    "shape",
    "chunks",
    "dtype",
    "compressor",
    "fill_value",
    "order",
    "filters",
    "dimension_separator",
)
V3_KEYS = (
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    "storage_transformers",
)


@lru_cache(maxsize=8)
def _grid(version: int, text: str) -> Grid:
    """What metadata say; kept, as a hundred thousand cases may be of one array.

    Raises:
        _Unknown: They ask for what is not read.
        Exception: They are none of Zarr's.
    """
    about = json.loads(text)
    return _grid_2(about) if version == 2 else _grid_3(about)


def _grid_2(about: Mapping[str, Any]) -> Grid:
    if about["zarr_format"] != 2:
        raise ValueError("no version 2")
    shape, chunk = _sides(about["shape"]), _sides(about["chunks"], len(about["shape"]), least=1)
    if not isinstance(about["dtype"], str):
        raise _Unknown("an array of several fields: save one of numbers")
    dtype = np.dtype(about["dtype"])
    if about.get("filters"):
        raise _Unknown(f"an array with filters: {COPY}")
    compressor = about.get("compressor")
    packed = (_packed(compressor["id"]),) if compressor else ()
    axes = tuple(range(len(shape)))
    order = {"C": axes, "F": axes[::-1]}[about.get("order", "C")]
    separator = _separator(about.get("dimension_separator", "."))
    return Grid(
        shape=shape,
        fill=_fill(about.get("fill_value"), dtype),
        key=lambda at: separator.join(map(str, at)) or "0",
        chunk=Packing(chunk, dtype, order, packed),
        shard=None,
        index_first=False,
    )


def _grid_3(about: Mapping[str, Any]) -> Grid:
    if about["zarr_format"] != 3 or about["chunk_grid"]["name"] != "regular":
        raise _Unknown("an array whose chunks are of no regular grid")
    if about.get("storage_transformers"):
        raise _Unknown("an array with storage transformers")
    if about["data_type"] not in V3_TYPES:
        raise _Unknown("an array of a type of numbers that is not read: save one of whole or floating point numbers")
    dtype = np.dtype(about["data_type"])
    shape = _sides(about["shape"])
    whole = _sides(about["chunk_grid"]["configuration"]["chunk_shape"], len(shape), least=1)
    encoding = about["chunk_key_encoding"]
    prefix = {"default": ("c",), "v2": ()}[encoding["name"]]
    separator = _separator(encoding.get("configuration", {}).get("separator", "/" if prefix else "."))
    codecs = about["codecs"]
    shard, first, inner = None, False, whole
    if codecs[0]["name"] == "sharding_indexed":
        if len(codecs) > 1:
            raise _Unknown(f"packed shards: {COPY}")
        given = codecs[0]["configuration"]
        inner = _sides(given["chunk_shape"], len(shape), least=1)
        if any(side % step for side, step in zip(whole, inner, strict=True)):
            raise ValueError("a shard is of whole chunks")
        counts = tuple(side // step for side, step in zip(whole, inner, strict=True))
        shard = _packing_3(given.get("index_codecs", []), (*counts, 2), np.dtype(np.uint64))
        if set(shard.packed) - {"crc32c"}:
            raise _Unknown(f"shards whose index is packed: {COPY}")
        first = {"start": True, "end": False}[given.get("index_location", "end")]
        codecs = given["codecs"]
    return Grid(
        shape=shape,
        fill=_fill(about["fill_value"], dtype),
        key=lambda at: separator.join((*prefix, *map(str, at))) or "0",
        chunk=_packing_3(codecs, inner, dtype),
        shard=shard,
        index_first=first,
    )


def _packing_3(codecs: Sequence[Mapping[str, Any]], shape: tuple[int, ...], dtype: np.dtype) -> Packing:
    """Codecs are, in this order, any that turn axes, the one that makes bytes of numbers, any that pack bytes."""
    order = tuple(range(len(shape)))
    names = [codec["name"] for codec in codecs]
    if "bytes" not in names:
        within = "shards in shards or behind a codec" if "sharding_indexed" in names else "a codec that is not read"
        raise _Unknown(f"{within}: {COPY}")
    at = names.index("bytes")
    for codec in codecs[:at]:
        if codec["name"] != "transpose":
            raise _Unknown(f"a codec that is not read: {COPY}")
        given = codec["configuration"]["order"]
        turn = (
            {"C": tuple(range(len(shape))), "F": tuple(range(len(shape)))[::-1]}[given]
            if isinstance(given, str)
            else given
        )
        if sorted(turn) != list(range(len(shape))):
            raise ValueError("no order of axes")
        order = tuple(order[axis] for axis in turn)
    endian = codecs[at].get("configuration", {}).get("endian", "little")
    stored = np.dtype({"little": "<", "big": ">"}[endian] + dtype.str[1:])
    return Packing(shape, stored, order, tuple(_packed(name, "crc32c") for name in names[at + 1 :]))


def _sides(given: Sequence[Any], number: int | None = None, least: int = 0) -> tuple[int, ...]:
    sides = tuple(int(side) for side in given)
    if any(side < least for side in sides) or (number is not None and len(sides) != number):
        raise ValueError("no shape")
    return sides


def _separator(given: str) -> str:
    if given not in (".", "/"):
        raise ValueError("no separator")
    return given


def _packed(name: str, *more: str) -> str:
    if name not in (*PACKED, *more):
        raise _Unknown(f"a codec that is not read: {COPY}")
    return name


def _fill(given: Any, dtype: np.dtype) -> Any:
    """The number of a chunk that is not there.

    Raises:
        _Unknown: It is given by its bits.
        ValueError, OverflowError: The array's numbers can't be it.
    """
    if given is None:
        return 0
    if isinstance(given, str):
        if given not in FILL:
            raise _Unknown("a fill value of its own bits")
        given = FILL[given]
    with np.errstate(over="ignore"):
        found = dtype.type(given)
    if (dtype.kind in "biu" and found != given) or (dtype.kind == "f" and np.isinf(found) and not math.isinf(given)):
        raise ValueError("a fill value that the array's numbers can't be")
    return found


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """A case of each store that is one array."""
    root = arrays.identified("", options)
    found = Assembly([])
    for file in files:
        if [array[0] for array in file.common] == [root]:
            one = arrays.whole([file], options)
            found.cases += one.cases
            found.refused += one.refused
        else:
            detail = f"a Zarr group of {len(file.common)} arrays: {arrays.WAYS}"
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
    path = place_of(load, file)
    if path is None:
        raise Rejected("unsupported_format", "a Zarr store in an archive: unpack it")
    grid = _grid(*Array(*given.array).place)
    folder = os.path.join(path, given.name)
    yield from arrays.blocks(given, lambda key: _taken(grid, folder, file.digest, key), start, stop)


def unpacked_bytes(recipe: tuple[Any, ...]) -> int:
    """What a chunk of a case's array takes in memory."""
    grid = _grid(*Array(*Recipe(*recipe).array).place)
    return math.prod(grid.chunk.shape) * grid.chunk.dtype.itemsize + 16 * _entries(grid)


def _entries(grid: Grid) -> int:
    """Of the index of a shard."""
    return math.prod(grid.shard.shape) // 2 if grid.shard else 0


def _taken(grid: Grid, folder: str, digest: bytes, key: tuple[Any, ...]) -> np.ndarray:
    """What indices and whole axes mean of an array."""
    box = [(one, one + 1) if isinstance(one, int) else (0, side) for one, side in zip(key, grid.shape, strict=True)]
    found = np.full([high - low for low, high in box], grid.fill, grid.chunk.dtype)
    steps = grid.chunk.shape
    ranges = [range(low // step, -(-high // step)) for (low, high), step in zip(box, steps, strict=True)]
    arrays.check_chunks(ranges)
    for at in product(*ranges):
        chunk = _chunks.of(grid, folder, digest, at)
        if chunk is None:
            continue
        into, of = [], []
        for (low, high), step, i in zip(box, steps, at, strict=True):
            first, last = max(low, i * step), min(high, (i + 1) * step)
            into.append(slice(first - low, last - low))
            of.append(slice(first - i * step, last - i * step))
        found[tuple(into)] = chunk[tuple(of)]
    return found[tuple(0 if isinstance(one, int) else slice(None) for one in key)]


class _Chunks:
    """The chunks that were unpacked last, as the pictures of one are asked for one after the other."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes, tuple[int, ...]], np.ndarray | None] = OrderedDict()
        self._index: tuple[tuple[str, bytes], np.ndarray] | None = None
        self._bytes = 0

    def of(self, grid: Grid, folder: str, digest: bytes, at: tuple[int, ...]) -> np.ndarray | None:
        """A chunk; None where it is of the fill value.

        Raises:
            Rejected: It is damaged.
            OSError: It can't be read.
        """
        key = folder, digest, at
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        content = self._shard(grid, folder, digest, at) if grid.shard else _content(grid, folder, at)
        chunk = None if content is None else unpacked(content, grid.chunk)
        self._kept[key] = chunk
        self._bytes += chunk.nbytes if chunk is not None else 0
        while (self._bytes > CACHE_BYTES or len(self._kept) > MOST_KEPT) and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.nbytes if old is not None else 0
        return chunk

    def _shard(self, grid: Grid, folder: str, digest: bytes, at: tuple[int, ...]) -> bytes | None:
        """The bytes of a chunk in a shard."""
        assert grid.shard
        counts = grid.shard.shape[:-1]
        path = os.path.join(folder, grid.key([i // n for i, n in zip(at, counts, strict=True)]))
        if self._index is None or self._index[0] != (path, digest):
            size = 16 * math.prod(counts) + 4 * len(grid.shard.packed)
            content = _read_part(path, 0 if grid.index_first else -size, size)
            if content is None:
                return None
            self._index = (path, digest), unpacked(content, grid.shard).astype(np.uint64)
        start, length = (int(n) for n in self._index[1][tuple(i % n for i, n in zip(at, counts, strict=True))])
        if start == length == ABSENT:
            return None
        if length > _most(grid.chunk):
            raise Rejected("corrupt", "a chunk of a shard that is larger than what it holds")
        return _read_part(path, start, length)


_chunks = _Chunks()


def _most(packing: Packing) -> int:
    """Bytes that a packed chunk may have."""
    return 2 * math.prod(packing.shape) * packing.dtype.itemsize + MORE_BYTES


def _content(grid: Grid, folder: str, at: tuple[int, ...]) -> bytes | None:
    try:
        return read_file(os.path.join(folder, grid.key(at)), _most(grid.chunk))[0]
    except FileNotFoundError:
        return None


def _read_part(path: str, start: int, length: int) -> bytes | None:
    """Bytes of a file, from a place or, if negative, from its end; None where there is no file.

    Raises:
        Rejected: The file is shorter.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            begin = start if start >= 0 else size + start
            if begin < 0 or begin + length > size:
                raise Rejected("truncated", "a shard that ends before its chunks do")
            file.seek(begin)
            content = b""
            while len(content) < length and (more := file.read(length - len(content))):
                content += more
            return content
    except FileNotFoundError:
        return None


def unpacked(content: bytes, packing: Packing) -> np.ndarray:
    """The numbers of a chunk.

    Raises:
        Rejected: They are damaged, fewer or more than a chunk has.
    """
    size = math.prod(packing.shape) * packing.dtype.itemsize
    more = 4 * packing.packed.count("crc32c")  # bytes of checksums that may lie within
    for name in reversed(packing.packed):
        try:
            content = _unpack(name, content, size + more)
        except Rejected:
            raise
        except Exception:  # each library has errors of its own
            raise Rejected("corrupt", "a chunk that can't be unpacked") from None
    if len(content) != size:
        raise Rejected("corrupt", f"a chunk of {len(content)} bytes or more, expected {size}")
    values = np.frombuffer(content, packing.dtype).reshape([packing.shape[axis] for axis in packing.order])
    return values.transpose(np.argsort(packing.order))


def _unpack(name: str, content: bytes, most: int) -> bytes:
    """One codec's content, at most this number of bytes of it and one more."""
    import imagecodecs  # not at the top: few data sets need it

    match name:
        case "zlib" | "gzip":
            return _to_its_end(zlib.decompressobj(zlib.MAX_WBITS | 32), content, most)
        case "bz2":
            return _to_its_end(bz2.BZ2Decompressor(), content, most)
        case "lzma":
            return _to_its_end(lzma.LZMADecompressor(memlimit=most + (1 << 28)), content, most)
        case "zstd":
            return bytes(imagecodecs.zstd_decode(content, out=most + 1))
        case "blosc":
            return bytes(imagecodecs.blosc_decode(content, out=most + 1))
        case "lz4":
            return bytes(imagecodecs.lz4_decode(content[4:], out=most + 1))
    if crc32c(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise Rejected("corrupt", "a chunk whose checksum is wrong")
    return content[:-4]


def _to_its_end(unpacking: Any, content: bytes, most: int) -> bytes:
    """What a decompressor of Python's makes of content.

    Raises:
        Rejected: It doesn't come to the end, where the checksum is that it compares.
    """
    found: bytes = unpacking.decompress(content, most + 1)
    if not unpacking.eof:
        raise Rejected("corrupt", "a packed chunk that is cut, or larger than its numbers")
    return found


@cache
def _table() -> list[int]:
    """Of crc32c, RFC 3720 B.4, by byte."""
    found = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


def crc32c(content: bytes) -> int:
    table, found = _table(), 0xFFFFFFFF
    for byte in content:
        found = table[(found ^ byte) & 0xFF] ^ (found >> 8)
    return found ^ 0xFFFFFFFF
