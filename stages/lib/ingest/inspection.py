"""The first pass of ingest: every new or changed file is read once, for what its header says."""

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from stages.lib.core.progress import progress
from stages.lib.ingest import in_place, readers
from stages.lib.ingest.archives import members as archived
from stages.lib.ingest.archives.members import NONE, Member, Members
from stages.lib.ingest.decoding import MemoryTurn, reason_of
from stages.lib.ingest.file_table import FileTable, Inspection, Reason, Shared
from stages.lib.ingest.raw_files import is_recent, stamps
from stages.lib.ingest.readers.contract import Ignored, Options, Rejected, reading
from stages.lib.ingest.store import PASSING_REASONS, Store
from stages.lib.workers import Workers, quietly

JOB_FILES = 256  # files that a worker inspects at once, at most
NOT_SMALL = (errno.EFBIG, errno.EINVAL, errno.EACCES)  # why a folder, or a large file, is not read; EACCES: on Windows


class Job(NamedTuple):
    """Files that a worker inspects."""

    files: list[tuple[int, str]]  # position and path of each
    members: Members  # of archives, that stand for some of them


def inspect_all(
    raw: Path, paths: list[str], store: Store, options: Options, workers: Workers, members: Members = NONE
) -> FileTable:
    """Inspects all files; what the store holds of unchanged ones is taken from there.

    Args:
        members: Of archives, that stand for some of the paths.
    """
    # Paths are hashed, as they may name somebody, and the store lies open beside the outs.
    seed = int.from_bytes(options.key[:8], "big")
    hashes = (xxhash.xxh3_64_intdigest(path.encode("utf-8", "surrogateescape"), seed) for path in paths)
    names = np.fromiter(hashes, np.uint64, len(paths))
    files = FileTable(paths)
    known = store.take_files(names, partial(stamps, raw, paths, members), files)
    unknown = np.flatnonzero(~known)
    if members:  # as they lie in their archives: a .tar.gz is unpacked from one place to the next
        unknown = np.array(sorted(unknown.tolist(), key=lambda i: members.place(paths[i])), np.int64)
    work = partial(_inspect_some, str(raw), options, store.turn)
    size = min(JOB_FILES, len(unknown) // (4 * workers.number) + 1)
    runs = ([(int(i), paths[i]) for i in unknown[at : at + size]] for at in range(0, len(unknown), size))
    jobs = (Job(run, members.among(path for _, path in run) if members else NONE) for run in runs)
    done = workers.run(work, jobs, _split, _crashed)
    for job, inspected in progress(done, "read headers", "file", len(unknown), lambda entry: len(entry[0].files)):
        positions = np.array([i for i, _ in job.files])
        files.take(positions, inspected)
        store.note_files(names[positions], inspected)
    if store.knows_more(len(names)):
        store.keep_files(names, files)
    return files


def _split(job: Job) -> list[Job]:
    """What to try one by one when a job has crashed."""
    return [job._replace(files=[file]) for file in job.files]


def _crashed(job: Job) -> FileTable:
    table = FileTable([""])
    table.put(0, "0", _refused("crashed", "the process that read it came to its end"))
    return table


def _inspect_some(raw: str, options: Options, turn: Path, job: Job) -> FileTable:
    def inspect() -> FileTable:
        table = FileTable([""] * len(job.files))
        memory = MemoryTurn(turn)
        for i, (_, path) in enumerate(job.files):
            with memory:
                found = inspect_file(f"{raw}/{path}", options, memory.take, job.members.get(path))
                table.put(i, options.identify("path", path), found)
        table.stamps[is_recent(table.stamps), 1:] = 0  # a change could still go unnoticed
        return table

    return quietly(inspect)


def inspect_file(
    path: str, options: Options, take: Callable[[int], object] = int, member: Member | None = None
) -> Inspection:
    """What a reader says of a file, or why it refuses it: whatever is wrong with the file, nothing is raised.

    Args:
        take: Is told how many bytes the file holds before they are read.
        member: Of an archive, that is read in place of the file.

    Raises:
        UserError, ImportError: There are too few file handles, or the installation is at fault, and no file.
    """
    digest = b""
    status: tuple[int, ...] = ()
    reading(path)
    try:
        try:
            # Opening one tells that it is small and no folder, as nearly all are: to ask first takes another call.
            most = options.max_file_bytes if member else min(options.max_file_bytes, in_place.SMALL_BYTES)
            content, status = archived.read_stamped(path, member, most, take)
        except OSError as error:
            if member or error.errno not in NOT_SMALL:
                raise
            if name := in_place.reader_of(path):
                digest, status = in_place.stamped(path)
                common, own = readers.reader(name).inspect_place(path, options)
                return Inspection(status, digest, Shared(name, common), own)
            content, status = archived.read_stamped(path, None, options.max_file_bytes, take)
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
