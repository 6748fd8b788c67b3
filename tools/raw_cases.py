"""Reads single pictures and series as ingest does, without a data set, for tools.predict."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.ingest import raw_files, readers
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.decoding import decode, loader, reason_of
from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.readers.colour import can_be_made
from stages.lib.ingest.readers.contract import Options
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import quietly


class RawCase(NamedTuple):
    """A case, or why a file or series is none."""

    name: str  # path of its file, or of the folder that holds its files
    pixels: np.ndarray | None = None  # (C, H, W) or (C, D, H, W), in its own dtype
    spacing_mm: tuple[float, ...] | None = None
    units: str = ""
    trouble: str = ""


def read_cases(
    names: Sequence[str],
    kind: Literal["images", "volumes"],
    channels: int,
    as_in_training: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RawCase]:
    """Every case that files, folders and globs hold: one per picture file, or one per series of slices.

    Args:
        channels: Of the model; where it takes three, a grey picture is repeated.
        as_in_training: `transparency` and `colour` of ingest, as they were for the model's training.

    Yields:
        The cases in the order of their first files, then the files that make no case.

    Raises:
        UserError: A name matches nothing.
    """
    # What it shows stays here, so text in the pixels is no reason to refuse a picture.
    given = {"kind": kind, "burned_in": "keep", **as_in_training}
    options = Options(check(IngestParams, given), OPEN)
    files = _files(names)
    table = FileTable(files)
    for i, path in enumerate(files):
        table.put(i, options.identify("path", path), quietly(partial(inspect_file, path, options)))
    cases: list[Template] = []
    refused = list(table.refused)
    for reader, positions in table.accepted.items():
        assembly = readers.reader(reader).assemble([table.file(i) for i in positions], table.refused, options)
        cases += [Template(reader, case) for case in assembly.cases]
        refused += assembly.refused
    place = {path: i for i, path in enumerate(files)}
    for template in sorted(cases, key=lambda one: min(place[file.path] for file in one.case.files)):
        yield _read(template, channels, options)
    for refusal in refused:
        if not refusal.ignored:
            yield RawCase(_named(refusal.paths), trouble=_trouble(refusal.reason, refusal.detail))


def _files(names: Sequence[str]) -> list[str]:
    files = []
    for name in names:
        found = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
        if not found:
            raise UserError(f"{name} not found: expected a picture, a DICOM file, a folder of them, or a glob")
        for path in found:
            files += (
                [os.path.join(path, below) for below in raw_files.scan(Path(path)).paths]
                if os.path.isdir(path)
                else [path]
            )
    return list(dict.fromkeys(files))  # a file that two of the names hold is read once


def _read(template: Template, channels: int, options: Options) -> RawCase:
    case = template.case
    name = _named([file.path for file in case.files])
    if len(case.shape) == 3 and can_be_made(case.shape[0], channels, options.params.colour):
        template = template._replace(case=case._replace(shape=(channels, *case.shape[1:])))
    try:
        blocks = quietly(lambda: list(decode(template, 0, case.blocks, loader("", options), options)))
    except Exception as error:
        return RawCase(name, trouble=_trouble(*reason_of(error)))
    pixels = np.stack(blocks)[None] if len(case.shape) == 4 else np.array(blocks[0])  # (1, D, H, W) or (C, H, W)
    return RawCase(name, pixels, case.spacing_mm, case.units)


def _named(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else os.path.commonpath([os.path.dirname(path) or "." for path in paths])


def _trouble(reason: str, detail: str) -> str:
    return f"{reason.replace('_', ' ')}: {detail}" if detail else reason.replace("_", " ")
