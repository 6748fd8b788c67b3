"""What is in a ZIP archive, by the index at its end; every other word of it is taken for a claim."""

import os
import stat
import zipfile
from collections.abc import Iterator

import numpy as np

from stages.lib.ingest.archives.entries import BadArchive, Entry, OpenFile, trouble_of
from stages.lib.ingest.archives.members import DEFLATED, ENCRYPTED, LOCAL_HEADER, STORED, Archive, Member

SECRET = 1 | 1 << 6 | 1 << 13  # flags: encrypted, strongly, and with its header masked; APPNOTE.TXT 4.4.4
PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: the system that packed it knows no types


def entries(file: OpenFile, archive: Archive) -> Iterator[Entry]:
    """The entries of an archive, in the order of its index.

    Raises:
        BadArchive: It is damaged, or its members share bytes.
        OSError: It can't be read.
    """
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
    _check_overlap(found, opened.start_dir)
    for info in found:
        yield Entry(info.filename, _member(info, archive), info.is_dir(), _trouble(info))


def _member(info: zipfile.ZipInfo, archive: Archive) -> Member:
    method = ENCRYPTED if info.flag_bits & SECRET else info.compress_type
    return Member(archive, info.header_offset, info.compress_size, info.file_size, method, info.CRC)


def _trouble(info: zipfile.ZipInfo) -> str:
    """Why an entry can be no file of a folder; "" where it can."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in PLAIN:
        return "is a link" if kind == stat.S_IFLNK else "is neither file nor folder"
    if info.is_dir() and info.file_size:
        return "is a folder with a content"
    if info.compress_type == STORED and not info.flag_bits & SECRET and info.compress_size != info.file_size:
        return "is said to be stored, in another number of bytes than it holds"
    if info.compress_type == DEFLATED and info.file_size and not info.compress_size:
        return "is said to be packed in no byte"
    return trouble_of(info.orig_filename)  # zipfile ends a name before a NUL


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
