"""Reads single pictures and series as ingest does, without a data set, for tools.predict."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from stages.lib.core.progress import progress
from stages.lib.ingest import companions, readers
from stages.lib.ingest.assembly import IMAGE_AXES, none_named
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.decoding import Loader, decode, reason_of
from stages.lib.ingest.file_table import FileTable, Inspection, Reason
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.labels.beside import CLASS
from stages.lib.ingest.raw_files import TABLES
from stages.lib.ingest.readers.colour import can_be_made
from stages.lib.ingest.readers.contract import PART_SIGN, Inspected, NoSuchPart, Options, Part, Refusal
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import quietly
from tools import raw_inputs
from tools.raw_inputs import File

RUN_FILES = 64  # of pictures, inspected at once: what is known of files before their pixels are read is bounded by it


class RawCase(NamedTuple):
    """A case, or why a file or series is none."""

    name: str  # path of its file, or of the folder that holds its files
    pixels: np.ndarray | None = None  # (C, H, W) or (C, D, H, W), in its own dtype
    spacing_mm: tuple[float, ...] | None = None
    units: str = ""
    trouble: str = ""
    files: int = 1  # that it was made of; the pages of a file after its first are made of none
    note: str = ""  # what was done to its pixels that people should know


def read_cases(
    names: Sequence[str],
    kind: Literal["images", "volumes"],
    channels: int,
    as_in_training: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[RawCase]:
    """Every case that names stand for, as `read_files` gives them.

    Args:
        names: Files, folders, globs and archives; - for a list of paths on stdin.
        kind, channels, as_in_training: As of `read_files`.

    Raises:
        UserError: A name matches nothing.
    """
    return read_files(raw_inputs.find(names)[0], kind, channels, as_in_training)


def read_files(
    files: Iterable[File],
    kind: Literal["images", "volumes"],
    channels: int,
    as_in_training: Mapping[str, Any] = MappingProxyType({}),
    watched: bool = False,
    left_out: Counter[str] | None = None,
) -> Iterator[RawCase]:
    """Every case that files hold: one per picture file, or one per series of slices.

    The pixels are read when a case is asked for. Of volumes, all headers are read before the first case, as the slices
    of a series may lie anywhere among the files; of pictures, those of `RUN_FILES` files at once, so that a list is
    answered as it comes.

    Args:
        channels: Of the model; where it takes three, a grey picture is repeated.
        as_in_training: `transparency`, `colour` and those of `IngestParams.reading`, as they were for the model's
            training.
        watched: Whether stderr shows how far the headers of volumes are.
        left_out: Counts by reason, when all cases were asked for, the files that are no cases, as ingest leaves them
            out: localizers and captures beside scans, copies, and texts, empty files and thumbnails beside slices.

    Yields:
        The cases, and the files that make none, in the order of their first files.

    Raises:
        UserError: The installation is at fault.
    """
    # What it shows stays here, so text in the pixels is no reason to refuse a picture.
    given = {"kind": kind, "burned_in": "keep", **as_in_training}
    options = Options(check(IngestParams, given), OPEN)
    counted = Counter[str]() if left_out is None else left_out
    if kind == "volumes":
        yield from _Run(list(files), options, watched).cases(channels, counted)
        return
    remaining = iter(files)
    while run := list(islice(remaining, RUN_FILES)):
        yield from _Run(run, options).cases(channels, counted)


class _Run:
    """Files whose headers are known together."""

    def __init__(self, files: Sequence[File], options: Options, watched: bool = False) -> None:
        self._options = options
        self._parts: dict[str, list[Part]] = defaultdict(list)  # those that are meant, by path
        for file in files:
            if file.part:
                self._parts[file.path].append(file.part)
        self._whole = {file.path for file in files if not file.part}
        files = list({file.path: file for file in files}.values())
        self._place = {file.path: i for i, file in enumerate(files)}
        self._table = FileTable([file.path for file in files])
        self._load = Loader("", options, members={file.path: file.member for file in files if file.member})
        for i, file in enumerate(progress(files, "read headers", "file") if watched else files):
            self._table.put(i, options.identify("path", file.path), quietly(partial(self._inspect, file)))

    def _inspect(self, file: File) -> Inspection:
        if file.trouble:
            return Inspection((), b"", refused=Reason("unreadable", file.trouble, ignored=False, series=""))
        return inspect_file(file.path, self._options, member=file.member)

    def cases(self, channels: int, left_out: Counter[str]) -> Iterator[RawCase]:
        """The cases, and the files that make none, in the order of their first files."""
        made: list[tuple[int, Template | RawCase]] = []
        refused = list(self._table.refused)
        volumes = self._options.params.kind == "volumes"
        slices = companions.of_slices(self._table.paths[i] for i in self._table.accepted.get("dicom", ()))
        for reader, positions in self._table.accepted.items():
            files = [self._table.file(i) for i in positions]
            for file in files:
                if file.path in self._parts:
                    made += self._cases_of_parts(reader, file)
            files = [file for file in files if file.path in self._whole]
            if volumes and not readers.reader(reader).ALONE:
                files, aside = readers.reader(reader).choose(files, none_named, self._options)
                refused += aside
            assembly = readers.reader(reader).assemble(files, self._table.refused, self._options)
            if volumes:
                pictures = [case.files[0].path for case in assembly.cases if len(case.shape) == IMAGE_AXES]
                beside = set(companions.thumbnails(pictures, slices)[0])
                refused += [Refusal((path,), "thumbnail", "", ignored=True) for path in beside]
                assembly.cases = [case for case in assembly.cases if case.files[0].path not in beside]
            made += [(self._first(file.path for file in case.files), Template(reader, case)) for case in assembly.cases]
            refused += assembly.refused
        for refusal in companions.set_aside(refused, slices) if volumes else refused:
            if refusal.ignored or _is_of_labels(refusal):
                left_out[refusal.reason if refusal.ignored else "label_file"] += len(refusal.paths)
            else:
                trouble = _trouble(refusal.reason, refusal.detail)
                case = RawCase(_named(refusal.paths), trouble=trouble, files=len(refusal.paths))
                made.append((self._first(refusal.paths), case))
        before = -1
        for place, one in sorted(made, key=lambda entry: entry[0]):
            case = one if isinstance(one, RawCase) else self._read(one, channels)
            is_page = place == before and self._table.paths[place] not in self._parts  # a further one of a file
            yield case._replace(files=0) if is_page else case
            before = place

    def _cases_of_parts(self, reader: str, file: Inspected) -> Iterator[tuple[int, Template | RawCase]]:
        """Of the parts of a file that are meant, in their order."""
        place = self._place[file.path]
        take = getattr(readers.reader(reader), "parts", None)
        for part in self._parts[file.path]:
            name = f"{file.path}{PART_SIGN}{part.text}"
            try:
                if take is None:
                    raise NoSuchPart(part, "the file is no file of arrays")
                assembly = take(file, [part], self._options)
            except NoSuchPart as error:
                yield place, RawCase(name, trouble=error.detail)
                continue
            yield from ((place, Template(reader, case)) for case in assembly.cases)
            yield from ((place, RawCase(name, trouble=_trouble(one.reason, one.detail))) for one in assembly.refused)

    def _read(self, template: Template, channels: int) -> RawCase:
        case = template.case
        name, number = _named(case.names), len(case.files)
        if phase := dict(case.attributes).get("phase", ""):
            name += f", phase {phase}"
        colour = self._options.params.colour
        is_asked = len(case.shape) == 3 or colour != "auto"
        if is_asked and can_be_made(case.shape[0], channels, colour):
            case = case.with_channels(channels)
            template = template._replace(case=case)
        try:
            blocks = quietly(lambda: list(decode(template, 0, case.blocks, self._load, self._options)))
        except Exception as error:
            return RawCase(name, trouble=_trouble(*reason_of(error)), files=number)
        pixels = np.array(blocks).reshape(case.shape)  # of a volume, the slices of one channel after those of another
        return RawCase(name, pixels, case.spacing_mm, case.units, files=number)

    def _first(self, paths: Iterable[str]) -> int:
        return min(self._place[path] for path in paths)


def _is_of_labels(refusal: Refusal) -> bool:
    """Whether a file that is no picture holds labels, as raw data have them: labels.csv, or 0001.cls."""
    names = (os.path.basename(path) for path in refusal.paths)
    return refusal.reason == "not_an_image" and all(name in TABLES or name.endswith(f".{CLASS}") for name in names)


def _named(paths: Sequence[str]) -> str:
    if len(paths) == 1 or len({os.path.isabs(path) for path in paths}) > 1:  # those have no path in common
        return paths[0]
    return os.path.commonpath([os.path.dirname(path) or "." for path in paths])


def _trouble(reason: str, detail: str) -> str:
    return f"{reason.replace('_', ' ')}: {detail}" if detail else reason.replace("_", " ")
