"""The files that tools.predict is told to read: files, folders, globs, archives, and lists of paths.

An archive is read as ingest reads it, in place. What is wrong with an archive or a member, or a path of a list, is told
in its place; the others are read.
"""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.ingest import in_place, raw_files
from stages.lib.ingest.archives import places
from stages.lib.ingest.archives.entries import BadArchive, plain
from stages.lib.ingest.archives.members import Member
from stages.lib.ingest.litter import lies_in_litter
from stages.lib.ingest.readers.contract import PART_SIGN, Part

LIST = "-"  # the name that stands for a list of paths on stdin


class File(NamedTuple):
    """A file to read, or why there is none."""

    path: str  # as people are told; a member's is archive.zip/name
    member: Member | None = None
    trouble: str = ""  # where it can't be read
    part: Part | None = None  # what of it is meant, as path::name[3] says


def find(names: Sequence[str]) -> tuple[Iterable[File], int | None]:
    """The files that names stand for, in order and each once, and their number; None where a list is among the names.

    A list on stdin is read as it comes: its files are known when they are asked for. All others are found at once.

    Raises:
        UserError: A name matches nothing, or a folder can't be listed.
    """
    parts: list[Iterable[File]] = [_listed() if name == LIST else list(_matches(name)) for name in names]
    files = _each_once(file for part in parts for file in part)
    if LIST in names:
        return files, None
    found = list(files)
    return found, len(found)


def _each_once(files: Iterable[File]) -> Iterator[File]:
    seen: set[tuple[str, Part | None]] = set()
    for file in files:
        if (file.path, file.part) not in seen:
            seen.add((file.path, file.part))
            yield file


def _matches(name: str) -> Iterator[File]:
    found = [name] if os.path.exists(name) or _of_part(name) else sorted(glob.glob(name, recursive=True))
    if not found:
        raise UserError(
            f"{name} not found: expected a picture, a DICOM file, a folder or archive of them, a glob, or - for a "
            "list of paths on stdin"
        )
    for path in found:
        yield from _below(path)


def _listed() -> Iterator[File]:
    """The files of a list on stdin, one path a line: no globs, as a path may hold an asterisk."""
    lines: Iterable[bytes | str] = getattr(sys.stdin, "buffer", sys.stdin)
    for line in lines:
        path = os.fsdecode(line).rstrip("\r\n")
        if path:
            try:
                yield from _below(path)
            except UserError as error:
                yield File(path, trouble=str(error))


def _of_part(path: str) -> File | None:
    """The file of a path as x.h5::name[3]; None of all others."""
    file, _, text = path.partition(PART_SIGN)
    part = None if os.path.exists(path) or not os.path.exists(file) else Part.of(text)
    return File(file, part=part) if part else None


def _below(path: str) -> Iterator[File]:
    if of_part := _of_part(path):
        yield of_part
        return
    if os.path.isdir(path) and in_place.is_store(path):
        yield File(path)
    elif os.path.isdir(path):
        found = in_place.with_stores(Path(path), raw_files.scan(Path(path)))
        yield from (File(os.path.join(path, below), found.members.get(below)) for below in found.paths)
    elif places.ending(path):
        yield from members(path)
    else:
        yield File(path)


def members(archive: str) -> Iterator[File]:
    """The members of an archive, sorted by name, but for what systems leave there."""
    try:
        kind = places.kind(archive)
        entries = list(places.entries(archive, kind, places.scratch())) if kind else []
    except BadArchive as error:
        yield File(archive, trouble=f"the archive {error}")
        return
    except OSError as error:
        yield File(archive, trouble=f"the archive can't be read ({error.strerror})")
        return
    if not kind:
        yield File(archive)  # called like an archive, and none
        return
    named = [(plain(entry.name), entry) for entry in entries if not entry.is_folder]
    named = [(name, entry) for name, entry in named if entry.trouble or not lies_in_litter(name)]
    if not named:
        yield File(archive, trouble="the archive holds no files")
    times = Counter(name for name, _ in named)
    for name, entry in sorted(named, key=lambda one: one[0]):
        trouble = "the archive holds two members of this name" if times[name] > 1 else ""
        trouble = trouble or (f"it {entry.trouble}" if entry.trouble else "")
        yield File(f"{archive}/{name}", entry.member, trouble)
