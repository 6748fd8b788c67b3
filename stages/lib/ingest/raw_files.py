"""What lies under data/raw/<dataset>: the files, sorted; and apart from them what systems and editors leave behind."""

import os
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.lib.core.errors import UserError

RECENT_NANOSECONDS = 100_000_000  # a file changed twice within a tick of the file system's clock looks unchanged
LITTER_NAMES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"}
STAMP_FIELDS = 4  # size, time of the last change of content, of the last change of anything, inode


class Scan(NamedTuple):
    """What a walk found."""

    paths: list[str]  # of the files, below data/raw/<dataset>, with /
    litter: list[str]
    folders: list[str]  # directly below data/raw/<dataset>, litter left out


def scan(raw: Path) -> Scan:
    """Walks the folder and the links in it.

    Raises:
        UserError: There is no such folder, or it is empty.
    """
    if not raw.is_dir():
        raise UserError(f"{raw} not found: put the data there (class folders, or files and a labels.csv)")
    litter: list[str] = []
    paths = list(_walk(str(raw), "", frozenset(), litter))
    if not paths:
        raise UserError(f"{raw} holds no files: put the data there (class folders, or files and a labels.csv)")
    folders = sorted(e.name for e in os.scandir(raw) if e.is_dir() and not is_litter(e.name))
    return Scan(paths, sorted(litter), folders)


def folders_of(paths: Sequence[str], folders: Sequence[str], excluded: Sequence[str]) -> list[str]:
    """The folders of the first level that are not left out whole: with a file among the paths, or with none at all."""
    filled, left_out = ({path.partition("/")[0] for path in some} for some in (paths, excluded))
    return [folder for folder in folders if folder in filled or folder not in left_out]


def stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells without reading a file whether it is still the same: size, times in nanoseconds, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (1 << 63) - 1


def stamps(raw: Path, paths: Sequence[str]) -> np.ndarray:
    """The files' stamps, (N, STAMP_FIELDS) int64; zeros for a file that is gone."""
    numbers = array("q")
    for path in paths:
        try:
            numbers.extend(stamp(os.stat(f"{raw}/{path}")))
        except FileNotFoundError:
            numbers.extend((0,) * STAMP_FIELDS)
    return np.frombuffer(numbers, np.int64).reshape(-1, STAMP_FIELDS)


def is_recent(stamps: np.ndarray) -> np.ndarray:
    """(N,) bool: which files were changed a moment ago."""
    return stamps[:, 1:3].max(axis=1) >= time.time_ns() - RECENT_NANOSECONDS


def is_litter(name: str) -> bool:
    """Hidden files and folders (.DS_Store, ._x.jpg, .ipynb_checkpoints), and what Windows leaves behind."""
    return name[0] == "." or name.lower() in LITTER_NAMES


def _walk(folder: str, below: str, above: frozenset[str], litter: list[str]) -> Iterator[str]:
    """A folder's files and what lies below it, in the order of their paths."""
    real = os.path.realpath(folder)
    if real in above:
        return  # a link to a folder that it lies in
    with os.scandir(folder) as found:
        entries = sorted((e.name + "/" if e.is_dir() else e.name, e) for e in found)
    for name, entry in entries:
        path = below + name
        if is_litter(name.rstrip("/")):
            litter += _files_below(entry.path, path.rstrip("/")) if name[-1] == "/" else [path]
        elif name[-1] == "/":
            yield from _walk(entry.path, path, above | {real}, litter)
        elif entry.is_file():
            yield path
        else:
            raise UserError(f"{entry.path} is no file (a broken link?): mend or remove it")


def _files_below(folder: str, below: str) -> list[str]:
    return [
        os.path.join(below, os.path.relpath(os.path.join(root, name), folder)).replace(os.sep, "/")
        for root, _, names in os.walk(folder)
        for name in names
    ]
