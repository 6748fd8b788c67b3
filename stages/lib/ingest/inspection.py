"""The first pass of ingest: every new or changed file is read once, for what its header says."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from stages.lib.core import opening
from stages.lib.core.progress import progress
from stages.lib.ingest import in_place, readers
from stages.lib.ingest.decoding import MemoryTurn, reason_of
from stages.lib.ingest.file_table import FileTable, Inspection, Reason, Shared
from stages.lib.ingest.raw_files import is_recent, stamp, stamps
from stages.lib.ingest.readers.contract import Ignored, Options, Rejected, reading
from stages.lib.ingest.store import PASSING_REASONS, Store
from stages.lib.workers import Workers, quietly, singles

JOB_FILES = 256  # files that a worker inspects at once, at most


def inspect_all(raw: Path, paths: list[str], store: Store, options: Options, workers: Workers) -> FileTable:
    """Inspects all files; what the store holds of unchanged ones is taken from there."""
    # Paths are hashed, as they may name somebody, and the store lies open beside the outs.
    seed = int.from_bytes(options.key[:8], "big")
    hashes = (xxhash.xxh3_64_intdigest(path.encode("utf-8", "surrogateescape"), seed) for path in paths)
    names = np.fromiter(hashes, np.uint64, len(paths))
    files = FileTable(paths)
    known = store.take_files(names, partial(stamps, raw, paths), files)
    unknown = np.flatnonzero(~known)
    work = partial(_inspect_some, str(raw), options, store.turn)
    size = min(JOB_FILES, len(unknown) // (4 * workers.number) + 1)
    jobs = ([(int(i), paths[i]) for i in unknown[at : at + size]] for at in range(0, len(unknown), size))
    done = workers.run(work, jobs, singles, _crashed)
    for job, inspected in progress(done, "read headers", "file", len(unknown), lambda entry: len(entry[0])):
        positions = np.array([i for i, _ in job])
        files.take(positions, inspected)
        store.note_files(names[positions], inspected)
    if store.knows_more(len(names)):
        store.keep_files(names, files)
    return files


def _crashed(job: list[tuple[int, str]]) -> FileTable:
    table = FileTable([""])
    table.put(0, "0", _refused("crashed", "the process that read it came to its end"))
    return table


def _inspect_some(raw: str, options: Options, turn: Path, job: list[tuple[int, str]]) -> FileTable:
    def inspect() -> FileTable:
        table = FileTable([""] * len(job))
        memory = MemoryTurn(turn)
        for i, (_, path) in enumerate(job):
            with memory:
                table.put(i, options.identify("path", path), inspect_file(f"{raw}/{path}", options, memory.take))
        table.stamps[is_recent(table.stamps), 1:] = 0  # a change could still go unnoticed
        return table

    return quietly(inspect)


def read_stamped(path: str, options: Options, take: Callable[[int], object] = int) -> tuple[bytes, tuple[int, ...]]:
    """A file's bytes and its stamp, taken before reading, so that a change meanwhile shows."""
    content, status = opening.read(path, options.max_file_bytes, take)
    return content, stamp(status)


def inspect_file(
    path: str, options: Options, take: Callable[[int], object] = int, read: Callable[..., Any] = read_stamped
) -> Inspection:
    """What a reader says of a file, or why it refuses it: whatever is wrong with the file, nothing is raised.

    Args:
        take: Is told how many bytes the file holds before they are read.
        read: Gives the bytes and the stamp, as `read_stamped` does, of what is no file: a member of an archive.

    Raises:
        UserError, ImportError: There are too few file handles, or the installation is at fault, and no file.
    """
    digest = b""
    status: tuple[int, ...] = ()
    reading(path)
    try:
        if read is read_stamped and (name := in_place.reader_of(path)):
            digest, status = in_place.stamped(path)
            common, own = readers.reader(name).inspect_place(path, options)
            return Inspection(status, digest, Shared(name, common), own)
        content, status = read(path, options, take)
        digest = xxhash.xxh3_128_digest(content)
        name = readers.recognise(content)
        common, own = readers.reader(name).inspect(content, options)
        return Inspection(status, digest, Shared(name, common), own)
    except Rejected as error:
        reason = Reason(error.reason, error.detail, isinstance(error, Ignored), error.series)
        return Inspection(status, digest, refused=reason)
    except Exception as error:  # a file may be damaged in any way, and libraries have as many exceptions
        why, detail = reason_of(error)
        # Without its stamp, where that may be otherwise at the next ingest, which then inspects it again.
        return _refused(why, detail) if why in PASSING_REASONS else _refused(why, detail, status, digest)


def _refused(reason: str, detail: str, status: tuple[int, ...] = (), digest: bytes = b"") -> Inspection:
    return Inspection(status, digest, refused=Reason(reason, detail, ignored=False, series=""))
