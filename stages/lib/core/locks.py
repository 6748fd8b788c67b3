"""One process at a time: a lock that the kernel frees when its process ends, in whatever way."""

import errno
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stages.lib.core.errors import UserError

CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
SECONDS = 1.0  # to wait for a process that is ending


@contextmanager
def holding(file: Path, what: str) -> Iterator[None]:
    """Holds the lock `file`, which says who holds it, and is removed at the end. What a killed process left is free.

    On a file system that cannot lock files a line on stderr says so, and the block runs.

    Args:
        what: Is done under the lock, as in "train of digits".

    Raises:
        UserError: Another process holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=SECONDS, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{what} is under way already ({_holder(file)}; {file} is locked): wait for it or end it, then run again"
        ) from None
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        print(f"{file.parent} is on a file system without locks: never start {what} twice at once", file=sys.stderr)
        yield
        return
    try:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        with suppress(OSError):  # a full disk
            file.write_text(f"process {os.getpid()} on {platform.node()} since {since}", encoding="utf-8")
        yield
    finally:
        file.unlink(missing_ok=True)  # before it is released: filelock takes no lock on a file that has lost its name
        lock.release()


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Waits until no other process is in a block under the lock `file`; where files can't be locked, nothing waits."""
    lock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") or "a process that has just begun"
    except OSError:  # it has just ended, or the system does not let others read a locked file
        return "another process"
