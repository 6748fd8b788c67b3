"""Writes at any place of a file that exists, as several processes do at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stages.lib.core.errors import WAYS_OUT, UserError, explain


@contextmanager
def opened(path: Path | str) -> Iterator[int]:
    """A file's descriptor."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write(file: int, content: np.ndarray, offset: int, path: Path | str) -> None:
    """Writes an array's bytes.

    Args:
        content: In C order.
        path: For the message.

    Raises:
        UserError: The system refuses it: no fault of the content.
    """
    view = memoryview(content.data).cast("B")
    try:
        while len(view):
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        if error.errno not in WAYS_OUT:
            raise
        raise UserError(explain(OSError(error.errno, error.strerror, str(path)))) from None
