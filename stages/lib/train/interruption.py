"""Interrupted is not lost: signals ask a run to stop, and checkpoints let it go on to the bytes of a run never stopped.

The checkpoint lies in `.resume/`, beside the outs but not one of them, since dvc deletes a stage's outs before it runs.
It is ignored once params, data, code or machine have changed, and removed when the run is done.
"""

import hashlib
import io
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from filelock import FileLock, Timeout

from stages.lib.core import outs, sources
from stages.lib.core.errors import UserError

STAGE = sources.ROOT / "stages" / "train.py"  # a run's code is this and all that it imports


class Stop:
    """Whether a signal has asked this process to stop."""

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
    """Yields a `Stop` that SIGTERM or Ctrl-C sets; a second signal of the same number ends the process at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers in the main thread only
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


def run_identity(params: Any, dataset_h5: Path, processes: int) -> str:
    """A hash of everything that a run's bits depend on.

    The data goes in by its size and time of change, since reading all of it takes long; the code without comments, and
    with the versions of the packages that it imports.
    """
    file = dataset_h5.stat()
    hardware = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    digest = hashlib.sha256(repr((params, file.st_size, file.st_mtime_ns, hardware, processes)).encode())
    digest.update(sources.digest(STAGE))
    return digest.hexdigest()


class Checkpoints:
    """The latest state of one unfinished run, in a folder that is locked while the run uses it."""

    def __init__(self, folder: Path, identity: str, minutes: float = 0.0, writes: bool = True) -> None:
        """
        Args:
            folder: Made if it is missing.
            identity: Of the run; the states of other runs are ignored.
            minutes: How long after one checkpoint the next one is due.
            writes: Whether this process takes the lock and saves. Of several processes one does; the others load.

        Raises:
            UserError: Another run holds the lock.
        """
        self._folder, self._identity, self._minutes, self._writes = folder, identity, minutes, writes
        self._file = folder / "state.pt"
        self._saved = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        if writes:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise UserError(
                    f"another run is still training here ({folder}/lock is taken): wait for it, or end it, then go on"
                ) from None

    def load(self) -> dict[str, Any] | None:
        """The saved state; None if there is none, or it is another run's, or can't be read."""
        if not self._file.exists():
            return None
        try:
            saved = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception:  # half a file after a power cut, or another version of torch: the run starts afresh
            return None
        return saved["state"] if saved["identity"] == self._identity else None

    def is_due(self) -> bool:
        """Whether this process saves checkpoints and `minutes` have passed since the last one."""
        return self._writes and time.monotonic() - self._saved >= 60 * self._minutes

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the saved state in one step, so that there is a whole one at any moment."""
        if self._writes:
            content = io.BytesIO()
            torch.save({"identity": self._identity, "state": state}, content)
            outs.write_bytes(self._file, content.getvalue())
            self._saved = time.monotonic()

    def remove(self) -> None:
        """Once the run is done and its outs are in their places."""
        if self._writes:
            self._file.unlink(missing_ok=True)
            self._lock.release()
            (self._folder / "lock").unlink(missing_ok=True)
            self._folder.rmdir()
