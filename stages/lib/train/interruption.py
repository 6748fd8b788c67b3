"""Interrupted is not lost: signals ask a run to stop, and checkpoints let it go on to the bytes of a run never stopped.

The checkpoint lies in `.resume/`, beside the outs but not one of them, since dvc deletes a stage's outs before it runs.
It is of no use once params, data, code or machine have changed; it is then kept aside, as whoever changes them back
goes on with it, and the run says what has changed. Both are removed when a run is done; where dvc runs the stage, when
dvc.lock has the model: a dvc that is killed before would run the stage again.
"""

import hashlib
import io
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import torch

from stages.lib.core import locks, outs, signals, sources
from stages.lib.core.progress import say

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


def run_identity(
    params: Any, dataset_h5: Path, processes: int, device: torch.device, cases: bytes = b""
) -> dict[str, str]:
    """Hashes of everything that a run's bits depend on, by what people call it.

    The data goes in by its size and time of change, since reading all of it takes long; the code without comments, and
    with the versions of the packages that it imports.

    Args:
        cases: Which of the data are trained on, where that is not what dataset.h5 says.
    """
    file = dataset_h5.stat()
    hardware = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = {
        "params": repr(params),
        "data": repr((file.st_size, file.st_mtime_ns, cases)),
        "code or packages": repr(sources.digest(STAGE)),
        "machine": repr((hardware, accelerator)),
        "number of processes": repr(processes),
    }
    return {name: hashlib.sha256(part.encode()).hexdigest() for name, part in parts.items()}


class Checkpoints:
    """The latest state of one unfinished run, in a folder that is locked while the run uses it.

    with Checkpoints(folder, identity) as checkpoints:
        state = checkpoints.load()
        ...
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], minutes: float = 0.0, writes: bool = True) -> None:
        """
        Args:
            folder: Made if it is missing.
            identity: Of the run; the states of other runs are kept aside.
            minutes: How long after one checkpoint the next one is due.
            writes: Whether this process takes the lock and saves. Of several processes one does; the others load.

        Raises:
            UserError: Another run holds the lock.
        """
        self._folder, self._identity, self._minutes, self._writes = folder, dict(identity), minutes, writes
        self._file, self._aside = folder / "state.pt", folder / "other_state.pt"
        self._is_another = False  # whether the file is of a run that was stopped and is not this one
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
        """The saved state; None if there is none, or it is another run's or a finished one's, or can't be read.

        Where training begins anew though there is a state, the process that writes says why, and keeps it aside.
        """
        is_there = self._file.exists()
        latest = saved = _read(self._file)
        if not self._is_own(latest):
            # Of a run that was done nothing is lost. It is moved once all processes have looked, at the first save.
            self._is_another = is_there and not (latest is not None and latest["model_md5"])
            saved = _read(self._aside)
        if saved is None or not self._is_own(saved):
            if self._writes and self._is_another:
                say(f"training begins anew: {self._why_not(latest)}; it is kept as {self._aside.name}")
            return None
        return None if _is_noted(saved["model_md5"]) else saved["state"]

    def _is_own(self, saved: Mapping[str, Any] | None) -> bool:
        return saved is not None and saved["identity"] == self._identity

    def _why_not(self, saved: Mapping[str, Any] | None) -> str:
        where = f"{self._file}, where an earlier run was stopped,"
        if saved is None:
            return f"{where} can't be read (half a file, or another version of torch's)"
        former = saved["identity"] if isinstance(saved["identity"], dict) else {}
        changed = [name for name, part in self._identity.items() if former.get(name) != part]
        return f"{where} is of a run with other {', '.join(changed)}"

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
            if self._is_another:
                self._file.replace(self._aside)
                self._is_another = False
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
        if self._writes:
            self._aside.unlink(missing_ok=True)  # what was kept aside is of no use now


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # none, half a file after a power cut, or another version of torch's
        return None


def _is_noted(model_md5: str) -> bool:
    """Whether dvc.lock has a finished run's model: then the stage runs again because somebody wants it to."""
    return bool(model_md5) and DVC_LOCK.exists() and model_md5 in DVC_LOCK.read_text(encoding="utf-8", errors="replace")
