"""`.resume/`: an unfinished run's state, so that a killed run goes on and ends with the bytes of one never killed.

It lies beside the outs and is none: dvc deletes outs before it runs a stage. Ignored when params, data, code or machine
changed, removed when the run is done.
"""

import hashlib
import io
import platform
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from stages.lib.core import outs
from stages.lib.core.errors import UserError

CODE = Path(__file__).parents[1]


def identity(params: Any, dataset_h5: Path, processes: int) -> str:
    """A hash of all that a run's bits come from; the data by its size and time, since reading it all takes long."""
    file = dataset_h5.stat()
    machine = (platform.machine(), torch.__version__, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    known = hashlib.sha256(repr((params, file.st_size, file.st_mtime_ns, machine, processes)).encode())
    for source in sorted(CODE.rglob("*.py")):
        known.update(source.read_bytes())
    return known.hexdigest()


class Resume:
    """A folder with the state of one unfinished run, locked while a run uses it."""

    def __init__(self, folder: Path, identity: str, writes: bool = True) -> None:
        """Args: writes: Whether this process takes the lock and saves; the others of several processes only load.

        Raises:
            UserError: Another run holds the lock.
        """
        self._folder, self._identity, self._writes = folder, identity, writes
        self._file = folder / "state.pt"
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
        """The saved state, if it is one of this very run."""
        if not self._file.exists():
            return None
        try:
            saved = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception:  # half a file after a power cut, or another torch: a fresh start mends it
            return None
        return saved["state"] if saved["identity"] == self._identity else None

    def save(self, state: dict[str, Any]) -> None:
        """Replaces the saved state: at any moment there is a whole one."""
        if self._writes:
            content = io.BytesIO()
            torch.save({"identity": self._identity, "state": state}, content)
            outs.write_bytes(self._file, content.getvalue())

    def remove(self) -> None:
        """The run is done, and its outs are in their places."""
        if self._writes:
            self._file.unlink(missing_ok=True)
            self._lock.release()
            (self._folder / "lock").unlink(missing_ok=True)
            self._folder.rmdir()
