"""What is known of the files before their pixels are read, in columns: an object a file is too much for millions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.lib.ingest.raw_files import STAMP
from stages.lib.ingest.readers.contract import Inspected, Refusal

DIGEST = np.dtype("V16")  # xxh3's 128 bits
# A file is told of as (stamp, digest, reader, Common, Own),
# or (stamp, digest, "", (reason, detail), (ignored, series)).
Fact = tuple[tuple[int, ...], bytes, str, tuple[Any, ...], tuple[Any, ...]]


class Facts:
    """What each file is, by its position among the paths."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.names = np.zeros(len(paths), np.uint64)  # identify("path", path): a case's, if the file is one by itself
        self.stamps = np.zeros((len(paths), STAMP), np.int64)  # as it was read; its size alone if it was new
        self.digests = np.zeros(len(paths), DIGEST)
        self.kinds = np.full(len(paths), -1, np.int32)  # position in `alike`; -1 where the file is refused
        self.alike: list[tuple[str, tuple[Any, ...]]] = []  # reader and Common, which many files have alike
        self.owns: dict[int, tuple[Any, ...]] = {}  # what is a file's own, by its position; left out if nothing is
        self.reasons: dict[int, tuple[str, str, bool, str]] = {}  # of refused files: reason, detail, ignored, series
        self._positions: dict[tuple[str, tuple[Any, ...]], int] = {}

    def put(self, i: int, name: str, fact: Fact) -> None:
        """Notes what file i is called, and what is told of it."""
        stamp, digest, reader, common, own = fact
        self.names[i] = int(name, 16)
        if digest:
            self.stamps[i] = stamp
            self.digests[i] = np.void(digest)
        if not reader:
            self.reasons[i] = (*common, *own)
            return
        self.kinds[i] = self._kind((reader, common))
        if own:
            self.owns[i] = own

    def take(self, positions: np.ndarray, other: "Facts", where: np.ndarray | None = None) -> None:
        """Takes over what is known elsewhere of the files `where` (all of them) for those at `positions`."""
        where = np.arange(len(positions)) if where is None else where
        kinds = other.kinds[where]
        mine_of = np.full(len(other.alike) + 1, -1, np.int32)
        for kind in np.unique(kinds[kinds >= 0]):
            mine_of[kind] = self._kind(other.alike[kind])
        for column in ("names", "stamps", "digests"):
            getattr(self, column)[positions] = getattr(other, column)[where]
        self.kinds[positions] = mine_of[kinds]
        for mine, theirs in ((self.owns, other.owns), (self.reasons, other.reasons)):
            if theirs:
                for i, j in zip(positions.tolist(), where.tolist(), strict=True):
                    if j in theirs:
                        mine[i] = theirs[j]

    def part(self, positions: np.ndarray) -> "Facts":
        """What is known of some files, without their paths."""
        part = Facts([""] * len(positions))
        part.take(np.arange(len(positions)), self, positions)
        return part

    def _kind(self, fact: tuple[str, tuple[Any, ...]]) -> int:
        if (position := self._positions.get(fact)) is None:
            position = self._positions[fact] = len(self.alike)
            self.alike.append(fact)
        return position

    def file(self, i: int) -> Inspected:
        """File i, which a reader accepted."""
        return Inspected(self.paths[i], self.digests[i].tobytes(), self.alike[self.kinds[i]][1], self.owns.get(i, ()))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return int(self.stamps[:, 0].sum())

    @property
    def accepted(self) -> dict[str, np.ndarray]:
        """Positions of the accepted files by reader, in the order of the paths."""
        names = sorted({reader for reader, _ in self.alike})
        of_kind = np.array([names.index(reader) for reader, _ in self.alike] + [-1])[self.kinds]
        found = {name: np.flatnonzero(of_kind == i) for i, name in enumerate(names)}
        return {name: positions for name, positions in found.items() if len(positions)}

    @property
    def refused(self) -> list[Refusal]:
        return [Refusal((self.paths[i],), *self.reasons[i]) for i in sorted(self.reasons)]
