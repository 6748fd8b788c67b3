"""The second pass of ingest: every case's pixels, straight into their place in cases.h5, from several processes."""

import errno
import math
import os
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from stages.lib import journal, readers, workers
from stages.lib.cases import Cases, Entry, allocate
from stages.lib.errors import UserError
from stages.lib.inspection import read_content
from stages.lib.progress import progress
from stages.lib.readers.colour import converted
from stages.lib.readers.contract import Case, Inspected, Options, Refusal, Rejected
from stages.lib.store import Store, Stored

CHUNK_BYTES = 4 << 20  # of pixels a chunk of work has, if a single block has not more
CHUNK_CASES = 256


class Part(NamedTuple):
    """Some blocks of a case: what a worker must know to bring them."""

    number: int  # of the case
    content: str  # digest of all that the pixels depend on
    start: int  # blocks
    stop: int
    offset: int  # bytes: where the first of them goes
    block: int  # bytes of each
    reader: str
    files: tuple[Inspected, ...]
    recipe: tuple[Any, ...]
    shape: tuple[int, ...]  # of the case
    dtype: str
    stored: Stored | None


class Filled(NamedTuple):
    digests: tuple[str, ...]  # of each block; none where the case is rejected
    reason: str = ""
    detail: str = ""
    blocks: int = 0  # how many are missing, where there is a reason


class Work(NamedTuple):
    """What all parts have in common."""

    raw: str
    target: str
    options: Options


def fill(
    raw: Path, cases: list[tuple[str, Case]], store: Store, options: Options, crew: workers.Workers
) -> tuple[list[tuple[str, Case]], list[bytes], list[Refusal]]:
    """Makes store.working_h5 with all cases that can be read.

    A case that turns out to be damaged has no place in the file: then it is made again without, from the pixels that
    are there already.

    Args:
        cases: Readers' names and cases, in the order that they are to have.

    Returns:
        The cases in the file, the digest of each one's pixels, and what was refused.
    """
    contents = [_content(reader, case, options) for reader, case in cases]
    refused: list[Refusal] = []
    while True:
        good = []
        for content, (reader, case) in zip(contents, cases, strict=True):
            if content in store.refusals:
                refused.append(Refusal(tuple(f.path for f in case.files), *store.refusals[content]))
            else:
                good.append((content, reader, case))
        digests = _fill_once(raw, good, store, options, crew)
        if digests is not None:
            return [(reader, case) for _, reader, case in good], digests, refused
        contents, cases = [content for content, _, _ in good], [(reader, case) for _, reader, case in good]
        store.set_aside()


def _content(reader: str, case: Case, options: Options) -> str:
    colour = options.params.colour if len(case.shape) == 3 else ""
    facts = (reader, [file.digest for file in case.files], case.recipe, case.shape, case.dtype, colour)
    return xxhash.xxh3_128_hexdigest(repr(facts).encode())


def _fill_once(
    raw: Path, cases: list[tuple[str, str, Case]], store: Store, options: Options, crew: workers.Workers
) -> list[bytes] | None:
    """Makes the file, and gives each case's digest; None when a case was refused, which the store then knows."""
    offsets = _allocate(cases, store)
    work = partial(_fill_chunk, Work(str(raw), str(store.working_h5), options))
    chunks = _chunks(_parts(cases, offsets, store))
    done = crew.run(work, chunks, _crashed)
    digests = [b""] * len(cases)
    sound = True
    notes = store.journal_pixels()
    for index, result in progress(_whole_cases(done, notes), "read pixels", "case", len(cases)):
        digests[index] = _joined(result.digests)
        if result.reason:
            store.refusals[cases[index][0]] = (result.reason, result.detail)
            sound = False
    notes.close()
    return digests if sound else None


def _allocate(cases: list[tuple[str, str, Case]], store: Store) -> list[int]:
    """Makes a place for every case in working.h5; where each one starts, in bytes."""
    axes = "CDHW" if cases and len(cases[0][2].shape) == 4 else "CHW"
    units = {case.units for _, _, case in cases}
    entries = [Entry(case.case, case.dtype, case.shape, case.spacing_mm) for _, _, case in cases]
    allocate(store.working_h5, entries, axes, units.pop() if len(units) == 1 else "")
    with Cases(store.working_h5) as places:
        return [places.byte_offset(i) for i in range(len(cases))]


