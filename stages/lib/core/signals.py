"""Signals that ask a process to end: exceptions, so that files are put in order, and numbers for the shell."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C; the wish of a system or scheduler; a terminal that was closed."""

Handler = Callable[[int, FrameType | None], None]


def end(number: int, frame: FrameType | None = None) -> NoReturn:
    """The handler of `ENDING`: ends the process as a shell expects it.

    Raises:
        KeyboardInterrupt: For SIGINT.
        SystemExit: For another, with 128 and its number.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextmanager
def handled(handler: Handler = end) -> Iterator[None]:
    """Lets `handler` have the signals `ENDING`, except those that the process was told to ignore, as by nohup."""
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python sets handlers in the main thread only
        former = {number: signal.getsignal(number) for number in ENDING}
    former = {number: before for number, before in former.items() if before != signal.SIG_IGN}
    for number in former:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def leave_to_parent() -> None:
    """For a worker process: Ctrl-C reaches it, too, but it is for the parent to end its workers."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
