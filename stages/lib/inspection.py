"""The first pass of ingest: every file that is new or changed is read once, and what its header says is kept."""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from stages.lib import journal, readers, workers
from stages.lib.progress import progress
from stages.lib.raw_files import RawFile
from stages.lib.readers.contract import Ignored, Inspected, Options, Refusal, Rejected
from stages.lib.store import Store

CHUNK = 256  # files
# What is told of a file: (digest, reader, Common, Own), or (digest, "", (reason, detail), (ignored, series)).
Fact = tuple[str, str, tuple[Any, ...], tuple[Any, ...]]
SMALL = 1 << 16  # bytes


class Inspection:
    """What the files are."""

    def __init__(self) -> None:
        self.accepted: dict[str, list[Inspected]] = {}  # by reader, in the order of the paths
        self.refused: list[Refusal] = []
        self._alike: dict[tuple[str, tuple[Any, ...]], tuple[Any, ...]] = {}

    def add(self, path: str, fact: Fact) -> None:
        digest, reader, common, own = fact
        if reader:
            common = self._alike.setdefault((reader, common), common)  # kept once, not a million times
            self.accepted.setdefault(reader, []).append(Inspected(path, digest, common, own))
        else:
            self.refused.append(Refusal((path,), *common, *own))


def inspect_all(raw: Path, files: list[RawFile], store: Store, options: Options, crew: workers.Workers) -> Inspection:
    """Inspects all files; what the store knows of unchanged ones is taken from there."""
    known = store.files()
    seed = int.from_bytes(options.key[:8], "big")  # a path may name somebody, and a store lies about
    names = [xxhash.xxh3_128_hexdigest(file.path.encode("utf-8", "surrogateescape"), seed) for file in files]
    facts: dict[int, Fact] = {}
    for i, (file, name) in enumerate(zip(files, names, strict=True)):
        record = known.get(name)
        if record is not None and file.signature and record[0] == file.signature:
            facts[i] = (record[1], sys.intern(record[2]), _tuples(record[3]), _tuples(record[4]))
    unknown = [i for i in range(len(files)) if i not in facts]
    _inspect_new(raw, files, names, unknown, facts, store, options, crew)
    if unknown or len(known) != len(files):
        records = ([names[i], files[i].signature, *facts[i]] for i in range(len(files)))
        store.keep_files(_chunks(records, CHUNK))
    inspection = Inspection()
    for i, file in enumerate(files):
        inspection.add(file.path, facts.pop(i))
    return inspection


def _inspect_new(
    raw: Path,
    files: list[RawFile],
    names: list[str],
    unknown: list[int],
    facts: dict[int, Fact],
    store: Store,
    options: Options,
    crew: workers.Workers,
) -> None:
    work = partial(_inspect_chunk, str(raw), options)
    size = min(CHUNK, len(unknown) // (4 * crew.number) + 1)
    chunks = ([(i, files[i].path) for i in part] for part in _chunks(unknown, size))
    notes = store.journal_files()
    done = crew.run(work, chunks, _crashed)
    for i, fact in progress(_noted(done, notes, names, files), "read headers", "file", len(unknown)):
        facts[i] = fact
    notes.close()


def _noted(
    done: Iterator[tuple[list[tuple[int, str]], list[Fact]]],
    notes: journal.Journal,
    names: list[str],
    files: list[RawFile],
) -> Iterator[tuple[int, Fact]]:
    alike: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # a fact is kept once, not a million times
    for chunk, results in done:
        notes.add([[names[i], files[i].signature, *fact] for (i, _), fact in zip(chunk, results, strict=True)])
        for (i, _), (digest, reader, common, own) in zip(chunk, results, strict=True):
            yield i, (digest, sys.intern(reader), alike.setdefault(common, common), own)


def _crashed(item: tuple[int, str]) -> Fact:
    return ("", "", ("crashed", "the process that read it came to its end"), (False, ""))


def _inspect_chunk(raw: str, options: Options, chunk: list[tuple[int, str]]) -> list[Fact]:
    return workers.quietly(lambda: [inspect_file(f"{raw}/{path}", options) for _, path in chunk])


def inspect_file(path: str, options: Options) -> Fact:
    """A reader's facts of a file, or why there are none: whatever is wrong with the file, nothing is raised."""
    digest = ""
    try:
        content = read_content(path)
        digest = xxhash.xxh3_128_hexdigest(content)
        name = readers.recognise(content)
        common, own = readers.reader(name).inspect(content, options)
        return digest, name, common, own
    except Rejected as error:
        return digest, "", (error.reason, error.detail), (isinstance(error, Ignored), error.series)
    except MemoryError:
        return digest, "", ("too_large", "its header asks for more memory than there is"), (False, "")
    except (ImportError, SyntaxError):  # a fault of the program, and not of the file
        raise
    except Exception as error:  # a file may be damaged in any way, and libraries have as many exceptions
        return digest, "", ("unreadable", f"{type(error).__name__}: {error}"), (False, "")


def read_content(path: str) -> bytes:
    """A file's bytes; in half the time of Path.read_bytes, which counts with many small files."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        content = os.read(descriptor, SMALL)
        if len(content) < SMALL:
            return content
        pieces = [content]
        size = os.fstat(descriptor).st_size
        while more := os.read(descriptor, max(size - SMALL, SMALL)):  # one read gives 2 GiB at most
            pieces.append(more)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
