"""Cases straight from files, without a data set: what ingest does to one picture or series, for tools.predict."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.ingest import raw_files, readers
from stages.lib.ingest.file_table import Facts
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.readers.colour import converted
from stages.lib.ingest.readers.contract import Case, Inspected, Options, Rejected
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams


class RawCase(NamedTuple):
    """One case, or why it is none."""

    name: str  # of its file, or of the folder of its files
    pixels: np.ndarray | None = None  # (C, H, W) or (C, D, H, W), its own integers
    spacing_mm: tuple[float, ...] | None = None
    units: str = ""
    trouble: str = ""


def read_cases(names: Sequence[str], kind: Literal["images", "volumes"], channels: int) -> Iterator[RawCase]:
    """Every case that files, folders and globs hold: pictures file by file, slices put together to series.

    Args:
        channels: Of the model; a grey picture is repeated where it takes three.

    Yields:
        The cases in the order of their first files, then what is none.

    Raises:
        UserError: A name matches nothing.
    """
    options = Options(check(IngestParams, {"kind": kind}), OPEN)
    files = _files(names)
    facts = Facts(files)
    for i, path in enumerate(files):
        facts.put(i, options.identify("path", path), inspect_file(path, options))
    cases: list[tuple[str, Case]] = []
    refused = list(facts.refused)
    for reader, positions in facts.accepted.items():
        assembly = readers.reader(reader).assemble([facts.file(i) for i in positions], facts.refused, options)
        cases += [(reader, case) for case in assembly.cases]
        refused += assembly.refused
    place = {path: i for i, path in enumerate(files)}
    for reader, case in sorted(cases, key=lambda entry: min(place[file.path] for file in entry[1].files)):
        yield _read(reader, case, channels, options)
    for refusal in refused:
        if not refusal.ignored:
            yield RawCase(_named(refusal.paths), trouble=_said(refusal.reason, refusal.detail))


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
    return list(dict.fromkeys(files))  # a file that two names hold is one case


def _read(reader: str, case: Case, channels: int, options: Options) -> RawCase:
    name = _named([file.path for file in case.files])
    try:
        blocks = readers.reader(reader).read(case.files, case.recipe, 0, case.blocks, _load, options)
        if len(case.shape) == 4:
            pixels = np.stack(list(blocks))[None]  # (1, D, H, W)
        else:
            pixels = next(iter(blocks)).reshape(case.shape)
            pixels = converted(pixels, 3, "rgb") if channels == 3 else pixels
    except Rejected as error:
        return RawCase(name, trouble=_said(error.reason, error.detail))
    except Exception as error:  # a file may be damaged in any way, and decoders have as many exceptions
        return RawCase(name, trouble=_said("unreadable", f"{type(error).__name__}: {error}"))
    return RawCase(name, np.array(pixels), case.spacing_mm, case.units)


def _load(file: Inspected) -> bytes:
    return Path(file.path).read_bytes()


def _named(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else os.path.commonpath([os.path.dirname(path) or "." for path in paths])


def _said(reason: str, detail: str) -> str:
    return f"{reason.replace('_', ' ')}: {detail}" if detail else reason.replace("_", " ")
