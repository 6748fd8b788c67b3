"""The files that tools.predict is told to read: files, folders, globs, zip archives, and lists of paths.

A zip archive is never unpacked to a disk: its members are read into memory, one at a time, so no name in it leads
anywhere. What it costs is in proportion to its bytes: members may not share bytes, those that unpack to much more than
they are packed to are refused, and none is larger than a file may be. What is wrong with an archive or a member, or a
path of a list, is told in its place; the others are read.
"""

import glob
import os
import stat
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.core.opening import TO_READ, check_handles, kind_of
from stages.lib.ingest import in_place, raw_files
from stages.lib.ingest.readers.contract import PART_SIGN, Part, Rejected

LIST = "-"  # the name that stands for a list of paths on stdin
ARCHIVE = ".zip"
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}  # others pack a thousand times closer
ANY_RATIO_BYTES = 64 << 20  # a member that is no larger may be packed as closely as it likes
MAX_RATIO = 100  # of a larger one: volumes that are half air reach 20, bombs 1,000
ENCRYPTED = 1  # a flag of a member
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)


class Member(NamedTuple):
    """A file in a zip archive."""

    archive: str  # path
    entry: int  # position among the archive's entries


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
            f"{name} not found: expected a picture, a DICOM file, a folder or zip archive of them, a glob, or - for a "
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
        found = in_place.with_stores(raw_files.scan(Path(path)))
        yield from (File(os.path.join(path, below)) for below in found.paths)
    elif path.lower().endswith(ARCHIVE):
        yield from members(path)
    else:
        yield File(path)


def members(archive: str) -> Iterator[File]:
    """The members of a zip archive, sorted by name, but for what systems leave there."""
    try:
        with _opened(archive) as opened:
            entries = [(i, entry) for i, entry in enumerate(opened.infolist()) if not _is_litter(entry)]
            size = os.path.getsize(archive)
    except (OSError, *BROKEN) as error:
        yield File(archive, trouble=f"it is no zip archive that can be read ({_reason(error)})")
        return
    if sum(entry.compress_size for _, entry in entries) > size:
        yield File(archive, trouble="its members are packed in more bytes than it has")
        return
    if not entries:
        yield File(archive, trouble="the archive holds no files")
    times = Counter(entry.filename for _, entry in entries)
    for i, entry in sorted(entries, key=lambda one: one[1].filename):
        trouble = "the archive holds two members of this name" if times[entry.filename] > 1 else ""
        yield File(f"{archive}/{entry.filename}", Member(archive, i), trouble or _trouble(entry))


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text[:200] or type(error).__name__


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    parts = [part for part in entry.filename.split("/") if part not in ("", ".", "..")]
    return entry.is_dir() or any(map(raw_files.is_litter, parts))


def _trouble(entry: zipfile.ZipInfo) -> str:
    """Why a member is not read; empty if it is."""
    if entry.flag_bits & ENCRYPTED:
        return "it is encrypted"
    if entry.compress_type not in METHODS:
        return f"it is packed by method {entry.compress_type}, expected {' or '.join(METHODS.values())}"
    if entry.file_size > max(ANY_RATIO_BYTES, MAX_RATIO * entry.compress_size):
        return f"{entry.compress_size} bytes unpack to {entry.file_size}, expected {MAX_RATIO} times at most"
    return ""


@contextmanager
def _opened(archive: str) -> Iterator[zipfile.ZipFile]:
    """Raises:
    OSError, BadZipFile: It can't be read, is no regular file, or no zip archive.
    UserError: There are too few file handles.
    """
    try:
        descriptor = os.open(archive, TO_READ)
    except OSError as error:
        check_handles(error)
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise zipfile.BadZipFile(f"{kind_of(os.fstat(descriptor).st_mode)}, expected a file")
        with zipfile.ZipFile(file) as opened:
            yield opened


class Archives:
    """Reads members of archives: the archive and the member that were read last are kept."""

    def __init__(self) -> None:
        self._path = ""
        self._archive: zipfile.ZipFile | None = None
        self._kept = ExitStack()
        self._member: Member | None = None
        self._content = b""

    def read(self, member: Member, most: int, take: Callable[[int], object] = int) -> bytes:
        """A member's content.

        Args:
            most: Bytes that it may hold.
            take: Is told how many bytes it holds before they are unpacked.

        Raises:
            Rejected: It is damaged, holds more than `most`, or the archive has changed.
        """
        if member == self._member:
            return self._content
        self._member, self._content = None, b""  # not both in memory at once
        try:
            archive = self._open(member.archive)
            entry = archive.infolist()[member.entry]
            if trouble := _trouble(entry):
                raise Rejected("changed", trouble)
            if entry.file_size > most:
                raise Rejected("too_large", f"it unpacks to {entry.file_size} bytes, expected {most} at most")
            take(entry.file_size)
            with archive.open(entry) as file:  # gives no more than it says, and compares the checksum at the end
                self._content = file.read(entry.file_size + 1)
        except (IndexError, *BROKEN) as error:
            raise Rejected("unreadable", f"it can't be unpacked ({_reason(error)})") from None
        self._member = member
        return self._content

    def _open(self, path: str) -> zipfile.ZipFile:
        if self._archive is None or path != self._path:
            self.close()
            self._archive, self._path = self._kept.enter_context(_opened(path)), path
        return self._archive

    def close(self) -> None:
        self._archive = None
        self._kept.close()
