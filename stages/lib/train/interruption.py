"""SIGTERM and Ctrl-C ask a run to stop; it saves where it is, then leaves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn


class Stop:
    """Set once a signal has come."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def leave(self) -> NoReturn:
        """Ends the process as the signal would have."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextmanager
def on_signals() -> Iterator[Stop]:
    """Yields a `Stop` that SIGTERM and Ctrl-C set; the second one ends the process at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield stop
        return

    former: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, former[number])

    for number in former:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
