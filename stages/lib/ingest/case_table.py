"""The cases to be, in the order of their identifiers, in columns: an object a case would be too much for millions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from stages.lib.ingest.file_table import DIGEST
from stages.lib.ingest.readers.contract import Case, Inspected

BLOCK = 4096  # cases that are hashed at once

Kind = tuple[str, Case]
"""A reader's name, and a case; or, its own name left out, what all cases of one file that have the same facts share."""

Alike = tuple[Kind, np.ndarray, list[str], np.ndarray]
"""A kind, and the identifiers (n,) uint64, paths and digests of the files that make a case of it each."""


@dataclass
class CaseTable:
    """N cases."""

    ids: np.ndarray  # (N,) uint64, ascending: the identifiers, of which the hexadecimal digits are the names
    kinds: list[Kind]
    which: np.ndarray  # (N,) int32: each one's kind
    paths: list[str]  # (N,) of each one's only file, where the kind does not tell
    digests: np.ndarray  # (N,) of 16 bytes: of that file

    def __len__(self) -> int:
        return len(self.ids)

    def kind(self, i: int) -> Case:
        """All that is known of case i, but, where many are alike, its name and file."""
        return self.kinds[self.which[i]][1]

    def __iter__(self) -> Iterator[Kind]:
        """Each one's reader and case."""
        names, digests, size = self.names().tolist(), self.digests.tobytes(), DIGEST.itemsize
        for i, (which, path) in enumerate(zip(self.which.tolist(), self.paths, strict=True)):
            reader, case = self.kinds[which]
            if not case.case:
                _, _, common, own = case.files[0]
                file = Inspected(path, digests[i * size : (i + 1) * size], common, own)
                case = Case(names[i].decode(), case.patient, (file,), *case[3:])
            yield reader, case

    def path(self, i: int) -> str:
        """A case's first file."""
        return self.paths[i] or self.kind(i).files[0].path

    def names(self) -> np.ndarray:
        """(N,) S16."""
        return np.frombuffer(self.ids.astype(">u8").tobytes().hex().encode(), "S16")

    def select(self, positions: np.ndarray) -> "CaseTable":
        """Some of the cases, in their order, with no more kinds than they need."""
        used, which = np.unique(self.which[positions], return_inverse=True)
        kinds = [self.kinds[kind] for kind in used]
        paths = [self.paths[i] for i in positions]
        return CaseTable(self.ids[positions], kinds, which.astype(np.int32), paths, self.digests[positions])

    def shapes(self) -> np.ndarray:
        """(N, A) int64."""
        return np.array([case.shape for _, case in self.kinds], np.int64)[self.which]

    def dtypes(self) -> np.ndarray:
        """(N,) S8."""
        return np.array([case.dtype for _, case in self.kinds], "S8")[self.which]

    def spacings_mm(self) -> np.ndarray:
        """(N, A - 1) float64, nan where unknown."""
        spacings = [case.spacing_mm or (math.nan,) * (len(case.shape) - 1) for _, case in self.kinds]
        return np.array(spacings, np.float64)[self.which]

    def pixel_bytes(self) -> np.ndarray:
        """(N,) int64."""
        sizes = [math.prod(case.shape) * np.dtype(case.dtype).itemsize for _, case in self.kinds]
        return np.array(sizes, np.int64)[self.which]

    def units(self) -> str:
        """The unit that all share, or none."""
        units = {case.units for _, case in self.kinds}
        return units.pop() if len(units) == 1 else ""

    def contents(self, colour: str) -> np.ndarray:
        """(N,) of 16 bytes: digests of all that the pixels depend on, the files' contents among it."""
        keys = []
        for reader, case in self.kinds:
            facts = (reader, case.recipe, case.shape, case.dtype, colour if len(case.shape) == 3 else "")
            keys.append(repr(facts).encode())
            if case.case:
                keys[-1] += b"".join(file.digest for file in case.files)
        files, size = self.digests.tobytes(), DIGEST.itemsize
        contents = np.empty(len(self), DIGEST)
        for at in range(0, len(self), BLOCK):
            which = enumerate(self.which[at : at + BLOCK].tolist(), at)
            hashed = (xxhash.xxh3_128_digest(keys[kind] + files[i * size : (i + 1) * size]) for i, kind in which)
            contents[at : at + BLOCK] = np.frombuffer(b"".join(hashed), DIGEST)
        return contents


def tabulate(cases: Sequence[Kind], alike: Sequence[Alike]) -> CaseTable:
    """Puts cases in order.

    Raises:
        ValueError: Two have one identifier.
    """
    kinds = [*cases, *(kind for kind, *_ in alike)]
    numbers = [1] * len(cases) + [len(paths) for _, _, paths, _ in alike]
    paths = [""] * len(cases) + [path for _, _, paths, _ in alike for path in paths]
    digests = [np.zeros(len(cases), DIGEST), *(digests for *_, digests in alike)]
    names = np.array([int(case.case, 16) for _, case in cases], np.uint64)
    ids = np.concatenate([names, *(names for _, names, _, _ in alike)])
    order = np.argsort(ids)
    which = np.repeat(np.arange(len(kinds), dtype=np.int32), numbers)[order]
    table = CaseTable(ids[order], kinds, which, [paths[i] for i in order], np.concatenate(digests)[order])
    if len(twice := np.flatnonzero(table.ids[1:] == table.ids[:-1])):
        one, other = table.path(twice[0]), table.path(twice[0] + 1)
        raise ValueError(f"two cases are called {table.ids[twice[0]]:016x}: {one}, {other}")
    return table
