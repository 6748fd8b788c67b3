"""What is in a tar archive, packed by gzip or not, by one walk from header to header.

tarfile reads the headers; the walk is ours, as tarfile brings a header of any length into memory, and reads an archive
that is cut short as if it ended there.
"""

import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from stages.lib.ingest.archives import members
from stages.lib.ingest.archives.entries import BadArchive, Entry, OpenFile, check_ratio, trouble_of
from stages.lib.ingest.archives.members import Archive, Member

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER = 1 << 20  # bytes of a long name, or of the records of PAX
STEP = 32 << 20  # bytes that are walked over between two looks at what a tar.gz unpacks to
MAX_PADDING = 64 << 20  # bytes of zeros behind the end
SEEK_POINT_BYTES = 1 << 20  # of the unpacked tar from one seek point to the next, at least
MAX_SEEK_POINTS = 4096  # of 32 KiB each, in each worker's memory
FOLDERS, HARD_LINK, LONG_NAMES, PAX, GLOBAL = b"5D", b"1", b"LK", b"xX", b"g"  # D: with a list, of `tar -g`
GNU_MAGIC = b"ustar  \0"
NAME_FIELD = 100  # bytes at the beginning of a header
REGULAR = (b"0", b"\0", b"7")
LABEL = b"V"  # of a tape: GNU tar's name for the whole
WHAT = {b"2": "is a link", b"3": "is a device", b"4": "is a device", b"6": "is a pipe (FIFO)", b"S": "is sparse"}
USTAR = b"ustar\0"
# Size, time, checksum and type, of a file whose numbers are written as POSIX has them, from byte 124 to 157.
USUAL = re.compile(rb"([0-7]{11})[ \0][0-7]{11}[ \0]([0-7]{6})\0 0")
RECORD = re.compile(rb"([0-9]{1,10}) ([^=]+)=")

ReadAt = Callable[[int, int], bytes]  # an offset, and how many bytes


class _TooManyPoints(Exception):
    pass


def begins(block: bytes) -> bool:
    """Whether a tar may begin so: with a header, be it damaged, or as an empty one."""
    if block[257:262] == b"ustar" or block == bytes(BLOCK):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except Exception:  # as many as there are numbers in a header
        return False
    return True


