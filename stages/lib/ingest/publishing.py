"""The outs that people read: cases.csv, rejected.csv and ingest.json."""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stages.lib.core import outs
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.decoding import Filled
from stages.lib.ingest.groups import Grouping
from stages.lib.ingest.raw_files import Scan
from stages.lib.ingest.readers.contract import Case, Refusal

# What is told of a case; a reader's further attributes are columns as well. Nothing of it names anybody.
ATTRIBUTES = ("modality", "manufacturer", "body_part", "image_type", "kvp", "orientation", "affine")
BLOCK = 4096  # cases
COLUMNS = (
    *("case", "group", "label", "channels", "depth", "height", "width", "dtype", "units"),
    *("spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "copy_of", *ATTRIBUTES),
)


def publish(
    filled: Filled,
    cases_folder: Path,
    cases_csv: Path,
    ingest_json: Path,
    labels: Sequence[str],
    grouping: Grouping,
    refused: Sequence[Refusal],
    found: Scan,
) -> None:
    """Puts the outs into their places; those of an earlier run go first, so that old and new are never mixed."""
    for out in (cases_csv, ingest_json):
        out.unlink(missing_ok=True)
    with outs.replacing(cases_folder) as partial:
        partial.mkdir()
        for name, path in filled.pieces.items():
            _link(path, partial / name)
    _write_lines(cases_csv, _lines(filled.cases, labels, grouping))
    outs.write_json(ingest_json, summary(filled.cases, labels, grouping, refused, found))


def _link(finished: Path, place: Path) -> None:
    """One file under two names where the file system can: the store takes no room of its own."""
    try:
        os.link(finished, place)
    except OSError:
        shutil.copyfile(finished, place)


def _lines(cases: CaseTable, labels: Sequence[str], grouping: Grouping) -> Iterator[str]:
    """cases.csv; what many cases share is put into words once."""
    yield _csv(COLUMNS) + "\n"
    kinds = [(_csv(_described(case)), _csv(_told(case.attributes))) for _, case in cases.kinds]
    spelt = {label: _csv([label]) for label in set(labels)}
    columns = (_numbers(column) for column in (cases.ids, cases.which, grouping.groups))
    for i, (label, number, kind, group) in enumerate(zip(labels, *columns, strict=True)):
        described, told = kinds[kind]
        copy = f"{cases.ids[grouping.copies[i]]:016x}" if i in grouping.copies else ""
        yield f"{number:016x},{group:016x},{spelt[label]},{described},{copy},{told}\n"


def _numbers(column: np.ndarray) -> Iterator[int]:
    """Python's own, which are quick to spell, but not all at once."""
    return (number for at in range(0, len(column), BLOCK) for number in column[at : at + BLOCK].tolist())


def _csv(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _described(case: Case) -> list[object]:
    channels, *size = case.shape
    depth, height, width = size if len(size) == 3 else ["", *size]
    return [channels, depth, height, width, case.dtype, case.units, *_steps(case.spacing_mm)]


def _steps(spacing_mm: tuple[float, ...] | None) -> list[str]:
    """Spacing along D, H, W; nothing where there is none."""
    steps = [f"{step:.6g}" for step in spacing_mm or ()]
    return [""] * (3 - len(steps)) + steps


def _told(attributes: tuple[tuple[str, str], ...]) -> list[str]:
    told = dict(attributes)
    return [told.get(name, "") for name in ATTRIBUTES]


def write_rejected(rejected_csv: Path, refused: Sequence[Refusal], litter: Sequence[str]) -> None:
    """Lists every file that is in no case, with the reason; it names files, and so stays on this machine."""
    lines = [
        (path, "ignored" if refusal.ignored else "rejected", refusal.reason, refusal.detail)
        for refusal in refused
        for path in refusal.paths
    ]
    lines += [(path, "ignored", "litter", "hidden, or left by a system") for path in litter]
    _write_lines(
        rejected_csv, (_csv(line) + "\n" for line in (("path", "outcome", "reason", "detail"), *sorted(lines)))
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """As outs.write_csv, a line at a time: a million cases take no more memory than one."""
    with outs.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8", errors="replace") as file:
        file.writelines(lines)


def summary(
    cases: CaseTable, labels: Sequence[str], grouping: Grouping, refused: Sequence[Refusal], found: Scan
) -> dict[str, object]:
    """The counts of ingest.json; files = in cases + rejected + ignored."""
    rejected = [refusal for refusal in refused if not refusal.ignored]
    ignored = Counter({"litter": len(found.litter)} if found.litter else {})
    for refusal in refused:
        if refusal.ignored:
            ignored[refusal.reason] += len(refusal.paths)
    noted: Counter[str] = Counter()
    for (_, case), number in zip(cases.kinds, np.bincount(cases.which, minlength=len(cases.kinds)), strict=True):
        noted.update(dict.fromkeys(case.noted, int(number)))
    rejected_files = sum(len(refusal.paths) for refusal in rejected)
    whole = {file.path for _, case in cases.kinds if case.case for file in case.files}
    used = len(whole) + sum(path != "" for path in cases.paths)
    return {
        "cases": len(cases),
        "groups": len(np.unique(grouping.groups)),
        "classes": dict(sorted(Counter(labels).items())),
        "files": {
            "total": used + rejected_files + sum(ignored.values()),
            "in_cases": used,
            "rejected": rejected_files,
            "ignored": sum(ignored.values()),
        },
        "rejected": dict(sorted(Counter(refusal.reason for refusal in rejected).items())),
        "ignored": dict(sorted(ignored.items())),
        "duplicates": len(grouping.copies),
        "exif_rotated": noted["exif_rotated"],
        "burned_in": noted["burned_in"],
        "megapixels": int(cases.shapes()[:, 1:].prod(axis=1).sum()) / 1e6,
    }
