"""What is in a ZIP archive, by the index at its end; every other word of it is taken for a claim.

Python's zipfile makes an object of each entry, which was a tenth of the time that an ingest of 50,000 pictures takes;
`tests/ingest/test_archives.py` holds this to it.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stages.lib.core.progress import say
from stages.lib.ingest.archives import foreign
from stages.lib.ingest.archives.entries import BadArchive, Entry, OpenFile, trouble_of
from stages.lib.ingest.archives.members import (
    DEFLATED,
    ENCRYPTED,
    LOCAL_HEADER,
    LOCAL_SIGNATURE,
    STORED,
    Archive,
    Member,
)

SECRET = 1 | 1 << 6 | 1 << 13  # flags: encrypted, strongly, and with its header masked; APPNOTE.TXT 4.4.4
UTF_8 = 1 << 11  # flag: the name is UTF-8, APPNOTE.TXT 4.4.4
UNICODE_PATH = 0x7075  # extra field of Info-ZIP, APPNOTE.TXT 4.6.9
DOS = 0  # the system for which the names are CP437, APPNOTE.TXT appendix D
END, END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\5\6"  # of a ZIP, before its comment, APPNOTE.TXT 4.3.16
MOST_COMMENT = 0xFFFF
END_64, END_64_SIGNATURE = struct.Struct("<4sQ2H2L4Q"), b"PK\6\6"  # of one with large numbers, APPNOTE.TXT 4.3.14
LOCATOR, LOCATOR_SIGNATURE = struct.Struct("<4sLQL"), b"PK\6\7"  # between the two, APPNOTE.TXT 4.3.15
LISTED, LISTED_SIGNATURE = struct.Struct("<4s2B5H3L5H2L"), b"PK\1\2"  # an entry of the index, APPNOTE.TXT 4.3.12
LARGE, LARGE_NUMBERS = 0xFFFFFFFF, 1  # stands for a number in the extra field of this kind, APPNOTE.TXT 4.5.3
PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: the system that packed it knows no types


def entries(file: OpenFile, archive: Archive) -> Iterator[Entry]:
    """The entries of an archive, in the order of its index.

    Raises:
        BadArchive: It is damaged, its members share bytes, some are not in its index, or nothing says in what its names
            are written.
        OSError: It can't be read.
    """
    try:
        found, start = _index(file, archive.path)
    except struct.error:
        raise BadArchive("is damaged or cut short (its index ends within an entry)") from None
    if os.pread(file.fileno(), 4, 0) == LOCAL_SIGNATURE and min((info.offset for info in found), default=1):
        raise BadArchive("begins with members that its index doesn't list, as archives do that were joined")
    _check_overlap(found, start)
    guessed = 0
    for info in found:
        name, is_known = _name(info)
        guessed += not is_known
        yield Entry(name, _member(info, archive), name.endswith("/"), _trouble(info, name))
    if guessed:
        say(f"{archive.path}: {guessed} names are no UTF-8, and read as CP437, as DOS has them: look at the labels")


class _Listed(NamedTuple):
    """An entry as the index has it."""

    name: bytes
    extra: bytes
    system: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int


def _index(file: OpenFile, path: str) -> tuple[list[_Listed], int]:
    """The entries, and where the index begins.

    Raises:
        BadArchive, struct.error: It is damaged, or the last part of a split one.
    """
    descriptor = file.fileno()
    length = os.fstat(descriptor).st_size
    tail_start = max(0, length - END.size - MOST_COMMENT)
    tail = os.pread(descriptor, END.size + MOST_COMMENT, tail_start)
    at = tail.rfind(END_SIGNATURE)
    if not 0 <= at <= len(tail) - END.size:  # never the end of an archive that lies in this one
        raise BadArchive("is damaged or cut short (it has no index at its end)")
    _, disk, _, _, count, size, offset, _ = END.unpack_from(tail, at)
    if disk not in (0, 0xFFFF):
        raise BadArchive(f"is the last part of a split ZIP: {foreign.joined(path[: -len('.zip')])}")
    end = tail_start + at
    if large := _large_end(descriptor, end):
        end, count, size, offset = large
    start = end - size
    before = start - offset  # bytes that something has put in front of the archive, such as a program that unpacks it
    if start < 0 or before < 0:
        raise BadArchive("is damaged or cut short (its index is said to lie outside of it)")
    content = os.pread(descriptor, size, start)
    found, place = [], 0
    while place < len(content):
        signature, _, system, _, flags, method, _, _, crc, packed, unpacked, *sizes, _, _, attributes, offset = (
            LISTED.unpack_from(content, place)
        )
        name_size, extra_size, comment_size = sizes
        if signature != LISTED_SIGNATURE:
            raise BadArchive("is damaged or cut short (its index has something else in it)")
        first = place + LISTED.size
        last = first + name_size + extra_size
        name, extra = content[first : first + name_size], content[first + name_size : last]
        if len(name) + len(extra) != name_size + extra_size:
            raise BadArchive("is damaged or cut short (its index ends within a name)")
        if LARGE in (packed, unpacked, offset):
            unpacked, packed, offset = _large_numbers(extra, unpacked, packed, offset)
        found.append(_Listed(name, extra, system, flags, method, crc, packed, unpacked, attributes, offset + before))
        place = last + comment_size
    if len(found) % (1 << 16) != count % (1 << 16):
        raise BadArchive(f"is damaged or cut short (its index has {len(found)} entries, and is said to have {count})")
    return found, start


def _large_end(descriptor: int, end: int) -> tuple[int, int, int, int] | None:
    """Of an archive with large numbers: where its own end lies, and the count, size and offset that this has."""
    found = os.pread(descriptor, LOCATOR.size, end - LOCATOR.size) if end >= LOCATOR.size else b""
    if found[:4] != LOCATOR_SIGNATURE:
        return None
    end -= LOCATOR.size + END_64.size
    if end < 0:
        raise BadArchive("is damaged or cut short (its end is said to lie outside of it)")
    signature, *_, count, size, offset = END_64.unpack(os.pread(descriptor, END_64.size, end))
    if signature != END_64_SIGNATURE:
        raise BadArchive("is damaged or cut short (it has two ends that do not lie beside each other)")
    return end, count, size, offset


def _large_numbers(extra: bytes, *numbers: int) -> tuple[int, ...]:
    """The numbers, with those that the extra field has, in this order, in place of the words for a larger one."""
    content = _extra(extra, LARGE_NUMBERS)
    wanted = sum(number == LARGE for number in numbers)
    if len(content) < 8 * wanted:
        raise BadArchive("is damaged or cut short (an entry's large numbers are missing)")
    there = iter(struct.unpack_from(f"<{wanted}Q", content))
    return tuple(next(there) if number == LARGE else number for number in numbers)


def _extra(extra: bytes, wanted: int) -> bytes:
    """The content of one kind of extra field; b"" where there is none."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == wanted:
            return content
    return b""


