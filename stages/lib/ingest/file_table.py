"""What is known of the raw files before their pixels are read, one column per property.

Columns, as an object per file would be too much memory for millions of files. What many files have in common (headers
of the slices of a series, size and type of pictures) is stored once, and each file refers to it by number.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.lib.ingest.raw_files import STAMP_FIELDS
from stages.lib.ingest.readers.contract import Inspected, Refusal

DIGEST = np.dtype("V16")  # xxh3's 128 bits


class Shared(NamedTuple):
    """What many files have in common."""

    reader: str  # name of the reader that accepted them
    common: tuple[Any, ...]  # the first of what the reader's `inspect` returned


class Reason(NamedTuple):
    """Why a file was refused."""

    reason: str
    detail: str
    ignored: bool
    series: str  # identifier of the series that lacks the file, if its header still says


class Inspection(NamedTuple):
    """What inspecting one file gave: either `shared` and `own`, or `refused`."""

    stamp: tuple[int, ...]  # () where the file could not be opened
    digest: bytes  # of its content; b"" where it could not be read
    shared: Shared | None = None
    own: tuple[Any, ...] = ()  # the second of what the reader's `inspect` returned
    refused: Reason | None = None


class FileTable:
    """N files; a file is named by its position among the paths."""

    COLUMNS = ("ids", "stamps", "digests")

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.ids = np.zeros(len(paths), np.uint64)  # identify("path", path): a case's identifier, if the file is a case
        self.stamps = np.zeros((len(paths), STAMP_FIELDS), np.int64)  # as of reading; the size alone if it was new then
        self.digests = np.zeros(len(paths), DIGEST)
        self.which = np.full(len(paths), -1, np.int32)  # position in `shared`; -1 where the file is refused
        self.shared: list[Shared] = []
        self.own: dict[int, tuple[Any, ...]] = {}  # by position; only of files that have something of their own
        self.reasons: dict[int, Reason] = {}  # by position; of refused files
        self._positions: dict[Shared, int] = {}  # in `shared`

    def put(self, i: int, identifier: str, found: Inspection) -> None:
        """Fills in file i."""
        self.ids[i] = int(identifier, 16)
        if found.digest:
            self.stamps[i] = found.stamp
            self.digests[i] = np.void(found.digest)
        if found.refused is not None:
            self.reasons[i] = found.refused
        elif found.shared is not None:
            self.which[i] = self._position(found.shared)
            if found.own:
                self.own[i] = found.own

    def take(self, positions: np.ndarray, other: "FileTable", rows: np.ndarray | None = None) -> None:
        """Copies the files `rows` of another table (all of them) to the positions here."""
        rows = np.arange(len(positions)) if rows is None else rows
        theirs = other.which[rows]
        mine = np.full(len(other.shared) + 1, -1, np.int32)  # the last is for -1
        for i in np.unique(theirs[theirs >= 0]):
            mine[i] = self._position(other.shared[i])
        for column in self.COLUMNS:
            getattr(self, column)[positions] = getattr(other, column)[rows]
        self.which[positions] = mine[theirs]
        if other.own or other.reasons:
            for i, j in zip(positions.tolist(), rows.tolist(), strict=True):
                if j in other.own:
                    self.own[i] = other.own[j]
                if j in other.reasons:
                    self.reasons[i] = other.reasons[j]

    def select(self, positions: np.ndarray) -> "FileTable":
        """Some of the files, without their paths."""
        selected = FileTable([""] * len(positions))
        selected.take(np.arange(len(positions)), self, positions)
        return selected

    def _position(self, shared: Shared) -> int:
        if (position := self._positions.get(shared)) is None:
            position = self._positions[shared] = len(self.shared)
            self.shared.append(shared)
        return position

    def file(self, i: int) -> Inspected:
        """File i, which a reader accepted."""
        common = self.shared[self.which[i]].common
        return Inspected(self.paths[i], self.digests[i].tobytes(), common, self.own.get(i, ()))

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return int(self.stamps[:, 0].sum())

    @property
    def accepted(self) -> dict[str, np.ndarray]:
        """Positions of the accepted files by reader, in the order of the paths."""
        names = sorted({shared.reader for shared in self.shared})
        reader_of = np.array([names.index(shared.reader) for shared in self.shared] + [-1])[self.which]
        found = {name: np.flatnonzero(reader_of == i) for i, name in enumerate(names)}
        return {name: positions for name, positions in found.items() if len(positions)}

    @property
    def refused(self) -> list[Refusal]:
        return [Refusal((self.paths[i],), *self.reasons[i]) for i in sorted(self.reasons)]
