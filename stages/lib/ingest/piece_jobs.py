"""What a worker does for the pieces of cases/: it brings the pixels of some cases and writes them.

A small piece is made in memory by one worker; a large one lies in its file from the start, and several workers write a
run of blocks (slices) each. Pixels that another piece of the store holds are copied instead of decoded.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from stages.lib.cases import allocate, index_of
from stages.lib.core.writing import opened, write
from stages.lib.ingest import readers
from stages.lib.ingest.archives.members import NONE, Members
from stages.lib.ingest.case_table import CaseTable, Template
from stages.lib.ingest.decoding import Loader, MemoryTurn, decode, reason_of, to_dtype
from stages.lib.ingest.file_table import DIGEST
from stages.lib.ingest.readers.contract import Inspected, Options
from stages.lib.ingest.store import Stored, keep
from stages.lib.workers import quietly

DECODING_COPIES = 3  # of a picture's pixels, in memory while it is decoded


class Common(NamedTuple):
    """What all jobs of one ingest have in common."""

    raw: str
    options: Options
    turn: Path  # lock of those that take much memory
    axes: str  # "CHW" or "CDHW"
    units: str


class Job(NamedTuple):
    """A small piece to be made at `target`, or the blocks start..stop of a case of a large one."""

    target: str
    cases: CaseTable  # of the small piece, or the one case
    contents: np.ndarray  # (n,) DIGEST: of what the pixels of each depend on
    stored: dict[int, Stored]  # where pixels of these cases lie already, by position
    number: int = 0  # of the case in a large piece
    start: int = 0
    stop: int = 0  # 0: a small piece
    offset: int = 0  # bytes: where in the file the blocks go
    members: Members = NONE  # of archives, that stand for some of the files


class Done(NamedTuple):
    """What came of a job."""

    refused: dict[bytes, tuple[str, str]]  # reason and detail by content
    key: str = ""  # of the piece without these, which is now in the store; "" where nothing is left
    digests: tuple[bytes, ...] = ()  # of each block, for a large piece


def run(common: Common, job: Job) -> Done:
    """Does a job in a worker."""
    try:
        return quietly(lambda: _write_run(common, job) if job.stop else _make_small(common, job))
    finally:
        _mapped.cache_clear()  # a file that changes between two jobs is seen to have changed


def index(cases: CaseTable) -> tuple[np.ndarray, dict[str, int]]:
    """The cases' index in a piece, and how many elements of each dtype they have."""
    return index_of(cases.names(), cases.dtypes(), cases.shapes(), cases.spacings_mm())


def piece_key(piece_index: np.ndarray, contents: np.ndarray, units: str) -> str:
    """A piece's name in the store, another when anything in the piece is."""
    return xxhash.xxh3_128_hexdigest(piece_index.tobytes() + contents.tobytes() + units.encode())


def offsets(piece_index: np.ndarray, starts: dict[str, int]) -> np.ndarray:
    """(n,) int64: the first byte of each case in the piece's file.

    Args:
        starts: The first byte of each dtype's pixels, as `cases.allocate` gives it.
    """
    sizes = [(starts[dtype.decode()], np.dtype(dtype.decode()).itemsize) for dtype in piece_index["dtype"]]
    begin, itemsize = np.array(sizes, np.int64).reshape(-1, 2).T
    return begin + piece_index["offset"] * itemsize


def joined(blocks: list[bytes]) -> bytes:
    """A case's digest from those of its blocks."""
    return blocks[0] if len(blocks) == 1 else xxhash.xxh3_128_digest(b"".join(blocks))


def _make_small(common: Common, job: Job) -> Done:
    """Brings all cases that can be read into memory, then makes the piece of them."""
    flats = _places(job.cases)
    refused: dict[bytes, tuple[str, str]] = {}
    digests = _stored(job, flats)
    missing = [i for i in range(len(job.cases)) if i not in digests]
    templates = dict(zip(missing, job.cases.select(np.array(missing, np.int64)), strict=True))
    memory = MemoryTurn(common.turn)
    load = Loader(common.raw, common.options, memory.take, job.members)
    # The frames of a file one after the other, as otherwise each would take a walk from the first one.
    for i in sorted(templates, key=lambda i: _order(templates[i], job.members)):
        try:
            with memory.beside(_decoded(templates[i])):
                digests[i] = _bring(common.options, templates[i], flats[i], load)
        except Exception as error:
            refused[job.contents[i].tobytes()] = reason_of(error)
    kept = sorted(digests)  # in the order of the identifiers again
    if not kept:
        return Done(refused)
    cases, contents = (job.cases.select(np.array(kept)), job.contents[kept]) if refused else (job.cases, job.contents)
    piece_index, elements = index(cases)
    key = piece_key(piece_index, contents, common.units)
    starts = allocate(Path(job.target), piece_index, elements, common.axes, common.units)
    with opened(job.target) as file:
        for dtype, start in starts.items():
            theirs = [flats[i] for i, name in zip(kept, piece_index["dtype"], strict=True) if name.decode() == dtype]
            write(file, np.concatenate(theirs), start, job.target)
    keep(Path(job.target), key, contents, offsets(piece_index, starts), _column(digests[i] for i in kept))
    return Done(refused, key)


