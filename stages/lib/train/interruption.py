"""Interrupted is not lost: signals ask a run to stop, and checkpoints let it go on to the bytes of a run never stopped.

The checkpoint lies in `.resume/`, beside the outs but not one of them, since dvc deletes a stage's outs before it runs.
It is ignored once params, data, code or machine have changed, and removed when the run is done; where dvc runs the
stage, when dvc.lock has the model: a dvc that is killed before would run the stage again.
"""

import hashlib
import io
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import torch

from stages.lib.core import locks, outs, signals, sources

DVC_LOCK = Path("dvc.lock")
DVC_STAGE = "DVC_STAGE"  # the environment variable that dvc gives to what it runs
STAGE = sources.ROOT / "stages" / "train.py"  # a run's code is this and all that it imports


class Stop:
    """Whether a signal has asked this process to stop."""

    signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def leave(self) -> NoReturn:
        """Ends the process as the signal would have.

        Raises:
            KeyboardInterrupt, SystemExit: As `signals.end`.
        """
        signals.end(self.signal or signal.SIGTERM)


@contextmanager
def on_signals() -> Iterator[Stop]:
    """Yields a `Stop` that a signal sets; a second signal of the same number ends the process at once."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, signals.end)

    with signals.handled(handle):
        yield stop


def run_identity(params: Any, dataset_h5: Path, processes: int, cases: bytes = b"") -> str:
    """A hash of everything that a run's bits depend on.

    The data goes in by its size and time of change, since reading all of it takes long; the code without comments, and
    with the versions of the packages that it imports.

    Args:
        cases: Which of the data are trained on, where that is not what dataset.h5 says.
    """
    file = dataset_h5.stat()
    hardware = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    digest = hashlib.sha256(repr((params, file.st_size, file.st_mtime_ns, hardware, processes)).encode())
    digest.update(sources.digest(STAGE) + cases)
    return digest.hexdigest()


class Checkpoints:
    """The latest state of one unfinished run, in a folder that is locked while the run uses it.

    with Checkpoints(folder, identity) as checkpoints:
        state = checkpoints.load()
        ...
    """

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
        self._lock = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        if writes:  # held by worker processes, too, which may outlive the stage that started them
            self._lock.enter_context(locks.holding(folder / "lock", "training"))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.close()
        if self._writes and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def load(self) -> dict[str, Any] | None:
        """The saved state; None if there is none, or it is another run's or a finished one's, or can't be read."""
        if not self._file.exists():
            return None
        try:
            saved = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception:  # half a file after a power cut, or another version of torch: the run starts afresh
            return None
        if saved["identity"] != self._identity or _is_noted(saved["model_md5"]):
            return None
        return saved["state"]

    def is_due(self) -> bool:
        """Whether this process saves checkpoints and `minutes` have passed since the last one."""
        return self._writes and time.monotonic() - self._saved >= 60 * self._minutes

    def save(self, state: dict[str, Any], model_md5: str = "") -> None:
        """Replaces the saved state in one step, so that there is a whole one at any moment.

        Args:
            model_md5: Of the model.pt that came of the run, once it is in its place.
        """
        if self._writes:
            content = io.BytesIO()
            torch.save({"identity": self._identity, "model_md5": model_md5, "state": state}, content)
            outs.write_bytes(self._file, content.getvalue())
            self._saved = time.monotonic()

    def finish(self, result: dict[str, Any], model_pt: Path) -> None:
        """Once the run is done and its outs are in their places.

        Args:
            result: The part of the state that the outs are made from.
        """
        if self._writes and DVC_STAGE in os.environ:
            self.save(result, hashlib.md5(model_pt.read_bytes(), usedforsecurity=False).hexdigest())
        elif self._writes:
            self._file.unlink(missing_ok=True)


def _is_noted(model_md5: str) -> bool:
    """Whether dvc.lock has a finished run's model: then the stage runs again because somebody wants it to."""
    return bool(model_md5) and DVC_LOCK.exists() and model_md5 in DVC_LOCK.read_text(encoding="utf-8", errors="replace")
