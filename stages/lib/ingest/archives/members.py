"""Files that lie in archives: where each is, and its bytes, which are read in place.

What a worker is handed of a member is its place, a few numbers; no worker reads an archive's index again.
"""

import os
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stages.lib.core import opening
from stages.lib.core.errors import UserError
from stages.lib.core.opening import MAX_READ, MAX_TEXT, TO_READ, check_handles, decoded, stamp
from stages.lib.ingest.readers.contract import Rejected

ZIP, TAR, TAR_GZ = "zip", "tar", "tar.gz"
STORED, DEFLATED, ENCRYPTED = 0, 8, -1  # APPNOTE.TXT 4.4.5, and what is packed by a password in whichever way
LOCAL_HEADER, LOCAL_SIGNATURE = 30, b"PK\3\4"  # bytes of the fixed part, APPNOTE.TXT 4.3.7
NAME_BYTES = 256  # that a name and what follows it in a header most often take at most
SMALL = 1 << 16
RAW_DEFLATE = -15  # zlib's word for deflate without a header
ANY_RATIO_BYTES = 64 << 20  # a member that is no larger may be packed as closely as it likes
MAX_RATIO = 100  # of a larger one: volumes that are half air reach 20, bombs 1,000
MOST_OPEN = 8  # archives that a process keeps open
BUFFER_BYTES = 1 << 20  # unpacked at once of a tar.gz: members that lie near each other cost one walk
PACKED_BYTES = 1 << 16  # read at once of a tar.gz

Opened = int | BinaryIO  # a descriptor, or what gzip has packed


class Archive(NamedTuple):
    """An archive, as it was when its index was read."""

    path: str
    kind: str  # ZIP, TAR or TAR_GZ
    stamp: tuple[int, int, int, int]
    seek_points: str = ""  # of a TAR_GZ: the file with the places from which it can be unpacked


class Member(NamedTuple):
    """A file in an archive."""

    archive: Archive
    offset: int  # of a ZIP: of its header there; of a TAR its first byte, and of a TAR_GZ that in the unpacked tar
    packed: int  # bytes in the archive
    size: int  # bytes of its content
    method: int = STORED
    crc: int = 0  # of a ZIP: CRC-32 of the content

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """As of a file: its size, and beside it what tells that the archive is still the same."""
        return self.size, *self.archive.stamp[1:]


class Members:
    """All members of all archives of a data set by the paths that they stand for; numbers, as there may be millions."""

    COLUMNS = 6

    def __init__(self) -> None:
        self._archives: list[Archive] = []
        self._numbers = array("q")
        self._position: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._position)

    def __iter__(self) -> Iterator[str]:
        return iter(self._position)

    def add(self, path: str, member: Member) -> None:
        if self._archives[-1:] != [member.archive]:
            self._archives.append(member.archive)
        self._position[path] = len(self._position)
        self._numbers.extend((len(self._archives) - 1, *member[1:]))

    def get(self, path: str) -> Member | None:
        """The member that stands for a path; None where a file does."""
        if (position := self._position.get(path)) is None:
            return None
        archive, *numbers = self._numbers[position * self.COLUMNS : (position + 1) * self.COLUMNS]
        return Member(self._archives[archive], *numbers)

    @property
    def archives(self) -> frozenset[str]:
        """The paths of all archives with a member."""
        return frozenset(archive.path for archive in self._archives)

    def archive_of(self, path: str) -> str:
        """The path of the archive that a member lies in."""
        return self._archives[self._numbers[self._position[path] * self.COLUMNS]].path

    def among(self, paths: Iterable[str]) -> "Members":
        """Those that stand for some of the paths: what a worker is sent, quicker than an object for each."""
        found = Members()
        archives: dict[int, int] = {}
        for path in paths:
            if (position := self._position.get(path)) is not None and path not in found:
                first = position * self.COLUMNS
                archive = archives.setdefault(self._numbers[first], len(archives))
                found._numbers.append(archive)
                found._numbers.extend(self._numbers[first + 1 : first + self.COLUMNS])
                found._position[path] = len(found)
        found._archives = [self._archives[number] for number in archives]
        return found

    def place(self, path: str) -> int:
        """By which paths are sorted to be read one after the other, as archives have them; -1 of a file."""
        return self._position.get(path, -1)

    def __contains__(self, path: object) -> bool:
        return path in self._position

    def read_text(self, path: str, name: Path, most: int = MAX_TEXT) -> str:
        """A text in UTF-8: the member that stands for a path, or else the file.

        Args:
            name: Where the file lies, and what messages call either.

        Raises:
            UserError: It can't be read, or is no text.
        """
        member = self.get(path)
        if member is None:
            return opening.read_text(name, most)
        try:
            return decoded(f"{name} in {member.archive.path}", read(member, most)[0])
        except Rejected as error:
            raise UserError(f"{name} in {member.archive.path} can't be read ({error.detail}): put it beside") from None


NONE = Members()


def read(member: Member, most: int, take: Callable[[int], object] = int) -> tuple[bytes, tuple[int, int, int, int]]:
    """A member's content, and its stamp.

    Args:
        most: Bytes that it may hold.
        take: Is told how many bytes it holds before they are read.

    Raises:
        Rejected: It is damaged, packed in a way that is not read, too large, or its archive has changed.
        OSError: The archive can't be read.
        UserError: There are too few file handles.
    """
    check(member, most)
    take(member.size)
    archive = _opened(member.archive)
    if member.archive.kind == ZIP:
        content = _unpacked(member, archive)
    else:
        content = _read_at(archive, member.offset, member.size)
        if len(content) != member.size:
            raise Rejected("truncated", f"its archive ends after {len(content)} of its {member.size} bytes")
    return content, member.stamp