def _column(digests: Iterable[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), DIGEST)


def _places(cases: CaseTable) -> list[np.ndarray]:
    """Room for the bytes of each case, taken at once for all."""
    ends = cases.pixel_bytes().cumsum()
    return np.split(np.empty(int(ends[-1]), np.uint8), ends[:-1])


def _order(template: Template, members: Members) -> tuple[int, str, tuple[Any, ...]]:
    path = template.case.files[0].path
    return members.place(path), path, template.case.recipe


def _stored(job: Job, flats: list[np.ndarray]) -> dict[int, bytes]:
    """Brings the cases whose pixels are in the store, and sound, into memory; their digests by position."""
    digests: dict[int, bytes] = {}
    for i, stored in job.stored.items():
        content = _read(stored.path, stored.offset, flats[i].nbytes)
        if content is not None and _digest(content, job.cases.template(i).case.blocks) == stored.digest:
            flats[i][:] = content
            digests[i] = stored.digest
    return digests


def _bring(options: Options, template: Template, flat: np.ndarray, load: Callable[[Inspected], bytes]) -> bytes:
    """A case's pixels from its files into memory; their digest."""
    case = template.case
    shape = (1, *case.shape) if len(case.shape) == 3 else (-1, *case.shape[2:])  # (1, C, H, W) or (C * D, H, W)
    blocks = flat.view(to_dtype(case.dtype)).reshape(shape)
    for i, pixels in enumerate(decode(template, 0, len(blocks), load, options)):
        blocks[i] = pixels
    return _digest(flat, len(blocks))


def unpacked_bytes(template: Template) -> int:
    """Bytes of the whole content of a case's file, where it has to be unpacked as a whole."""
    asked = getattr(readers.reader(template.reader), "unpacked_bytes", None)
    return asked(template.case.recipe) if asked else 0


def _decoded(template: Template) -> int:
    """Bytes that decoding takes beside the file's own: of a volume, those of a slice at a time, if it isn't packed."""
    case = template.case
    block = DECODING_COPIES * (math.prod(case.shape) // case.blocks) * to_dtype(case.dtype).itemsize
    return block + unpacked_bytes(template)


def _digest(flat: np.ndarray, blocks: int) -> bytes:
    """Of the bytes of a case."""
    return joined([xxhash.xxh3_128_digest(block.data) for block in flat.reshape(blocks, -1)])


def _write_run(common: Common, job: Job) -> Done:
    """Brings blocks into their place in a large piece."""
    (template,) = job.cases
    block_bytes = int(job.cases.pixel_bytes()[0]) // template.case.blocks
    digests: list[bytes] = []
    with opened(job.target) as file:
        if job.stored and (digests := _copy(job.stored[0], file, job, block_bytes)):
            return Done({}, digests=tuple(digests))
        try:
            memory = MemoryTurn(common.turn)
            load = Loader(common.raw, common.options, memory.take, job.members)
            with memory.beside(_decoded(template)):
                for pixels in decode(template, job.start, job.stop, load, common.options):
                    pixels = np.ascontiguousarray(pixels)
                    write(file, pixels, job.offset + len(digests) * block_bytes, job.target)
                    digests.append(xxhash.xxh3_128_digest(pixels.data))
        except Exception as error:
            return Done({job.contents[0].tobytes(): reason_of(error)})
    return Done({}, digests=tuple(digests))


def _copy(stored: Stored, file: int, job: Job, block_bytes: int) -> list[bytes]:
    """Copies a case's blocks from another piece; no digests if they are not what they were."""
    digests = []
    for i in range(job.stop):
        content = _read(stored.path, stored.offset + i * block_bytes, block_bytes)
        if content is None:
            return []
        digests.append(xxhash.xxh3_128_digest(content.data))
        write(file, content, job.offset + i * block_bytes, job.target)
    return digests if joined(digests) == stored.digest else []


def _read(path: str, offset: int, size: int) -> np.ndarray | None:
    """Bytes of a file; None where it has none there."""
    try:
        content = _mapped(path)[offset : offset + size]
    except (FileNotFoundError, ValueError):  # the latter if it is empty
        return None
    return content if len(content) == size else None


@lru_cache(maxsize=1)
def _mapped(path: str) -> np.ndarray:
    """A file's bytes; the cases of a piece are asked for one after the other, and opening it takes longer than that."""
    return np.memmap(path, np.uint8, "r").view(np.ndarray)
