"""The second pass of ingest: every case's pixels, into the pieces of cases/, from several processes.

A piece that the store has is taken as it is. A small one is made in memory by one worker, a large one in its file by
several at once, a run of slices each.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from stages.lib import workers
from stages.lib.cases import allocate, index_of, piece_bits, piece_name
from stages.lib.core.errors import UserError
from stages.lib.core.progress import progress
from stages.lib.ingest import readers
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.file_table import DIGEST
from stages.lib.ingest.inspection import read_content
from stages.lib.ingest.readers.colour import converted
from stages.lib.ingest.readers.contract import Case, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.store import Store, Stored, keep

SMALL_BYTES = 16 << 20  # of pixels: what a worker may hold in memory
RUN_BYTES = 4 << 20  # of pixels that a worker brings at once of a large piece, if a single block has not more


class Filled(NamedTuple):
    """What became of the cases."""

    cases: CaseTable  # those that could be read
    digests: np.ndarray  # (N,) of 16 bytes: of the pixels of each
    pieces: dict[str, Path]  # of cases/, by their names there
    refused: list[Refusal]


class Work(NamedTuple):
    """What all jobs have in common."""

    raw: str
    options: Options
    axes: str
    units: str


class Piece(NamedTuple):
    name: str  # of its file in cases/
    key: str  # of all that is in it
    start: int  # its cases
    stop: int


class Job(NamedTuple):
    """A small piece to be made at `target`, or the blocks start..stop of a case of a large one."""

    target: str
    cases: CaseTable  # of the small piece, or the one case
    contents: np.ndarray  # (n,) of 16 bytes: digests of what their pixels depend on
    stored: dict[int, Stored]  # where pixels of these cases lie already, by position
    number: int = 0  # of the case in a large piece
    start: int = 0
    stop: int = 0  # 0: a small piece
    offset: int = 0  # bytes: where in the file the blocks go


class Done(NamedTuple):
    """What came of a job."""

    refused: dict[bytes, tuple[str, str]]  # reason and detail by content
    key: str = ""  # of the piece without these, which is now in the store; "" where nothing is left
    digests: tuple[bytes, ...] = ()  # of each block, for a large piece


def fill(raw: Path, cases: CaseTable, raw_bytes: int, store: Store, options: Options, crew: workers.Workers) -> Filled:
    """Makes the pieces that the store does not have.

    A case that turns out to be damaged is left out, and what it would have been part of is cut anew.

    Args:
        raw_bytes: Of all files, which decides with the number of cases how many pieces there are.
    """
    contents = cases.contents(options.params.colour)
    refused: list[Refusal] = []
    while True:
        if store.refusals:
            why = [store.refusals.get(content.tobytes()) for content in contents]
            refused += [Refusal(_paths(case), *one) for (_, case), one in zip(cases, why, strict=True) if one]
            good = np.array([i for i, one in enumerate(why) if not one], np.int64)
            cases, contents = cases.select(good), contents[good]
        pieces = _cut(cases, contents, raw_bytes)
        missing = [piece for piece in pieces if not store.has(piece.key)]
        if not missing:
            break
        axes = "CDHW" if len(cases.kinds[0][1].shape) == 4 else "CHW"
        work = Work(str(raw), options, axes, cases.units())
        _make(missing, cases, contents, store, work, crew)
    digests = np.concatenate([np.empty(0, DIGEST), *(store.digests(piece.key) for piece in pieces)])
    return Filled(cases, digests, {piece.name: store.piece(piece.key) for piece in pieces}, refused)


def _paths(case: Case) -> tuple[str, ...]:
    return tuple(file.path for file in case.files)


def _cut(cases: CaseTable, contents: np.ndarray, raw_bytes: int) -> list[Piece]:
    """The pieces, which follow from the cases and the files' bytes alone."""
    if not len(cases):
        return []
    bits = piece_bits(raw_bytes, len(cases))
    numbers = cases.ids >> np.uint64(64 - bits) if bits else np.zeros(len(cases), np.uint64)
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(cases)]
    units = cases.units()  # once, as it looks at all kinds
    pieces = []
    for start, stop in zip(edges, edges[1:], strict=False):
        index, _ = _index(cases.select(np.arange(start, stop)))
        name = piece_name(int(numbers[start]), bits)
        pieces.append(Piece(name, _key(index, contents[start:stop], units), start, stop))
    return pieces


