"""The first pass of ingest: every file that is new or changed is read once, and what its header says is kept."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import xxhash

from stages.lib import workers
from stages.lib.core.progress import progress
from stages.lib.ingest import readers
from stages.lib.ingest.file_table import Fact, Facts
from stages.lib.ingest.raw_files import is_recent, stamp, stamps
from stages.lib.ingest.readers.contract import Ignored, Options, Rejected
from stages.lib.ingest.store import Store

CHUNK = 256  # files
SMALL = 1 << 16  # bytes
OPEN_TO_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


def inspect_all(raw: Path, paths: list[str], store: Store, options: Options, crew: workers.Workers) -> Facts:
    """Inspects all files; what the store knows of unchanged ones is taken from there."""
    seed = int.from_bytes(options.key[:8], "big")  # a path may name somebody, and a store lies about
    hashes = (xxhash.xxh3_64_intdigest(path.encode("utf-8", "surrogateescape"), seed) for path in paths)
    names = np.fromiter(hashes, np.uint64, len(paths))
    facts = Facts(paths)
    known = store.take_files(names, partial(stamps, raw, paths), facts)
    unknown = np.flatnonzero(~known)
    work = partial(_inspect_some, str(raw), options)
    size = min(CHUNK, len(unknown) // (4 * crew.number) + 1)
    jobs = ([(int(i), paths[i]) for i in unknown[at : at + size]] for at in range(0, len(unknown), size))
    done = crew.run(work, jobs, workers.singles, _crashed)
    for job, part in progress(done, "read headers", "file", len(unknown), lambda entry: len(entry[0])):
        positions = np.array([i for i, _ in job])
        facts.take(positions, part)
        store.note_files(names[positions], part)
    if store.knows_more(len(names)):
        store.keep_files(names, facts)
    return facts


def _crashed(job: list[tuple[int, str]]) -> Facts:
    part = Facts([""])
    part.put(0, "0", ((), b"", "", ("crashed", "the process that read it came to its end"), (False, "")))
    return part


def _inspect_some(raw: str, options: Options, job: list[tuple[int, str]]) -> Facts:
    def inspect() -> Facts:
        part = Facts([""] * len(job))
        for i, (_, path) in enumerate(job):
            part.put(i, options.identify("path", path), inspect_file(f"{raw}/{path}", options))
        part.stamps[is_recent(part.stamps), 1:] = 0  # a change could still go unnoticed
        return part

    return workers.quietly(inspect)


def inspect_file(path: str, options: Options) -> Fact:
    """A reader's facts of a file, or why there are none: whatever is wrong with the file, nothing is raised."""
    digest = b""
    status: tuple[int, ...] = ()
    try:
        content, status = read_stamped(path)
        digest = xxhash.xxh3_128_digest(content)
        name = readers.recognise(content)
        common, own = readers.reader(name).inspect(content, options)
        return status, digest, name, common, own
    except Rejected as error:
        return status, digest, "", (error.reason, error.detail), (isinstance(error, Ignored), error.series)
    except MemoryError:
        return status, digest, "", ("too_large", "its header asks for more memory than there is"), (False, "")
    except (ImportError, SyntaxError):  # a fault of the program, and not of the file
        raise
    except Exception as error:  # a file may be damaged in any way, and libraries have as many exceptions
        return status, digest, "", ("unreadable", f"{type(error).__name__}: {error}"), (False, "")


def read_stamped(path: str) -> tuple[bytes, tuple[int, ...]]:
    """A file's bytes and its stamp, which is that of before: a change meanwhile must show."""
    descriptor = os.open(path, OPEN_TO_READ)
    try:
        status = stamp(os.fstat(descriptor))
        return _read_all(descriptor), status
    finally:
        os.close(descriptor)


def read_content(path: str) -> bytes:
    """A file's bytes; in half the time of Path.read_bytes, which counts with many small files."""
    descriptor = os.open(path, OPEN_TO_READ)
    try:
        return _read_all(descriptor)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    content = os.read(descriptor, SMALL)
    if len(content) < SMALL:
        return content
    os.lseek(descriptor, 0, os.SEEK_SET)  # all at once, as joining the rest to it would take as long again
    size = os.fstat(descriptor).st_size
    pieces = []
    while more := os.read(descriptor, max(size, SMALL)):  # one read gives 2 GiB at most
        pieces.append(more)
        size -= len(more)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