def _member(info: _Listed, archive: Archive) -> Member:
    method = ENCRYPTED if info.flags & SECRET else info.method
    return Member(archive, info.offset, info.packed, info.size, method, info.crc)


def _name(info: _Listed) -> tuple[str, bool]:
    """An entry's name, and whether it is known in what it is written. Many programs write UTF-8 and do not say so.

    Raises:
        BadArchive: It is neither UTF-8 nor of a system whose names are CP437.
    """
    try:
        if info.flags & UTF_8 or info.name.isascii():
            return info.name.decode(), True
        return (_unicode_path(info.extra, info.name) or info.name).decode(), True
    except UnicodeDecodeError:
        if info.system == DOS and not info.flags & UTF_8:
            return info.name.decode("cp437"), False
    raise BadArchive("has names that are no UTF-8, and does not say what they are: pack it anew with names in UTF-8")


def _unicode_path(extra: bytes, stored: bytes) -> bytes:
    """The name in UTF-8 that Info-ZIP writes beside another one; b"" where there is none, or it is another name's."""
    content = _extra(extra, UNICODE_PATH)
    return content[5:] if content[:5] == struct.pack("<BL", 1, zlib.crc32(stored)) else b""


def _trouble(info: _Listed, name: str) -> str:
    """Why an entry can be no file of a folder; "" where it can."""
    kind = stat.S_IFMT(info.attributes >> 16)
    if kind not in PLAIN:
        return "is a link" if kind == stat.S_IFLNK else "is neither file nor folder"
    if name.endswith("/") and info.size:
        return "is a folder with a content"
    if info.method == STORED and not info.flags & SECRET and info.packed != info.size:
        return "is said to be stored, in another number of bytes than it holds"
    if info.method == DEFLATED and info.size and not info.packed:
        return "is said to be packed in no byte"
    return trouble_of(name)


def _check_overlap(found: list[_Listed], end: int) -> None:
    """Raises:
    BadArchive: Members share bytes (a bomb, as one packed byte counts for many members), or lie outside the archive.
    """
    if any(info.packed > end - info.offset - LOCAL_HEADER for info in found):
        raise BadArchive("is damaged: members lie where it has no bytes for them")
    starts = np.fromiter((info.offset for info in found), np.int64, len(found))
    stops = starts + np.fromiter((LOCAL_HEADER + info.packed for info in found), np.int64, len(found))
    order = starts.argsort(kind="stable")
    if (stops[order][:-1] > starts[order][1:]).any():
        raise BadArchive("holds members that share bytes, as bombs do")