def _index(cases: CaseTable) -> tuple[np.ndarray, dict[str, int]]:
    return index_of(cases.names(), cases.dtypes(), cases.shapes(), cases.spacings_mm())


def _key(index: np.ndarray, contents: np.ndarray, units: str) -> str:
    """A name for a piece, another when anything in it is."""
    return xxhash.xxh3_128_hexdigest(index.tobytes() + contents.tobytes() + units.encode())


def _make(
    missing: list[Piece], cases: CaseTable, contents: np.ndarray, store: Store, work: Work, crew: workers.Workers
) -> None:
    """Makes pieces, or finds out which of their cases can't be read."""
    large: dict[str, _Large] = {}
    find = store.finder()

    def jobs() -> Iterator[Job]:
        for piece in missing:
            some = cases.select(np.arange(piece.start, piece.stop))
            what = contents[piece.start : piece.stop]
            target = f"{store.piece(piece.key)}.partial"
            if int(some.pixel_bytes().sum()) <= SMALL_BYTES:
                yield Job(target, some, what, find(what))
            else:
                large[target] = _Large(target, some, what, find(what), work)
                yield from large[target].jobs

    total = sum(piece.stop - piece.start for piece in missing)
    done = crew.run(partial(_do, work), jobs(), _split, _crashed)
    for job, result in progress(done, "read pixels", "case", total, _finished):
        for content, why in result.refused.items():
            store.refuse(content, *why)
        key = large[job.target].add(job, result) if job.stop else result.key
        if key:
            store.load(key)


def _finished(done: tuple[Job, Done]) -> int:
    job, _ = done
    return len(job.cases) if job.stop == 0 else int(job.stop == job.cases.kind(0).blocks)


