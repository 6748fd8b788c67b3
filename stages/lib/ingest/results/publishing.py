"""Puts the outs into their places: cases/, cases.csv and ingest.json."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.lib.core import outs
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.csv_lines import csv_line, write_lines
from stages.lib.ingest.groups import Grouping
from stages.lib.ingest.pieces import Filled
from stages.lib.ingest.raw_files import Scan
from stages.lib.ingest.readers.contract import OTHER, Case, Refusal

# Attributes that readers give, as far as they are columns of cases.csv. None of them names anybody.
ATTRIBUTES = (
    *("modality", "sop_class", "manufacturer", "body_part", "image_type", "kvp", "slice_thickness", "view"),
    *("laterality", "intent", "bits_stored"),
    *("orientation", "affine", "resampled", "phase"),
)
BLOCK_CASES = 4096  # how many are turned into text at once
COLUMNS = (
    *("case", "group", "label", "channels", "depth", "height", "width", "dtype", "units"),
    *("spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "copy_of", *ATTRIBUTES),
)
FILE_COLUMNS = ("case", "path")
PLAIN = re.compile(r"[a-zA-Z_/][\w./ -]*", re.ASCII)  # what stands in CSV as it is: most paths


def publish(
    filled: Filled,
    cases_folder: Path,
    cases_csv: Path,
    ingest_json: Path,
    labels: Sequence[str],
    grouping: Grouping,
    splits: Sequence[str],
    refused: Sequence[Refusal],
    found: Scan,
    columns: Mapping[str, Sequence[str]],
    more: Mapping[str, Mapping[str, object]],
) -> dict[str, object]:
    """Puts the outs into their places; an earlier run's are removed first, so that old and new are never mixed.

    Args:
        splits: (N,) of each case where the raw data give one: then cases.csv has a column `split`.
        columns: (N,) of each case, by name: further columns of cases.csv.
        more: For ingest.json, by key; what is empty is left out.

    Returns:
        What ingest.json holds.
    """
    for out in (cases_csv, ingest_json):
        out.unlink(missing_ok=True)
    with outs.replacing(cases_folder) as partial:
        partial.mkdir()
        for name, path in filled.pieces.items():
            _link(path, partial / name)
    write_lines(cases_csv, _lines(filled.cases, labels, grouping, splits, columns))
    counts = summary(filled.cases, labels, grouping, refused, found)
    counts |= {key: found for key, found in more.items() if found}
    outs.write_json(ingest_json, counts)
    return counts


def write_files(files_csv: Path, cases: CaseTable) -> None:
    """Lists the files of every case, a row each; it names files, and so stays on this machine."""
    write_lines(files_csv, _file_lines(cases), 0o600)


def _file_lines(cases: CaseTable) -> Iterator[str]:
    yield csv_line(FILE_COLUMNS) + "\n"
    for i, (case, path) in enumerate(zip(_numbers(cases.ids), cases.paths, strict=True)):
        for name in [path] if path else cases.template(i).case.names:
            yield f"{case:016x},{name if PLAIN.fullmatch(name) else csv_line([name])}\n"


def _link(finished: Path, place: Path) -> None:
    """One file under two names where the file system can: the store takes no room of its own.

    The file is read-only, as those of dvc's cache are, which links outs in the same way (its `cache.type: hardlink`).
    With its default, `reflink,copy`, dvc replaces the link by a copy that may be edited.
    """
    try:
        os.link(finished, place)
    except OSError:
        shutil.copyfile(finished, place)


def _lines(
    cases: CaseTable,
    labels: Sequence[str],
    grouping: Grouping,
    splits: Sequence[str],
    further: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """cases.csv; what many cases have in common is turned into text once."""
    yield csv_line([*COLUMNS, *(["split"] if splits else []), *further]) + "\n"
    texts = [(csv_line(_described(t.case)), csv_line(_attributes(t.case))) for t in cases.templates]
    label_texts = {label: csv_line([label]) for label in set(labels)}
    columns = (_numbers(column) for column in (cases.ids, cases.which, grouping.groups))
    for i, (label, case, which, group) in enumerate(zip(labels, *columns, strict=True)):
        described, attributes = texts[which]
        copy = f"{cases.ids[grouping.copies[i]]:016x}" if i in grouping.copies else ""
        split = f",{splits[i]}" if splits else ""
        own = f",{csv_line([cells[i] for cells in further.values()])}" if further else ""
        yield f"{case:016x},{group:016x},{label_texts[label]},{described},{copy},{attributes}{split}{own}\n"


def _numbers(column: np.ndarray) -> Iterator[int]:
    """A column as Python's integers, which are quick to format; not all at once, as they take more memory."""
    return (number for at in range(0, len(column), BLOCK_CASES) for number in column[at : at + BLOCK_CASES].tolist())


