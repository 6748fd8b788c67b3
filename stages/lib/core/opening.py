"""Opens files that others made: regular files alone, no more than they hold, and never waiting for a writer."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from stages.lib.core.errors import UserError

# Without O_NONBLOCK, opening a FIFO waits until somebody writes into it.
TO_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY"))
MAX_READ = 1 << 30  # bytes that one call reads: some systems refuse more than 2 GiB
MAX_TEXT = 1 << 28  # bytes of a text file: a labels.csv of some million rows
TOO_FEW_HANDLES = (errno.EMFILE, errno.ENFILE)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(mode: int) -> str:
    """What something is that is no regular file, from the `st_mode` of its status."""
    return KINDS.get(stat.S_IFMT(mode), "no regular file")


def stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells without reading a file whether it is still the same: size, times in nanoseconds, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (1 << 63) - 1


def read(path: str | Path, most: int, take: Callable[[int], object] = int) -> tuple[bytes, os.stat_result]:
    """A regular file's bytes, and its status from before they were read, so that a change meanwhile shows.

    Bytes that are added while it is read are left out: a file that somebody writes into for ever has an end here.

    Args:
        most: Bytes that it may hold.
        take: Is told how many bytes it holds before they are read.

    Raises:
        OSError: It can't be opened or read, is no regular file (errno EINVAL), or holds more than `most` (EFBIG).
    """
    descriptor = os.open(path, TO_READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"{kind_of(status.st_mode)}, expected a file", str(path))
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, expected {most} at most", str(path))
        take(status.st_size)
        return _read(descriptor, status.st_size), status
    finally:
        os.close(descriptor)


def _read(descriptor: int, size: int) -> bytes:
    chunks = [os.read(descriptor, min(size, MAX_READ))]
    left = size - len(chunks[0])
    while left and (more := os.read(descriptor, min(left, MAX_READ))):
        chunks.append(more)
        left -= len(more)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_text(path: Path, most: int = MAX_TEXT) -> str:
    """A file of UTF-8, with or without a byte order mark.

    Raises:
        UserError: It can't be read, or is no text; the message says why.
    """
    try:
        return decoded(path, read(path, most)[0])
    except OSError as error:
        check_handles(error)
        raise UserError(f"{path} can't be read ({error.strerror}): mend or replace it") from None


def decoded(path: str | Path, content: bytes) -> str:
    """The text of a file that is UTF-8.

    Raises:
        UserError: It is not.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None


def check_handles(error: OSError) -> None:
    """Raises:
    UserError: The system gives this process no more file handles: a fault of no file.
    """
    if error.errno in TOO_FEW_HANDLES:
        raise UserError(
            f"too few file handles ({os.strerror(error.errno)}): raise their limit, as with `ulimit -n 1024`, or take "
            "fewer processes (machine.workers)"
        ) from None
