"""Long work shows itself: a bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 15
tqdm.monitor_interval = 0  # its thread would come to nothing in a forked worker; miniters=1 does without it


def progress(items: Iterable[Item], doing: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items while stderr shows how many are done, how many a second, and the time left.

    Args:
        doing: What is going on, as in "ingest digits".
        unit: What is counted, in the singular: "case".
        total: How many items there are, where `items` has no length.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=doing, unit=" " + unit, total=total, miniters=1, dynamic_ncols=True)
        return
    every = SECONDS_BETWEEN_LINES  # the first line, too: quick work says nothing
    lines = _Lines()
    yield from tqdm(items, doing, total, unit=" " + unit, miniters=1, mininterval=every, delay=every, file=lines)


class _Lines:
    """Turns tqdm's carriage returns into lines, so that a log stays readable."""

    def write(self, text: str) -> None:
        if text := text.strip("\r\n\x1b[A "):
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
