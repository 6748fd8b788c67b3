"""The cases of a data set in the order of their identifiers, one column per property.

Columns, as an object per case would be too much memory for millions of cases. Most cases of one file differ in nothing
but identifier, path and digest: what they have in common is stored once, as a `Template`.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xxhash

from stages.lib.ingest.file_table import DIGEST
from stages.lib.ingest.readers.contract import Case

BLOCK_CASES = 4096  # cases that are hashed at once


class Template(NamedTuple):
    """A case; or what several cases of one file each have in common, then without identifier and path."""

    reader: str  # name of the reader that brings the pixels
    case: Case

    @property
    def is_whole(self) -> bool:
        """Whether this is one case, with all that belongs to it."""
        return bool(self.case.case)


class OneFileCases(NamedTuple):
    """n cases of one file each that have a template in common."""

    template: Template
    ids: np.ndarray  # (n,) uint64
    paths: list[str]  # (n,)
    digests: np.ndarray  # (n,) DIGEST, of the files' contents


@dataclass
class CaseTable:
    """N cases."""

    ids: np.ndarray  # (N,) uint64, ascending: the identifiers, whose hexadecimal digits are the cases' names
    templates: list[Template]
    which: np.ndarray  # (N,) int32: each one's template
    paths: list[str]  # (N,): the only file of a case whose template is not whole; "" otherwise
    digests: np.ndarray  # (N,) DIGEST: of that file

    def __len__(self) -> int:
        return len(self.ids)

    def template(self, i: int) -> Template:
        """All that is known of case i, but for its identifier and file, if it has them in common with none."""
        return self.templates[self.which[i]]

    def __iter__(self) -> Iterator[Template]:
        """Each one's reader and whole case."""
        names, digests, size = self.names().tolist(), self.digests.tobytes(), DIGEST.itemsize
        for i, (which, path) in enumerate(zip(self.which.tolist(), self.paths, strict=True)):
            template = self.templates[which]
            if not template.is_whole:
                case = template.case
                file = case.files[0]._replace(path=path, digest=digests[i * size : (i + 1) * size])
                template = Template(template.reader, case._replace(case=names[i].decode(), files=(file,)))
            yield template

    def path(self, i: int) -> str:
        """A case's first file, or its part of one."""
        return self.paths[i] or self.template(i).case.names[0]

    def names(self) -> np.ndarray:
        """(N,) S16."""
        return np.frombuffer(self.ids.astype(">u8").tobytes().hex().encode(), "S16")

    def select(self, positions: np.ndarray) -> "CaseTable":
        """Some of the cases, in their order, with no more templates than they need."""
        used, which = np.unique(self.which[positions], return_inverse=True)
        templates = [self.templates[i] for i in used]
        paths = [self.paths[i] for i in positions]
        return CaseTable(self.ids[positions], templates, which.astype(np.int32), paths, self.digests[positions])

    def shapes(self) -> np.ndarray:
        """(N, A) int64."""
        return np.array([template.case.shape for template in self.templates], np.int64)[self.which]

    def dtypes(self) -> np.ndarray:
        """(N,) S8."""
        return np.array([template.case.dtype for template in self.templates], "S8")[self.which]

    def spacings_mm(self) -> np.ndarray:
        """(N, A - 1) float64, nan where unknown."""
        cases = [template.case for template in self.templates]
        spacings = [case.spacing_mm or (math.nan,) * (len(case.shape) - 1) for case in cases]
        return np.array(spacings, np.float64)[self.which]

    def pixel_bytes(self) -> np.ndarray:
        """(N,) int64."""
        cases = [template.case for template in self.templates]
        sizes = [math.prod(case.shape) * np.dtype(case.dtype).itemsize for case in cases]
        return np.array(sizes, np.int64)[self.which]

    def units(self) -> str:
        """The unit that all have, or none."""
        units = {template.case.units for template in self.templates}
        return units.pop() if len(units) == 1 else ""

    def contents(self, colour: str) -> np.ndarray:
        """(N,) DIGEST: of all that a case's pixels depend on, its files' contents among it."""
        keys = []
        for template in self.templates:
            case = template.case
            given = (
                template.reader,
                case.recipe,
                case.shape,
                case.dtype,
                colour if len(case.shape) == 3 or case.file_channels else "",
            )
            keys.append(repr(given).encode())
            if template.is_whole:
                keys[-1] += b"".join(file.digest for file in case.files)
        files, size = self.digests.tobytes(), DIGEST.itemsize
        contents = np.empty(len(self), DIGEST)
        for at in range(0, len(self), BLOCK_CASES):
            which = enumerate(self.which[at : at + BLOCK_CASES].tolist(), at)
            hashed = (xxhash.xxh3_128_digest(keys[t] + files[i * size : (i + 1) * size]) for i, t in which)
            contents[at : at + BLOCK_CASES] = np.frombuffer(b"".join(hashed), DIGEST)
        return contents


def tabulate(whole: Sequence[Template], one_file: Sequence[OneFileCases]) -> CaseTable:
    """Puts cases in the order of their identifiers.

    Raises:
        ValueError: Two have one identifier.
    """
    templates = [*whole, *(cases.template for cases in one_file)]
    numbers = [1] * len(whole) + [len(cases.paths) for cases in one_file]
    paths = [""] * len(whole) + [path for cases in one_file for path in cases.paths]
    digests = [np.zeros(len(whole), DIGEST), *(cases.digests for cases in one_file)]
    names = np.array([int(template.case.case, 16) for template in whole], np.uint64)
    ids = np.concatenate([names, *(cases.ids for cases in one_file)])
    order = np.argsort(ids)
    which = np.repeat(np.arange(len(templates), dtype=np.int32), numbers)[order]
    table = CaseTable(ids[order], templates, which, [paths[i] for i in order], np.concatenate(digests)[order])
    if len(twice := np.flatnonzero(table.ids[1:] == table.ids[:-1])):
        one, other = table.path(twice[0]), table.path(twice[0] + 1)
        raise ValueError(f"two cases are called {table.ids[twice[0]]:016x}: {one}, {other}")
    return table


def repeated(cases: CaseTable, digests: np.ndarray) -> list[list[int]]:
    """Positions of cases with equal pixels, several a list."""
    halves = digests.view(np.uint64)[::2]  # whole digests numpy would sort in ten times the memory
    order = np.argsort(halves, kind="stable")
    alike = np.flatnonzero(halves[order][1:] == halves[order][:-1])
    same: dict[tuple[bytes, str, tuple[int, ...]], list[int]] = defaultdict(list)
    for i in np.unique(order[np.concatenate([alike, alike + 1])]).tolist():
        case = cases.template(i).case
        same[digests[i].tobytes(), case.dtype, case.shape].append(i)  # digests know nothing of shapes
    return [members for members in same.values() if len(members) > 1]
