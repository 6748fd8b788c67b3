"""The files that tools.predict is told to read: files, folders, globs, archives, and lists of paths.

An archive is read as ingest reads it, in place; what lies in one is named as answers name it, a.zip/b/x.png, or as
labels.csv does, a/b/x.png. What is wrong with an archive or a member, or a path of a list, is told
in its place; the others are read.
"""

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.core.opening import stamp
from stages.lib.ingest import in_place, patterns, raw_files
from stages.lib.ingest.archives import places
from stages.lib.ingest.archives.entries import BadArchive, plain
from stages.lib.ingest.archives.members import Member
from stages.lib.ingest.litter import is_litter, lies_in_litter
from stages.lib.ingest.readers.contract import PART_SIGN, Part

GLOB = re.compile(r"[*?\[]")
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
    paths = [] if os.path.exists(name) else sorted(_globbed(name))
    for path in paths:
        yield from _below(path)
    if not paths:
        found = _named(name)
        if not found:
            raise UserError(
                f"{name} not found: expected a picture, a DICOM file, a folder or archive of them, what lies in one, a "
                "glob, or - for a list of paths on stdin"
            )
        yield from found


def _globbed(pattern: str) -> list[str]:
    """What a pattern fits. For ** a folder is taken once, by whichever links it is reached: Python's glob goes round
    links that lead back for longer than anybody waits.

    Raises:
        UserError: A folder can't be listed.
    """
    parts = pattern.replace(os.sep, "/").split("/")
    if "**" not in parts:
        return glob.glob(pattern)
    at = parts.index("**")
    above, below = "/".join(parts[:at]), "/".join(parts[at + 1 :])
    tops = [top for top in glob.glob(above) if os.path.isdir(top)] if above else ["/" if at else ""]
    if not below.strip("/"):
        return [top or "." for top in tops]  # with all that is in it
    return [
        path for top in tops for folder in _folders(top) for path in _globbed(os.path.join(glob.escape(folder), below))
    ]


def _folders(top: str) -> Iterator[str]:
    """A folder and all below it but for hidden ones, links to folders last, each once.

    Raises:
        UserError: One can't be listed.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = [top], list[str]()
    while waiting or links:
        folder = (waiting or links).pop()
        try:
            status = os.stat(folder or ".")
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder or ".") as found:
                entries = sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder or '.'} can't be listed ({error.strerror}): mend or remove it") from None
        yield folder
        for entry in reversed(entries):
            with suppress(OSError):  # a link to itself
                if entry.is_dir():
                    (links if entry.is_symlink() else waiting).append(os.path.join(folder, entry.name))


def _listed() -> Iterator[File]:
    """The files of a list on stdin, one path a line: no globs, as a path may hold an asterisk."""
    lines: Iterable[bytes | str] = getattr(sys.stdin, "buffer", sys.stdin)
    for line in lines:
        path = os.fsdecode(line).rstrip("\r\n")
        if path:
            try:
                yield from _named(path) or [File(path)]
            except UserError as error:
                yield File(path, trouble=str(error))


def _named(path: str) -> list[File]:
    """The files that a path means without any pattern: of the file system, of an archive, or a part of a file as
    x.h5::name[3]; [] where it means none.
    """
    if os.path.exists(path):
        return list(_below(path))
    file, sign, text = path.partition(PART_SIGN)
    if not sign:
        return _in_archive(path)
    of = [File(file)] if os.path.exists(file) else _in_archive(file)
    part = Part.of(text)
    return [one._replace(part=part) for one in of] if part and len(of) == 1 else []


def _in_archive(path: str) -> list[File]:
    """What lies in an archive: a member, all below a folder, or what fits a pattern.

    Both ways of saying so are understood: a.zip/b/x.png, as answers name a member, and a/b/x.png, as labels.csv does of
    the folder that an archive stands for.
    """
    above = path
    while (above := os.path.dirname(above)) and not os.path.isdir(above):
        below = plain(path[len(above) + 1 :])
        if places.ending(above) and os.path.isfile(above):
            return _chosen(above, below)
        ends = [spelt for end in places.KINDS for spelt in (end, end.upper())]
        for archive in filter(os.path.isfile, (above + end for end in ends)):
            if found := _chosen(archive, below) or _chosen(archive, f"{os.path.basename(above)}/{below}"):
                return found
    with suppress(OSError):
        inside = [name for name in os.listdir(above or ".") if not is_litter(name) and name not in raw_files.TABLES]
        archive = os.path.join(above, inside[0]) if len(inside) == 1 else ""
        if places.ending(archive) and os.path.isfile(archive):  # it is the folder
            return _chosen(archive, plain(path[len(above) :].lstrip("/")))
    return []


def _chosen(archive: str, below: str) -> list[File]:
    known = _members(archive, stamp(os.stat(archive)))
    if whole := known.get(""):  # it can't be read, or is none
        return [whole] if whole.trouble else []
    if not below:
        return list(known.values())
    if below in known:
        return [known[below]]
    fitting = patterns.fitting([f"/{below}"], list(known)) if GLOB.search(below) else ()
    return [file for name, file in known.items() if name.startswith(f"{below}/") or name in fitting]


@lru_cache(maxsize=4)
def _members(archive: str, _: tuple[int, ...]) -> dict[str, File]:
    """By their names there; kept, as each line of a list may name one."""
    return {file.path[len(archive) + 1 :]: file for file in members(archive)}


def _below(path: str) -> Iterator[File]:
    if os.path.isdir(path) and in_place.is_store(path):
        yield File(path)
    elif os.path.isdir(path):
        with redirect_stdout(sys.stderr):  # as of `members`
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
        with redirect_stdout(sys.stderr):  # on stdout are answers, and what is said of names would stand among them
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
