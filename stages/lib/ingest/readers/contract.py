"""What a reader is: the contract between ingest and one file format.

Ingest goes over the data twice. First every file is read once and `inspect`ed: enough to know its place in cases/.
Then the inspected files of a reader are `assemble`d into cases, places are made, and `read` brings the pixels. Both
passes run in several processes and are cached, so what they return is plain (numbers, strings, tuples of those).

A reader is a module of this package with three functions and a flag, and one line in READERS:

    inspect(content: bytes, options: Options) -> tuple[Common, Own]
        The facts of one file. `Common` is what many files have alike (kept once), `Own` what is the file's own.
        Raises Rejected, or Ignored for what is no picture by design (a directory, a report).

    assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly
        One file a case, or many, with geometry checked: a case is right, or it is rejected with its reason. `unread`
        are the files that could not be inspected; one of them may be what a case lacks.

    read(files, recipe, start, stop, load, options) -> Iterator[np.ndarray]
        The blocks start..stop of a case: its slices (H, W), or for a picture its only block (C, H, W), in the case's
        dtype. `load(file)` gives a file's content. Raises Rejected.

    ALONE: bool
        Whether a file that `assemble` makes one case of, called identify("path", path), makes it by itself, of what
        it has in common with others: then `assemble` is asked once for all files that have the same Common.

Axes are C, H, W or C, D, H, W; spacing is in mm along D, H, W (or H, W). Identifiers must not leave a reader: whatever
names a patient, a series or an instance goes through `options.identify` in `inspect` already.

For example, a format of raw 4x4 grey pictures:

    ALONE = True

    def inspect(content, options):
        if len(content) != 16:
            raise Rejected("truncated", f"{len(content)} bytes, expected 16")
        return (), ()

    def assemble(files, unread, options):
        name = options.identify
        return Assembly([Case(name("path", f.path), None, (f,), "uint8", (1, 4, 4)) for f in files])

    def read(files, recipe, start, stop, load, options):
        yield np.frombuffer(load(files[0]), np.uint8).reshape(1, 4, 4)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from stages.lib.ingest.identifiers import identify
from stages.lib.params.ingest import IngestParams


class Rejected(Exception):
    """A file or case that can't be read for certain.

    `reason` is one word of a fixed vocabulary, which is counted; `detail` is for a person and may name anything, as
    it goes into the local rejected.csv alone.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
        self.series = ""  # identifier of the series that lacks the file, where the header still tells


class Ignored(Rejected):
    """A file that is sound but no picture, by design."""


@dataclass(frozen=True)
class Options:
    """What a reader may want to know of params.yaml, and the key to hide identifiers with."""

    params: IngestParams
    key: bytes

    def identify(self, kind: str, value: str) -> str:
        return identify(self.key, kind, value)


class Inspected(NamedTuple):
    """A file that a reader accepted."""

    path: str  # below data/raw/<dataset>
    digest: bytes  # of its content
    common: tuple[Any, ...]
    own: tuple[Any, ...]


class Case(NamedTuple):
    """A case to be: everything but its pixels."""

    case: str  # identifier
    patient: str | None  # identifier
    files: tuple[Inspected, ...]  # in the order in which `read` wants them
    dtype: str
    shape: tuple[int, ...]  # (C, H, W) or (C, D, H, W), C as the file has it
    spacing_mm: tuple[float, ...] | None = None
    units: str = ""  # "HU"
    series: str | None = None  # identifier
    recipe: tuple[Any, ...] = ()  # what else `read` must know
    attributes: tuple[tuple[str, str], ...] = ()  # for cases.csv; nothing that names anybody
    noted: tuple[str, ...] = ()  # what is counted in ingest.json: "exif_rotated", "burned_in"

    @property
    def blocks(self) -> int:
        """Slices of a volume; a picture is one block."""
        return self.shape[1] if len(self.shape) == 4 else 1


class Refusal(NamedTuple):
    """Files that make no case, and why."""

    paths: tuple[str, ...]
    reason: str
    detail: str
    ignored: bool = False
    series: str = ""  # identifier of the series that lacks the files, where their headers still tell


@dataclass
class Assembly:
    """What became of a reader's files."""

    cases: list[Case]
    refused: list[Refusal] = field(default_factory=list)


class Reader(Protocol):
    """The functions and the flag above."""

    ALONE: bool

    def inspect(self, content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]: ...

    def assemble(self, files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly: ...

    def read(
        self,
        files: Sequence[Inspected],
        recipe: tuple[Any, ...],
        start: int,
        stop: int,
        load: Callable[[Inspected], bytes],
        options: Options,
    ) -> Iterator[np.ndarray]: ...