def entries(file: OpenFile, archive: Archive) -> Iterator[Entry]:
    """The entries of an uncompressed archive, in their order.

    Raises:
        BadArchive: It is damaged or cut short.
        OSError: It can't be read.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    yield from _walk(lambda offset, number: os.pread(descriptor, number, offset), archive, size, size)


def packed_entries(file: OpenFile, archive: Archive) -> Iterator[Entry]:
    """The entries of an archive that gzip has packed; writes the file of `archive.seek_points` on the way.

    Raises:
        BadArchive: It is damaged or cut short, or a bomb.
        OSError: It can't be read.
    """
    size = os.fstat(file.fileno()).st_size
    spacing = max(SEEK_POINT_BYTES, size // 512)
    while True:
        try:
            found = list(_packed_entries(archive, size, spacing))
        except _TooManyPoints:
            spacing *= 8
        else:
            yield from found
            return


def _packed_entries(archive: Archive, size: int, spacing: int) -> Iterator[Entry]:
    with members.unzipped(archive.path, spacing=spacing) as unzipped:
        position = 0

        def read_at(offset: int, number: int) -> bytes:
            nonlocal position
            try:
                while offset - position > STEP:
                    position += STEP
                    unzipped.seek(position)
                    if not unzipped.read(1):
                        return b""
                    check(position)
                unzipped.seek(offset)
                found = unzipped.read(number)
            except (OSError, EOFError, ValueError) as error:
                raise BadArchive(f"is damaged or cut short ({_said(error)})") from None
            position = offset + len(found)
            check(position)
            return found

        def check(position: int) -> None:
            check_ratio(position, size)
            if position > MAX_SEEK_POINTS * spacing:
                raise _TooManyPoints

        yield from _walk(read_at, archive, None, size)
        Path(archive.seek_points).unlink(missing_ok=True)
        unzipped.export_index(archive.seek_points)  # type: ignore[attr-defined]


def _said(error: Exception) -> str:
    return "gzip's data end too early" if isinstance(error, EOFError) else "gzip's data are no such"


def _walk(read_at: ReadAt, archive: Archive, end: int | None, packed: int) -> Iterator[Entry]:
    """Args:
    end: Bytes of the tar, where they are known; packed: of the archive.
    """
    offset = 0
    total = 0
    names: dict[str, str] = {}  # what the next header is given by the headers before it
    known: dict[str, Member] = {}  # by name, which hard links refer to
    while True:
        block = read_at(offset, BLOCK)
        if block == bytes(BLOCK):
            _check_end(read_at, offset + BLOCK)
            return
        info = _header(block, offset)
        offset += BLOCK
        if info.type in LONG_NAMES or info.type in PAX or info.type == GLOBAL:
            records = _records(read_at(offset, _short(info.size, offset)), info)
            if info.type == GLOBAL and records.keys() & {"path", "linkpath", "size"}:
                raise BadArchive("gives all members one name or size (a global header of PAX)")
            names |= records if info.type != GLOBAL else {}
            offset += _blocks(info.size)
            continue
        size = _size(names.get("size", info.size))
        name, link = names.get("path", info.name), names.get("linkpath", info.linkname)
        sparse = bool(names) and any(key.startswith("GNU.sparse") for key in names)
        names = names and {}
        holds = info.type in REGULAR or info.type not in tarfile.SUPPORTED_TYPES or info.type == b"S"
        member = Member(archive, offset, size, size)
        if info.type == LABEL:
            continue
        trouble = trouble_of(name)
        if sparse or info.type == b"S":
            raise BadArchive("holds sparse files, which `tar --sparse` makes")
        if info.type == HARD_LINK:
            target = known.get(link)
            trouble = trouble or ("" if target else "is a link to what is not in the archive before it")
            member = target or member
        elif info.type not in REGULAR and info.type not in FOLDERS:
            trouble = trouble or WHAT.get(info.type, f"is of the type {info.type!r}, which is not read")
        if holds:
            offset += _blocks(size)
            if end is not None and member.offset + size > end:
                raise BadArchive("is cut short: it ends within a member")
        total += member.size if info.type in REGULAR or info.type == HARD_LINK else 0
        check_ratio(total, packed)
        if info.type in REGULAR:
            known[name] = member
        yield Entry(name, member, info.type in FOLDERS, trouble)


class _Header(NamedTuple):
    name: str
    size: int
    type: bytes
    linkname: str = ""


def _header(block: bytes, offset: int) -> _Header:
    """Raises:
    BadArchive: There is none.
    """
    if len(block) < BLOCK:
        raise BadArchive("is cut short: it ends without the mark of its end")
    if usual := _usual(block):
        return usual
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except Exception:  # a checksum that is wrong, a number that is none
        raise BadArchive(f"is damaged: no header of a member at byte {offset}") from None
    if block[257:265] == GNU_MAGIC:  # tarfile takes the times behind it, which `tar -g` writes, for a folder's name
        info.name = _text(block[:NAME_FIELD])
    return _Header(info.name, info.size, info.type, info.linkname)


def _usual(block: bytes) -> _Header | None:
    """The header of most files, read in a fifth of tarfile's time; None of all others, damaged ones among them."""
    numbers = USUAL.fullmatch(block, 124, 157)
    if not numbers or sum(block) - sum(block[148:156]) + 8 * ord(" ") != int(numbers[2], 8):
        return None
    if block[257:265] != GNU_MAGIC and (block[257:263] != USTAR or block[345]):  # a long name goes on at byte 345
        return None
    return _Header(_text(block[:NAME_FIELD]), int(numbers[1], 8), REGULAR[0])


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(content: bytes, info: _Header) -> dict[str, str]:
    """What a header says of the one behind it: a long name of GNU tar, or the records of PAX.

    Raises:
        BadArchive: It is cut short, or damaged.
    """
    if len(content) < info.size:
        raise BadArchive("is cut short: it ends within a header")
    if info.type in LONG_NAMES:
        return {"path" if info.type == b"L" else "linkpath": _text(content)}
    records, at = {}, 0
    while at < len(content) and content[at] != 0:
        match = RECORD.match(content, at)
        stop = at + int(match[1]) if match else 0
        if match is None or not match.end() < stop <= len(content) or content[stop - 1] != ord("\n"):
            raise BadArchive("is damaged: a header of PAX can't be read")
        records[match[2].decode("utf-8", "surrogateescape")] = content[match.end() : stop - 1].decode(
            "utf-8", "surrogateescape"
        )
        at = stop
    return records


def _size(given: int | str) -> int:
    """Raises:
    BadArchive: It is no size of a file.
    """
    try:
        size = int(given)
    except ValueError:
        size = -1
    if not 0 <= size < 1 << 62:
        raise BadArchive("is damaged: a member of no possible size")
    return size


def _short(size: int, offset: int) -> int:
    """Raises:
    BadArchive: It is no size of a header.
    """
    if not 0 <= size <= MAX_HEADER:
        raise BadArchive(f"is damaged: a header of {size} bytes at byte {offset}, expected {MAX_HEADER} at most")
    return size


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _check_end(read_at: ReadAt, offset: int) -> None:
    """Raises:
    BadArchive: Something follows the end, which tar would pass over: as a second archive, or one that was damaged.
    """
    begin = offset
    while chunk := read_at(offset, 1 << 20):
        offset += len(chunk)
        if chunk.strip(b"\0") or offset - begin > MAX_PADDING:
            raise BadArchive("goes on behind the mark of its end, as archives do that were joined")
