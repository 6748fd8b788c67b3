"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from stages.lib.core.terminal import raw, shown

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 15
tqdm.monitor_interval = 0  # its thread does not survive in a forked worker; with miniters=1 it is not needed


def progress(
    items: Iterable[Item], doing: str, unit: str, total: int | None = None, size: Callable[[Item], int] = lambda item: 1
) -> Iterator[Item]:
    """Yields the items while stderr shows how many are done, how many a second, and the time left.

    Args:
        doing: The work, as in "ingest digits".
        unit: What is counted, in the singular: "case".
        total: How many units there are, where `items` has no length.
        size: How many units an item is.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    how: dict[str, Any] = {"dynamic_ncols": True, "file": raw(sys.stderr)}
    if not sys.stderr.isatty():
        every = SECONDS_BETWEEN_LINES  # the first line, too: quick work says nothing
        how = {"mininterval": every, "delay": every, "file": _Lines()}
    with tqdm(desc=shown(doing), unit=" " + unit, total=total, miniters=1, **how) as bar:
        for item in items:
            yield item
            bar.update(size(item))


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line (on stdout); nobody has to read it: work that is done does not fail as `| head` has left."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # What is left in the stream's buffer would raise again when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Lines:
    """Turns tqdm's carriage returns into lines, so that a log stays readable."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n\x1b[A "):
            say(text, sys.stderr)

    def flush(self) -> None:
        pass  # `say` has done so
