"""What lies under data/raw/<dataset>: the files, sorted, and the litter of systems and editors set apart."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stages.lib.errors import UserError

RECENT_NS = 100_000_000  # a file changed twice within a tick of the file system's clock looks unchanged
LITTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"}


class RawFile(NamedTuple):
    """A file, and what tells without reading that it is still the same."""

    path: str  # below data/raw/<dataset>, with /
    signature: str  # size, times and inode; "" where a change could go unnoticed


class Scan(NamedTuple):
    files: list[RawFile]
    litter: list[str]
    folders: list[str]  # directly below data/raw/<dataset>, litter left out


def scan(raw: Path) -> Scan:
    """Walks the folder and the links in it.

    Raises:
        UserError: There is no such folder, or it is empty.
    """
    if not raw.is_dir():
        raise UserError(f"{raw} not found: put the data there (class folders, or files and a labels.csv)")
    files: list[RawFile] = []
    litter: list[str] = []
    entries = sorted(_walk(str(raw), "", frozenset(), litter))
    recent = time.time_ns() - RECENT_NS
    for path, signature, changed in entries:
        files.append(RawFile(path, signature if changed < recent else ""))
    folders = sorted(e.name for e in os.scandir(raw) if e.is_dir() and not is_litter(e.name))
    if not files:
        raise UserError(f"{raw} holds no files: put the data there (class folders, or files and a labels.csv)")
    return Scan(files, sorted(litter), folders)


def is_litter(name: str) -> bool:
    """Hidden files and folders (.DS_Store, ._x.jpg, .ipynb_checkpoints), and what Windows leaves behind."""
    return name.startswith(".") or name.lower() in LITTER


def _walk(folder: str, below: str, above: frozenset[str], litter: list[str]) -> Iterator[tuple[str, str, int]]:
    real = os.path.realpath(folder)
    if real in above:
        return  # a link to a folder that it lies in
    for entry in os.scandir(folder):
        path = below + entry.name
        if is_litter(entry.name):
            litter += [path] if not entry.is_dir() else _files_below(entry.path, path)
        elif entry.is_dir():
            yield from _walk(entry.path, path + "/", above | {real}, litter)
        elif entry.is_file():
            s = entry.stat()
            changed = max(s.st_mtime_ns, s.st_ctime_ns)
            yield path, f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}", changed
        else:
            raise UserError(f"{entry.path} is no file (a broken link?): mend or remove it")


def _files_below(folder: str, below: str) -> list[str]:
    return [
        os.path.join(below, os.path.relpath(os.path.join(root, name), folder)).replace(os.sep, "/")
        for root, _, names in os.walk(folder)
        for name in names
    ]
