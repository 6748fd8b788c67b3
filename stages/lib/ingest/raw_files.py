"""What lies under data/raw/<dataset>: the files, sorted; and apart from them what systems and editors leave behind.

An archive stands for the folder that it would unpack to (archives/places.py).
"""

import os
import stat
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.opening import check_handles, kind_of, stamp
from stages.lib.ingest import patterns
from stages.lib.ingest.archives import foreign, places
from stages.lib.ingest.archives.members import NONE, Members
from stages.lib.ingest.litter import is_litter

RECENT_NANOSECONDS = 100_000_000  # a file changed twice within a tick of the file system's clock looks unchanged
STAMP_FIELDS = 4  # size, time of the last change of content, of the last change of anything, inode
MAX_VISITS = 100  # paths by which links may lead to one folder
LABELS_CSV, CORRECTIONS_CSV = "labels.csv", "corrections.csv"
TABLES = (LABELS_CSV, CORRECTIONS_CSV)  # that are no cases, and beside which an archive may be alone

Identity = tuple[int, int]  # of a folder, whatever path leads to it: device and inode


class Scan(NamedTuple):
    """What a walk found."""

    paths: list[str]  # of the files, below data/raw/<dataset>, with /
    litter: list[str]
    folders: list[str]  # directly below data/raw/<dataset>, litter left out
    members: Members = NONE  # which of the files lie in archives, and where


class _Folder(NamedTuple):
    """A folder that is being walked."""

    below: str  # its path below data/raw/<dataset>, with / at its end unless it is empty
    identity: Identity
    entries: Iterator[tuple[str, "os.DirEntry[str]"]]  # those still to come; the name of a folder ends with /


def scan(raw: Path, seek_points: Path | None = None, exclude: Sequence[str] = ()) -> Scan:
    """Walks the folder, the links in it, and the indexes of archives.

    Args:
        seek_points: A folder for what it takes to read a .tar.gz at any place, 128 MiB for each at most, which is to be
            there as long as the files are read; None: one that goes when this process ends.
        exclude: `ingest.exclude`: an archive that a pattern fits itself is left as the file that it is, and not opened.

    Raises:
        UserError: There is no such folder, it is empty, some of it can't be listed or is neither file nor folder, or an
            archive can't be read or trusted: cases would be missing in silence.
    """
    if not raw.is_dir():
        wanted = places.instead_of(raw) or "put the data there (class folders, or files and a labels.csv)"
        raise UserError(f"{raw} not found: {wanted}")
    litter: list[str] = []
    folders: list[str] = []
    members = NONE
    paths = list(_walk(str(raw), litter, folders))
    called = [path for path in paths if places.ending(path)]
    kept = set(called) - patterns.fitting(exclude, called) if called and exclude else set(called)
    if packed := places.find(str(raw), (path for path in called if path in kept)):
        files = sorted(set(paths).difference(packed))
        is_whole = len(packed) == 1 and not folders and set(files) <= set(TABLES)
        found = places.unpacked(str(raw), packed, files, is_whole, seek_points or places.scratch())
        members = found.members
        paths = sorted([*files, *members])  # the order in which a walk would find them unpacked
        litter, folders = litter + found.litter, [*found.folders.union(folders)]
    elif not folders and (told := foreign.only(str(raw), [path for path in paths if path not in TABLES], exclude)):
        raise UserError(told)
    if not paths:
        raise UserError(f"{raw} holds no files: put the data there (class folders, or files and a labels.csv)")
    return Scan(paths, sorted(litter), sorted(folders), members)


def folders_of(paths: Sequence[str], folders: Sequence[str], excluded: Sequence[str]) -> list[str]:
    """The folders of the first level that are not left out whole: with a file among the paths, or with none at all."""
    filled, left_out = ({path.partition("/")[0] for path in some} for some in (paths, excluded))
    return [folder for folder in folders if folder in filled or folder not in left_out]


