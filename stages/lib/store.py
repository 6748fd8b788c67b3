"""What ingest remembers from run to run, beside the outs and out of git, so that only what changed is decoded.

A folder of its own for each state of code, libraries, key and params that matter (its name is their fingerprint):

    files.jsonl         what inspecting each file said, by hashed path, with size, times and inode to tell a change by
    cases.h5 / .jsonl   the last finished pixels (one file with the out, by hard link) and where each case lies in it
    working, interrupted   the same of a run under way, and of one that was killed

Pixels are found by the content that they were decoded from, and taken only if their checksum is right. So a damaged
store costs time, and never a pixel.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stages.lib import journal
from stages.lib.errors import UserError

Record = list[Any]


class Stored(NamedTuple):
    """Where a run of a case's blocks lies."""

    path: Path
    offset: int  # bytes
    digests: tuple[str, ...]  # of each block


class Store:
    """The memory of one dataset's ingest."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint
        for other in folder.iterdir() if folder.exists() else ():
            if other.is_dir() and other != self.folder:
                shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._keep_interrupted()
        self.pixels: dict[tuple[str, int], Stored] = {}
        self.refusals: dict[str, tuple[str, str]] = {}  # content: reason, detail
        for name in ("interrupted", "cases"):
            self._load(name)

    @property
    def working_h5(self) -> Path:
        return self.folder / "working.h5"

    def files(self) -> dict[str, Record]:
        """What was inspected: hashed path -> [signature, ...]."""
        known: dict[str, Record] = {}
        for name in ("files.jsonl", "files.new.jsonl"):
            for records in journal.read(self.folder / name):
                known.update((record[0], record[1:]) for record in records)
        return known

    def journal_files(self) -> journal.Journal:
        return journal.Journal(self.folder / "files.new.jsonl")

    def keep_files(self, chunks: Iterable[list[Record]]) -> None:
        """Replaces what was known of files by what is there now."""
        journal.write(self.folder / "files.jsonl", chunks)
        (self.folder / "files.new.jsonl").unlink(missing_ok=True)

    def journal_pixels(self) -> journal.Journal:
        """For records [content, first block, offset, digests] or [content, reason, detail] about working.h5."""
        return journal.Journal(self.folder / "working.jsonl")

    def set_aside(self) -> None:
        """Makes working.h5 a source of pixels for the next one."""
        self._keep_interrupted()
        self._load("interrupted")

    @property
    def finished_h5(self) -> Path:
        return self.folder / "cases.h5"

    def finish(self) -> None:
        """Makes working.h5 the last finished pixels."""
        for ending in ("jsonl", "h5"):
            os.replace(self.folder / f"working.{ending}", self.folder / f"cases.{ending}")
        for ending in ("jsonl", "h5"):
            (self.folder / f"interrupted.{ending}").unlink(missing_ok=True)

    def _keep_interrupted(self) -> None:
        """Renames a killed run's working.h5, unless an interrupted one before it has more."""
        working, interrupted = (self.folder / f"{name}.jsonl" for name in ("working", "interrupted"))
        if working.exists() and (self.folder / "working.h5").exists():
            if not interrupted.exists() or working.stat().st_size >= interrupted.stat().st_size:
                os.replace(self.folder / "working.h5", self.folder / "interrupted.h5")
                os.replace(working, interrupted)
        working.unlink(missing_ok=True)
        self.working_h5.unlink(missing_ok=True)

    def _load(self, name: str) -> None:
        path = self.folder / f"{name}.h5"
        for records in journal.read(self.folder / f"{name}.jsonl"):
            for record in records:
                if len(record) == 3:
                    self.refusals[record[0]] = (record[1], record[2])
                elif path.exists():
                    content, start, offset, digests = record
                    self.pixels[content, start] = Stored(path, offset, tuple(digests))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system frees when the process ends in whatever way.

    Raises:
        UserError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another ingest works on {folder.parent}: wait for it, or end it") from None
        yield