class _Large:
    """A piece that several workers fill."""

    def __init__(
        self, target: str, cases: CaseTable, contents: np.ndarray, stored: dict[int, Stored], work: Work
    ) -> None:
        self._target, self._cases, self._contents = Path(target), cases, contents
        index, elements = _index(cases)
        self._key = _key(index, contents, work.units)
        self._offsets = _offsets(index, allocate(self._target, index, elements, work.axes, work.units))
        self.jobs = [job for i in range(len(cases)) for job in self._runs(i, stored.get(i))]
        self._left = len(self.jobs)
        self._sound = True
        self._blocks: list[list[bytes]] = [[b""] * cases.kind(i).blocks for i in range(len(cases))]

    def _runs(self, i: int, stored: Stored | None) -> Iterator[Job]:
        """The jobs of a case: one where it is only to be copied, else runs of its blocks."""
        only = self._cases.select(np.array([i]))
        what = (str(self._target), only, self._contents[i : i + 1], {0: stored} if stored else {}, i)
        blocks = only.kind(0).blocks
        block = int(only.pixel_bytes()[0]) // blocks
        step = blocks if stored else max(1, RUN_BYTES // block)
        for start in range(0, blocks, step):
            yield Job(*what, start, min(start + step, blocks), int(self._offsets[i]) + start * block)

    def add(self, job: Job, done: Done) -> str:
        """Notes what came of a job; after the last one the piece is kept, if nothing was refused, and has its key."""
        self._left -= 1
        self._sound = self._sound and not done.refused
        if self._sound:
            self._blocks[job.number][job.start : job.stop] = done.digests
        if self._left:
            return ""
        if not self._sound:
            self._target.unlink()
            return ""
        digests = np.frombuffer(b"".join(map(_joined, self._blocks)), DIGEST)
        keep(self._target, self._key, self._contents, self._offsets, digests)
        return self._key


def _offsets(index: np.ndarray, starts: dict[str, int]) -> np.ndarray:
    """(n,) int64: the first byte of each case in the file."""
    sizes = [(starts[dtype.decode()], np.dtype(dtype.decode()).itemsize) for dtype in index["dtype"]]
    begin, itemsize = np.array(sizes, np.int64).reshape(-1, 2).T
    return begin + index["offset"] * itemsize


def _joined(blocks: list[bytes]) -> bytes:
    """A case's digest from its blocks'."""
    return blocks[0] if len(blocks) == 1 else xxhash.xxh3_128_digest(b"".join(blocks))


def _split(job: Job) -> list[Job]:
    """What to try one by one when a job has crashed."""
    if job.stop:
        return [job]
    return [
        Job(f"{job.target}.{i}", job.cases.select(np.array([i])), job.contents[i : i + 1], {})
        for i in range(len(job.cases))
    ]


def _crashed(job: Job) -> Done:
    return Done({job.contents[0].tobytes(): ("crashed", "the process that decoded it came to its end")})


# What the workers do


def _do(work: Work, job: Job) -> Done:
    try:
        return workers.quietly(lambda: _fill_run(work, job) if job.stop else _make_small(work, job))
    finally:
        _mapped.cache_clear()  # whoever changes the file between two jobs is noticed


def _make_small(work: Work, job: Job) -> Done:
    """Brings all cases that can be read into memory, then makes the piece of them."""
    sizes, dtypes = job.cases.pixel_bytes(), job.cases.dtypes()
    flats = {dtype.decode(): np.empty(sizes[dtypes == dtype].sum(), np.uint8) for dtype in np.unique(dtypes)}
    ends: Counter[str] = Counter()
    refused: dict[bytes, tuple[str, str]] = {}
    digests, kept = [], []
    for i, ((reader, case), size) in enumerate(zip(job.cases, sizes.tolist(), strict=True)):
        dtype = case.dtype
        flat = flats[dtype][ends[dtype] : ends[dtype] + size]
        try:
            digests.append(_bring(work, reader, case, job.stored.get(i), flat))
        except Exception as error:
            refused[job.contents[i].tobytes()] = _reason(error, job.target)
        else:
            kept.append(i)
            ends[dtype] += size
    if not kept:
        return Done(refused)
    cases, contents = (job.cases.select(np.array(kept)), job.contents[kept]) if refused else (job.cases, job.contents)
    index, elements = _index(cases)
    key = _key(index, contents, work.units)
    starts = allocate(Path(job.target), index, elements, work.axes, work.units)
    with _opened(job.target) as file:
        for dtype, start in starts.items():
            _write(file, flats[dtype][: ends[dtype]], start, job.target)
    keep(Path(job.target), key, contents, _offsets(index, starts), np.frombuffer(b"".join(digests), DIGEST))
    return Done(refused, key)


def _bring(work: Work, reader: str, case: Case, stored: Stored | None, flat: np.ndarray) -> bytes:
    """A case's pixels into memory, from the store if they are there and sound, else from the files; their digest."""
    if stored is not None and (content := _read(stored.path, stored.offset, flat.nbytes)) is not None:
        if _digest(content, case.blocks) == stored.digest:
            flat[:] = content
            return stored.digest
    shape = (1, *case.shape) if len(case.shape) == 3 else case.shape[1:]  # (1, C, H, W) or (D, H, W)
    blocks = flat.view(_dtype(case.dtype)).reshape(shape)
    for i, pixels in enumerate(_decode(work, reader, case, 0, len(blocks))):
        blocks[i] = pixels
    return _digest(flat, len(blocks))


def _digest(flat: np.ndarray, blocks: int) -> bytes:
    """Of the bytes of a case."""
    return _joined([xxhash.xxh3_128_digest(block.data) for block in flat.reshape(blocks, -1)])


_dtype = lru_cache(np.dtype)


def _fill_run(work: Work, job: Job) -> Done:
    """Brings blocks into their place in a large piece."""
    ((reader, case),) = job.cases
    block = int(job.cases.pixel_bytes()[0]) // case.blocks
    digests: list[bytes] = []
    with _opened(job.target) as file:
        if job.stored and (digests := _copy(job.stored[0], file, job, block)):
            return Done({}, digests=tuple(digests))
        try:
            for pixels in _decode(work, reader, case, job.start, job.stop):
                pixels = np.ascontiguousarray(pixels)
                _write(file, pixels, job.offset + len(digests) * block, job.target)
                digests.append(xxhash.xxh3_128_digest(pixels.data))
        except Exception as error:
            return Done({job.contents[0].tobytes(): _reason(error, job.target)})
    return Done({}, digests=tuple(digests))


def _copy(stored: Stored, file: int, job: Job, block: int) -> list[bytes]:
    """Copies a case's blocks from another piece; no digests if they are not what they were."""
    digests = []
    for i in range(job.stop):
        content = _read(stored.path, stored.offset + i * block, block)
        if content is None:
            return []
        digests.append(xxhash.xxh3_128_digest(content.data))
        _write(file, content, job.offset + i * block, job.target)
    return digests if _joined(digests) == stored.digest else []


def _read(path: str, offset: int, size: int) -> np.ndarray | None:
    """Bytes of a file; None where it has none there."""
    try:
        content = _mapped(path)[offset : offset + size]
    except (FileNotFoundError, ValueError):  # the latter if it is empty
        return None
    return content if len(content) == size else None


@lru_cache(maxsize=1)
def _mapped(path: str) -> np.ndarray:
    """A file's bytes; the cases of a piece are asked for one after the other, and to open it takes longer."""
    return np.memmap(path, np.uint8, "r").view(np.ndarray)


def _decode(work: Work, reader: str, case: Case, start: int, stop: int) -> Iterator[np.ndarray]:
    """Blocks of a case from its files: (H, W) of a volume, or the one (C, H, W) of a picture.

    Raises:
        Rejected, and whatever decoders raise.
    """
    count = 0

    def load(file: Inspected) -> bytes:
        content = read_content(f"{work.raw}/{file.path}")
        if xxhash.xxh3_128_digest(content) != file.digest:
            raise Rejected("changed", f"{file.path} changed while it was read")
        return content

    shape = case.shape if len(case.shape) == 3 else case.shape[2:]
    dtype = _dtype(case.dtype)
    for pixels in readers.reader(reader).read(case.files, case.recipe, start, stop, load, work.options):
        if len(shape) == 3 and pixels.shape != shape:
            pixels = converted(pixels.reshape(-1, *shape[1:]), shape[0], work.options.params.colour)
        if pixels.dtype != dtype or pixels.shape != shape:
            raise Rejected("corrupt", f"decoded to {pixels.shape} {pixels.dtype}, expected {shape} {dtype}")
        count += 1
        yield pixels
    if count != stop - start:
        raise Rejected("corrupt", f"decoded to {count} slices, expected {stop - start}")


def _reason(error: Exception, target: str) -> tuple[str, str]:
    """Why a case can't be read.

    Raises:
        UserError, ImportError, SyntaxError: It is no fault of the case.
    """
    if isinstance(error, Rejected):
        return error.reason, error.detail
    if isinstance(error, MemoryError):
        return "too_large", "it takes more memory than there is"
    if isinstance(error, OSError) and error.errno:  # without a number it is a decoder's
        return "io_error", f"{type(error).__name__}: {error}"
    if isinstance(error, (UserError, ImportError, SyntaxError)):  # of the disk, or of the program
        raise error
    return "unreadable", f"{type(error).__name__}: {error}"  # a file may be damaged in any way


class _opened:
    """A file's descriptor, to write at any place."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def _write(file: int, content: np.ndarray, offset: int, path: str) -> None:
    """Raises:
    UserError: The disk is full.
    """
    view = memoryview(content.data).cast("B")
    try:
        while len(view):
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"no space left on the disk of {path}: free some, then go on") from None
        raise
