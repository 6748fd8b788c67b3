"""Hashes of files as dvc takes them, from their bytes: dvc's own memory of hashes is not asked."""

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from dvc_data.hashfile.hash import fobj_md5

from stages.lib.core.progress import progress

BATCH_FILES, BATCH_BYTES = 256, 64 << 20  # what a thread is given at once; a larger file is a batch of its own
SMALL_BYTES = 1 << 16  # a file of this size or less is read in one go
CHUNK_BYTES = 1 << 20

File = tuple[str, str]  # path and name of the hash


class Hashes:
    """Finds the hashes of files, each read once, whatever number of names (links) it has.

    Attributes:
        found: The hash of a file, or what the system says that refuses it.
        files, bytes: How many were read.
    """

    def __init__(self, threads: int) -> None:
        self.found: dict[File, str | OSError] = {}
        self.files = self.bytes = 0
        self._threads = threads
        self._known: dict[tuple[int, int, str], str | OSError] = {}

    def read(self, files: Iterable[File]) -> None:
        """Adds the hashes of these files."""
        names: dict[tuple[int, int, str], list[File]] = defaultdict(list)
        sizes: list[tuple[File, int]] = []
        for file in files:
            try:
                status = os.stat(file[0])
                if not stat.S_ISREG(status.st_mode):
                    raise OSError("is no file")  # to read a pipe would take for ever
            except OSError as error:
                self.found[file] = error
                continue
            key = status.st_dev, status.st_ino, file[1]
            if key not in names and key not in self._known:
                sizes.append((file, status.st_size))
            names[key].append(file)
        firsts = {same[0]: key for key, same in names.items()}
        with ThreadPoolExecutor(self._threads) as pool:
            done = (pair for batch in pool.map(_hash_all, _batches(sizes)) for pair in batch)
            for file, value in progress(done, "read and hash", "file", len(sizes)):
                self._known[firsts[file]] = value
        self.files += len(sizes)
        self.bytes += sum(size for _, size in sizes)
        self.found.update((file, self._known[key]) for key, same in names.items() for file in same)


def _batches(sizes: Iterable[tuple[File, int]]) -> Iterator[list[tuple[File, int]]]:
    batch: list[tuple[File, int]] = []
    total = 0
    for file, size in sizes:
        batch.append((file, size))
        total += size
        if len(batch) == BATCH_FILES or total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _hash_all(batch: list[tuple[File, int]]) -> list[tuple[File, str | OSError]]:
    return [(file, _hash(*file, size)) for file, size in batch]


def _hash(path: str, name: str, size: int) -> str | OSError:
    try:
        with open(path, "rb", buffering=0) as file:
            if name == "md5" and size <= SMALL_BYTES:
                return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
            return fobj_md5(file, CHUNK_BYTES, name)
    except OSError as error:
        return error
