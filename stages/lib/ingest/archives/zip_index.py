"""What is in a ZIP archive, by the index at its end; every other word of it is taken for a claim."""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator

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
END, END_SIGNATURE = 22, b"PK\5\6"  # bytes at the end of a ZIP without a comment, APPNOTE.TXT 4.3.16
PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: the system that packed it knows no types


def entries(file: OpenFile, archive: Archive) -> Iterator[Entry]:
    """The entries of an archive, in the order of its index.

    Raises:
        BadArchive: It is damaged, its members share bytes, some are not in its index, or nothing says in what its names
            are written.
        OSError: It can't be read.
    """
    _check_is_whole(file, archive.path)
    try:
        opened = zipfile.ZipFile(file)
    except OSError as error:
        if error.errno and os.fstat(file.fileno()).st_size:
            raise BadArchive(f"is damaged ({error.strerror})") from None  # a place before its beginning is asked for
        raise
    except Exception as error:  # a file may be damaged in any way, and zipfile has as many exceptions
        said = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise BadArchive(f"is damaged or cut short ({said})") from None
    found = opened.infolist()
    if os.pread(file.fileno(), 4, 0) == LOCAL_SIGNATURE and min((info.header_offset for info in found), default=1):
        raise BadArchive("begins with members that its index doesn't list, as archives do that were joined")
    _check_overlap(found, opened.start_dir)
    guessed = 0
    for info in found:
        name, is_known = _name(info)
        guessed += not is_known
        yield Entry(name, _member(info, archive), name.endswith("/"), _trouble(info, name))
    if guessed:
        say(f"{archive.path}: {guessed} names are no UTF-8, and read as CP437, as DOS has them: look at the labels")


def _check_is_whole(file: OpenFile, path: str) -> None:
    """Raises:
    BadArchive: It is the last part of a split one, in which places are counted from the beginning of some part.
    """
    end = os.pread(file.fileno(), END, max(0, os.fstat(file.fileno()).st_size - END))
    number_of_disk = end[4:6]
    if end[:4] == END_SIGNATURE and number_of_disk not in (b"\0\0", b"\xff\xff"):
        raise BadArchive(f"is the last part of a split ZIP: {foreign.joined(path[: -len('.zip')])}")


def _member(info: zipfile.ZipInfo, archive: Archive) -> Member:
    method = ENCRYPTED if info.flag_bits & SECRET else info.compress_type
    return Member(archive, info.header_offset, info.compress_size, info.file_size, method, info.CRC)


def _name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """An entry's name, and whether it is known in what it is written. Many programs write UTF-8 and do not say so.

    Raises:
        BadArchive: It is neither UTF-8 nor of a system whose names are CP437.
    """
    if info.flag_bits & UTF_8 or info.orig_filename.isascii():
        return info.orig_filename, True
    stored = info.orig_filename.encode("cp437")  # by which zipfile has decoded it
    try:
        return (_unicode_path(info.extra, stored) or stored).decode(), True
    except UnicodeDecodeError:
        if info.create_system == DOS:
            return info.orig_filename, False
    raise BadArchive("has names that are no UTF-8, and does not say what they are: pack it anew with names in UTF-8")


def _unicode_path(extra: bytes, stored: bytes) -> bytes:
    """The name in UTF-8 that Info-ZIP writes beside another one; b"" where there is none, or it is another name's."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and content[:5] == struct.pack("<BL", 1, zlib.crc32(stored)):
            return content[5:]
    return b""


def _trouble(info: zipfile.ZipInfo, name: str) -> str:
    """Why an entry can be no file of a folder; "" where it can."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in PLAIN:
        return "is a link" if kind == stat.S_IFLNK else "is neither file nor folder"
    if name.endswith("/") and info.file_size:
        return "is a folder with a content"
    if info.compress_type == STORED and not info.flag_bits & SECRET and info.compress_size != info.file_size:
        return "is said to be stored, in another number of bytes than it holds"
    if info.compress_type == DEFLATED and info.file_size and not info.compress_size:
        return "is said to be packed in no byte"
    return trouble_of(name)


def _check_overlap(found: list[zipfile.ZipInfo], end: int) -> None:
    """Raises:
    BadArchive: Members share bytes (a bomb, as one packed byte counts for many members), or lie outside the archive.
    """
    if any(info.header_offset < 0 or info.compress_size > end - info.header_offset - LOCAL_HEADER for info in found):
        raise BadArchive("is damaged: members lie where it has no bytes for them")
    starts = np.fromiter((info.header_offset for info in found), np.int64, len(found))
    stops = starts + np.fromiter((LOCAL_HEADER + info.compress_size for info in found), np.int64, len(found))
    order = starts.argsort(kind="stable")
    if (stops[order][:-1] > starts[order][1:]).any():
        raise BadArchive("holds members that share bytes, as bombs do")