def _described(case: Case) -> list[object]:
    channels, *size = case.shape
    depth, height, width = size if len(size) == 3 else ["", *size]
    return [channels, depth, height, width, case.dtype, case.units, *_steps(case.spacing_mm)]


def _steps(spacing_mm: tuple[float, ...] | None) -> list[str]:
    """Spacing along D, H, W; nothing where there is none."""
    steps = [f"{step:.6g}" for step in spacing_mm or ()]
    return [""] * (3 - len(steps)) + steps


def _attributes(case: Case) -> list[str]:
    given = dict(case.attributes)
    return [given.get(name, "") for name in ATTRIBUTES]


def summary(
    cases: CaseTable, labels: Sequence[str], grouping: Grouping, refused: Sequence[Refusal], found: Scan
) -> dict[str, object]:
    """The counts of ingest.json; files = in cases + rejected + ignored + set aside."""
    rejected = [refusal for refusal in refused if not refusal.ignored]
    ignored = Counter({"litter": len(found.litter)} if found.litter else {})
    set_aside: Counter[str] = Counter()
    for refusal in refused:
        if refusal.ignored:
            (ignored if refusal.outcome == "ignored" else set_aside)[refusal.reason] += len(refusal.paths)
    noted: Counter[str] = Counter()
    numbers = np.bincount(cases.which, minlength=len(cases.templates)).tolist()
    for template, number in zip(cases.templates, numbers, strict=True):
        noted.update(dict.fromkeys(template.case.noted, number))
    of_whole_cases = {file.path for t in cases.templates if t.is_whole for file in t.case.files}
    # One page of a file may be rejected, and others be cases.
    rejected_files = len({path for refusal in rejected for path in refusal.paths} - of_whole_cases)
    used = len(of_whole_cases) + sum(path != "" for path in cases.paths)
    return {
        "cases": len(cases),
        "groups": len(np.unique(grouping.groups)),
        "classes": dict(sorted(Counter(labels).items())),
        "files": {
            "total": used + rejected_files + ignored.total() + set_aside.total(),
            "in_cases": used,
            "rejected": rejected_files,
            "ignored": ignored.total(),
            "set_aside": set_aside.total(),
        },
        "rejected": dict(sorted(Counter(refusal.reason for refusal in rejected).items())),
        "ignored": dict(sorted(ignored.items())),
        "set_aside": dict(sorted(set_aside.items())),
        "duplicates": len(grouping.copies),
        "other": _unknown_terms(cases, numbers),
        "exif_rotated": noted["exif_rotated"],
        "metadata_damaged": noted["metadata_damaged"],
        "burned_in": noted["burned_in"],
        "resampled": noted["resampled"],
        "affines_differ": noted["affines_differ"],
        **({"spacing_unknown": noted["spacing_unknown"]} if noted["spacing_unknown"] else {}),  # of stacks
        "megapixels": int(cases.shapes()[:, 1:].prod(axis=1).sum()) / 1e6,
    }


def _unknown_terms(cases: CaseTable, numbers: Sequence[int]) -> dict[str, int]:
    """By column of cases.csv: of how many cases a header's text was no known word, and became "other"."""
    unknown: Counter[str] = Counter()
    for template, number in zip(cases.templates, numbers, strict=True):
        unknown.update({name: number for name, value in template.case.attributes if OTHER in value.split("\\")})
    return {name: unknown[name] for name in ATTRIBUTES if name in unknown}