def read_stamped(
    path: str, member: Member | None, most: int, take: Callable[[int], object] = int
) -> tuple[bytes, tuple[int, int, int, int]]:
    """A file's content, or the member's that stands for it, and its stamp from before it was read: a change shows.

    Raises:
        Rejected, OSError, UserError: As of `read`, and of `opening.read`.
    """
    if member is not None:
        return read(member, most, take)
    content, status = opening.read(path, most, take)
    return content, stamp(status)


def stamp_now(path: str, member: Member | None) -> tuple[int, int, int, int]:
    """The stamp that a file, or a member, has now.

    Raises:
        OSError: There is none.
    """
    if member is None:
        return stamp(os.stat(path))
    return member.size, *stamp(os.stat(member.archive.path))[1:]


def check(member: Member, most: int) -> None:
    """Raises:
    Rejected: The archive's index says already that the member is not to be read.
    """
    if member.method == ENCRYPTED:
        raise Rejected("unsupported_format", "encrypted in its archive: pack it anew without a password")
    if member.method not in (STORED, DEFLATED):
        raise Rejected(
            "unsupported_format", f"packed by method {member.method} of ZIP: pack it anew, stored or deflated"
        )
    if member.size > most:
        raise Rejected("too_large", f"it unpacks to {member.size} bytes, expected {most} at most")
    if member.archive.kind == ZIP and member.size > max(ANY_RATIO_BYTES, MAX_RATIO * member.packed):
        raise Rejected(
            "too_large", f"{member.packed} bytes unpack to {member.size}, expected {MAX_RATIO} times at most: unpack it"
        )


def _unpacked(member: Member, archive: Opened) -> bytes:
    """The content of a ZIP's member. What it has unpacked to is compared with what the index says.

    Raises:
        Rejected: It is damaged.
    """
    # Of a small member, the header and what follows at once: a call of the system takes as long as copying 64 KiB.
    begin = _read_at(
        archive, member.offset, LOCAL_HEADER + (NAME_BYTES + member.packed if member.packed < SMALL else 0)
    )
    if begin[:4] != LOCAL_SIGNATURE or len(begin) < LOCAL_HEADER:
        raise Rejected("corrupt", "nothing begins where its archive's index says")
    start = LOCAL_HEADER + begin[26] + (begin[27] << 8) + begin[28] + (begin[29] << 8)
    content = begin[start : start + member.packed]
    if len(content) < member.packed:
        content = _read_at(archive, member.offset + start, member.packed)
    if len(content) != member.packed:
        raise Rejected("truncated", f"its archive ends after {len(content)} of its {member.packed} bytes")
    if member.method == DEFLATED and (member.packed or member.size):  # some pack an empty file to no byte
        inflate = zlib.decompressobj(RAW_DEFLATE)
        try:
            content = inflate.decompress(content, member.size + 1)
        except zlib.error:
            raise Rejected("corrupt", "it can't be unpacked from its archive") from None
        if not inflate.eof and len(content) <= member.size:
            raise Rejected("corrupt", "what it was packed to has no end")
    if len(content) != member.size:
        raise Rejected("corrupt", f"it does not unpack to the {member.size} bytes that its archive's index says")
    if zlib.crc32(content) != member.crc:
        raise Rejected("corrupt", "its content has another checksum (CRC-32) than its archive's index says")
    return content


def _read_at(archive: Opened, offset: int, size: int) -> bytes:
    """Fewer bytes where the archive ends before."""
    if not isinstance(archive, int):
        archive.seek(offset)
        return archive.read(size)
    chunks = [os.pread(archive, min(size, MAX_READ), offset)]
    if (got := len(chunks[0])) == size:
        return chunks[0]
    while got < size and (more := os.pread(archive, min(size - got, MAX_READ), offset + got)):
        chunks.append(more)
        got += len(more)
    return b"".join(chunks)


_open: OrderedDict[Archive, Opened] = OrderedDict()  # the one that was used last at the end


def _opened(archive: Archive) -> Opened:
    """A descriptor; of a TAR_GZ, the tar.

    Raises:
        Rejected: It has changed since its index was read.
        OSError, UserError: It can't be opened.
    """
    if archive in _open:
        _open.move_to_end(archive)
        return _open[archive]
    while len(_open) >= MOST_OPEN:
        _, longest_unused = _open.popitem(last=False)
        if isinstance(longest_unused, int):
            os.close(longest_unused)
    try:
        descriptor = os.open(archive.path, TO_READ)
    except OSError as error:
        check_handles(error)
        raise
    if stamp(os.fstat(descriptor)) != archive.stamp:
        os.close(descriptor)
        raise Rejected("changed", f"{os.path.basename(archive.path)} changed while it was read")
    if archive.kind != TAR_GZ:
        _open[archive] = descriptor
    else:
        os.close(descriptor)
        _open[archive] = unzipped(archive.path, archive.seek_points)
    return _open[archive]


def unzipped(path: str, seek_points: str = "", spacing: int = 1 << 20) -> BinaryIO:
    """What gzip has packed, as a file in which any place can be asked for. It is opened for each read alone.

    Args:
        seek_points: A file with places from which it can be unpacked, as `export_index` writes it; "": they are made,
            `spacing` bytes of the unpacked file apart, as it is read.

    Raises:
        UserError: The library for it is not there.
    """
    try:
        import indexed_gzip
    except ImportError:
        raise UserError(
            f"{path} takes the package indexed-gzip to be read: `pip install indexed-gzip`, or unpack it to a .tar"
        ) from None
    return indexed_gzip.IndexedGzipFile(
        filename=path,
        index_file=seek_points or None,
        spacing=spacing,
        buffer_size=BUFFER_BYTES,
        readbuf_size=PACKED_BYTES,
    )
