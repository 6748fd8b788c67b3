"""What is read where it lies, as it may be larger than memory: HDF5 files of some size, and Zarr stores.

A Zarr store is a folder, which counts as one file: its path is that of the folder, its content all that is in it. Like
every file, it is known by a digest of its content, which is read for that a part at a time.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import xxhash

from stages.lib.core.errors import UserError
from stages.lib.core.opening import TO_READ, stamp
from stages.lib.ingest.litter import is_litter
from stages.lib.ingest.raw_files import Scan, folder_stamp
from stages.lib.ingest.readers.contract import Inspected, Rejected
from stages.lib.ingest.readers.sniff import HDF5_BYTES, looks_like_hdf5

SMALL_BYTES = 16 << 20  # of a file that is read into memory like any other
RUN_BYTES = 1 << 20  # that are read at once
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")  # one of them makes a folder a Zarr store
ZARR_ENDINGS = tuple(f"/{name}" for name in ZARR_FILES)


def reader_of(path: str) -> str | None:
    """The name of the reader that reads a file in place; None of all others.

    Raises:
        OSError: It can't be read.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return "zarr"
    if status.st_size <= SMALL_BYTES or not stat.S_ISREG(status.st_mode):
        return None
    with open(path, "rb", buffering=0) as file:
        return "hdf5" if looks_like_hdf5(file.read(HDF5_BYTES)) else None


def stamped(path: str) -> tuple[bytes, tuple[int, ...]]:
    """The digest of a file's content, as of the whole of it in memory, and its stamp from before it was read.

    Raises:
        Rejected: It is a store with a symbolic link to a folder in it.
        OSError: It can't be read.
    """
    if not os.path.isdir(path):
        return _digest(path)
    before = folder_stamp(path)
    whole = xxhash.xxh3_128()
    for below in files_below(path):
        whole.update(os.fsencode(below) + b"\0" + _digest(f"{path}/{below}")[0])
    return whole.digest(), before


def _digest(path: str) -> tuple[bytes, tuple[int, ...]]:
    descriptor = os.open(path, TO_READ)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, "no regular file", path)
        found, left = xxhash.xxh3_128(), status.st_size
        while left and (run := file.read(min(left, RUN_BYTES))):
            found.update(run)
            left -= len(run)
        return found.digest(), stamp(status)


def files_below(folder: str) -> list[str]:
    """The files of a store, below its folder, sorted. Links to files are followed, as in all of data/raw: DVC makes
    each file a link into its cache where cache.type says so.

    Raises:
        Rejected: There is a symbolic link to a folder among them, which no tool makes, and which may have no end.
    """
    found: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                name = f"{below}{entry.name}"
                if entry.is_symlink() and entry.is_dir():
                    way = "copy what it leads to into its place, as cp -RL does with the whole store"
                    raise Rejected("unsupported_format", f"a Zarr store with a symbolic link to a folder in it: {way}")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                else:
                    found.append(name)
    return sorted(found)


class Places:
    """The files that were found to be unchanged: the digest of a large one is not computed for each of its cases."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, tuple[int, ...]]] = {}  # digest and stamp by path

    def check(self, path: str, file: Inspected) -> None:
        """Raises:
        Rejected: The file is not as it was when it was inspected.
        OSError: It can't be read.
        """
        now = folder_stamp(path) if os.path.isdir(path) else stamp(os.stat(path))
        if self._known.get(path) == (file.digest, now):
            return
        if stamped(path)[0] != file.digest:
            raise Rejected("changed", f"{file.path} changed while it was read")
        self._known = {path: (file.digest, now)}


def with_stores(raw: Path, found: Scan) -> Scan:
    """What a walk of a folder found, where the files of a Zarr store are one: its folder.

    Raises:
        UserError: A store lies in an archive, or is the folder itself.
    """
    if is_store(str(raw)):
        store, beside = raw.with_name(f"{raw.name}.zarr"), raw / f"{raw.name}.zarr"
        raise UserError(
            f"{raw} is a Zarr store: put it into a folder (mv {raw} {store} && mkdir {raw} && mv {store} {beside}) and "
            f"name what of it is a case in a labels.csv (path,label: {beside.name}::name[3])"
        )
    stores = _stores([*found.paths, *found.litter])
    if not stores:
        return found
    paths = [path for path in found.paths if not _inside(path, stores)]
    litter = [path for path in found.litter if not _inside(path, stores)]
    folders = [folder for folder in found.folders if folder not in stores]
    if packed := next((path for path in found.paths if path in found.members and _inside(path, stores)), None):
        raise UserError(
            f"{packed} lies in a Zarr store, and that in {found.members.archive_of(packed)}: a store is read from a "
            "folder: unpack the archive, and remove it"
        )
    return found._replace(paths=sorted([*paths, *stores]), litter=litter, folders=folders)


def is_store(folder: str) -> bool:
    """Whether a folder is a Zarr store."""
    return any(os.path.isfile(f"{folder}/{name}") for name in ZARR_FILES)


def _stores(paths: Sequence[str]) -> set[str]:
    """The outermost folders that are Zarr stores, but for those that a system has hidden."""
    found = {path.rpartition("/")[0] for path in paths if path.endswith(ZARR_ENDINGS)}
    seen = {folder for folder in found if not any(map(is_litter, folder.split("/")))}
    return {folder for folder in seen if not any(above in seen for above in _above(folder))}


def _inside(path: str, stores: set[str]) -> bool:
    return any(above in stores for above in _above(path))


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