def folder_stamp(path: str) -> tuple[int, int, int, int]:
    """The stamp of all that is in a folder."""
    size = changed = touched = inodes = 0
    for folder, _, files in os.walk(path):
        for name in ("", *files):
            of = stamp(os.stat(os.path.join(folder, name)))
            size += of[0] if name else 0
            changed, touched, inodes = max(changed, of[1]), max(touched, of[2]), inodes + of[3]
    return size, changed, touched, inodes & (1 << 63) - 1


def stamps(raw: Path, paths: Sequence[str], members: Members = NONE) -> np.ndarray:
    """The files' stamps, (N, STAMP_FIELDS) int64; zeros for a file that is gone or out of reach."""
    numbers = array("q")
    for path in paths:
        if member := members.get(path):
            numbers.extend(member.stamp)
            continue
        try:
            status = os.stat(f"{raw}/{path}")
            is_store = stat.S_ISDIR(status.st_mode)
            numbers.extend(folder_stamp(f"{raw}/{path}") if is_store else stamp(status))
        except OSError:
            numbers.extend((0,) * STAMP_FIELDS)
    return np.frombuffer(numbers, np.int64).reshape(-1, STAMP_FIELDS)


def is_recent(stamps: np.ndarray) -> np.ndarray:
    """(N,) bool: which files were changed a moment ago."""
    return stamps[:, 1:3].max(axis=1) >= time.time_ns() - RECENT_NANOSECONDS


def _walk(raw: str, litter: list[str], folders: list[str]) -> Iterator[str]:
    """The files, in the order of their paths; litter and the folders of the first level are added to the lists.

    One folder after the other and none inside another's call: folders may be nested thousands deep.
    """
    visits: Counter[Identity] = Counter()
    open_folders = [_opened(raw, "", [], visits)]
    while open_folders:
        name, entry = next(open_folders[-1].entries, ("", None))
        path = open_folders[-1].below + name
        if entry is None:
            open_folders.pop()
        elif is_litter(name.rstrip("/")):
            litter += _files_below(entry.path, path.rstrip("/")) if name[-1] == "/" else [path]
        elif name[-1] == "/":
            if len(open_folders) == 1:
                folders.append(entry.name)
            above = [folder.identity for folder in open_folders]
            open_folders.append(_opened(entry.path, path, above, visits))
        else:
            _check_is_file(entry)
            yield path


def _opened(folder: str, below: str, above: Sequence[Identity], visits: Counter[Identity]) -> _Folder:
    """Lists a folder.

    Raises:
        UserError: It can't be listed, lies in itself by a link, or has been listed by too many ways.
    """
    try:
        status = os.stat(folder)
        with os.scandir(folder) as found:
            entries = sorted((e.name + "/" if _is_folder(e) else e.name, e) for e in found)
    except OSError as error:
        check_handles(error)
        raise UserError(f"{folder} can't be listed ({error.strerror}): mend, move or remove it") from None
    identity = status.st_dev, status.st_ino
    visits[identity] += 1
    if identity in above:
        raise UserError(f"{folder} is a link to a folder that it lies in: remove it")
    if visits[identity] > MAX_VISITS:  # a few folders that link to each other make more paths than there are atoms
        raise UserError(f"{folder} is reached by more than {MAX_VISITS} paths: remove links that lead to it")
    return _Folder(below, identity, iter(entries))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that can't be followed
        return False


def _check_is_file(entry: "os.DirEntry[str]") -> None:
    """Raises:
    UserError: It is none.
    """
    try:
        if entry.is_file():
            return
        what = (
            "a broken link" if entry.is_symlink() and not os.path.exists(entry.path) else kind_of(entry.stat().st_mode)
        )
    except OSError as error:
        what = f"a link that leads nowhere ({error.strerror})"
    raise UserError(f"{entry.path} is {what}, expected a file: mend or remove it")


def _files_below(folder: str, below: str) -> list[str]:
    """The files in a folder that is litter; it may hold what can't be listed, and links are not followed."""
    found, waiting = [], [(folder, below)]
    while waiting:
        folder, below = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = f"{below}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, path))
                    else:
                        found.append(path)
        except OSError:
            found.append(below)
    return found