def _parts(cases: list[tuple[str, str, Case]], offsets: list[int], store: Store) -> Iterator[Part]:
    """The work, case by case; a large volume is several parts, so that several processes share it."""
    for index, (content, reader, case) in enumerate(cases):
        blocks = case.blocks
        block = _bytes(case.shape, case.dtype) // blocks
        step = max(1, CHUNK_BYTES // block)
        what = (block, reader, case.files, case.recipe, case.shape, case.dtype)
        for start in range(0, blocks, step):
            stop, place = min(start + step, blocks), offsets[index] + start * block
            yield Part(index, content, start, stop, place, *what, store.pixels.get((content, start)))


@lru_cache
def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * _dtype(dtype).itemsize


_dtype = lru_cache(np.dtype)


def _chunks(parts: Iterator[Part]) -> Iterator[list[Part]]:
    chunk: list[Part] = []
    size = 0
    for part in parts:
        chunk.append(part)
        size += (part.stop - part.start) * part.block
        if size >= CHUNK_BYTES or len(chunk) == CHUNK_CASES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _whole_cases(
    done: Iterator[tuple[list[Part], list[Filled]]], notes: journal.Journal
) -> Iterator[tuple[int, Filled]]:
    """Notes what is done, and yields a case when all of its parts are there, or the first of them that is refused."""
    pieces: dict[int, dict[int, Filled]] = {}
    for parts, results in done:
        notes.add([_record(part, result) for part, result in zip(parts, results, strict=True)])
        for part, result in zip(parts, results, strict=True):
            blocks = part.shape[1] if len(part.shape) == 4 else 1
            if part.stop - part.start == blocks:
                yield part.number, result
                continue
            mine = pieces.setdefault(part.number, {})
            mine[part.start] = result
            if sum(max(len(piece.digests), piece.blocks) for piece in mine.values()) == blocks:
                del pieces[part.number]
                ordered = [mine[start] for start in sorted(mine)]
                refused = next((piece for piece in ordered if piece.reason), None)
                yield part.number, refused or Filled(tuple(d for piece in ordered for d in piece.digests))


def _record(part: Part, result: Filled) -> list[object]:
    if result.reason:
        return [part.content, result.reason, result.detail]
    return [part.content, part.start, part.offset, result.digests]


def _joined(digests: tuple[str, ...]) -> bytes:
    """A case's digest from its blocks'."""
    return bytes.fromhex(digests[0]) if len(digests) == 1 else xxhash.xxh3_128_digest("".join(digests).encode())


def _crashed(part: Part) -> Filled:
    return Filled((), "crashed", "the process that decoded it came to its end", part.stop - part.start)


def _fill_chunk(work: Work, parts: list[Part]) -> list[Filled]:
    target = os.open(work.target, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        return workers.quietly(lambda: [_fill(part, target, work) for part in parts])
    finally:
        os.close(target)


def _fill(part: Part, target: int, work: Work) -> Filled:
    """Brings a part's blocks, from the store if they are there and sound, else from the files."""
    try:
        if part.stored is not None and _copy(part, part.stored, target):
            return Filled(part.stored.digests)
        return _decode(part, target, work)
    except Rejected as error:
        return Filled((), error.reason, error.detail, part.stop - part.start)
    except MemoryError:
        return Filled((), "too_large", "it takes more memory than there is", part.stop - part.start)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"no space left on the disk of {work.target}: free some, then go on") from None
        return Filled((), "unreadable", f"{type(error).__name__}: {error}", part.stop - part.start)
    except (ImportError, SyntaxError):  # a fault of the program, and not of the file
        raise
    except Exception as error:  # a file may be damaged in any way, and decoders have as many exceptions
        return Filled((), "unreadable", f"{type(error).__name__}: {error}", part.stop - part.start)


def _copy(part: Part, stored: Stored, target: int) -> bool:
    """Copies blocks from an earlier run's file; False where they are not what they were."""
    block = part.block
    if len(stored.digests) != part.stop - part.start:
        return False
    try:
        with open(stored.path, "rb", buffering=0) as source:
            for i, digest in enumerate(stored.digests):
                content = os.pread(source.fileno(), block, stored.offset + i * block)
                if len(content) != block or xxhash.xxh3_128_hexdigest(content) != digest:
                    return False
                _write(target, content, part.offset + i * block)
    except FileNotFoundError:
        return False
    return True


def _decode(part: Part, target: int, work: Work) -> Filled:
    shape, block = part.shape, part.block
    reader = readers.reader(part.reader)
    digests = []

    def load(file: Inspected) -> bytes:
        content = read_content(f"{work.raw}/{file.path}")
        if xxhash.xxh3_128_hexdigest(content) != file.digest:
            raise Rejected("changed", f"{file.path} changed while it was read")
        return content

    for pixels in reader.read(part.files, part.recipe, part.start, part.stop, load, work.options):
        if len(shape) == 3:  # a picture
            pixels = pixels.reshape(-1, *shape[1:])  # (C, H, W)
            pixels = converted(pixels, shape[0], work.options.params.colour)
        pixels = np.ascontiguousarray(pixels)
        if pixels.dtype != _dtype(part.dtype) or pixels.nbytes != block:
            raise Rejected("corrupt", f"decoded to {pixels.shape} {pixels.dtype}, expected {shape} {part.dtype}")
        digests.append(xxhash.xxh3_128_hexdigest(pixels.data))
        _write(target, pixels.data, part.offset + len(digests) * block - block)
    return Filled(tuple(digests))


def _write(target: int, content: bytes | memoryview, offset: int) -> None:
    view = memoryview(content).cast("B")
    while len(view):
        written = os.pwrite(target, view, offset)
        view, offset = view[written:], offset + written
