"""The outs that people read: cases.csv, rejected.csv and ingest.json."""

import csv
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from stages.lib import outs
from stages.lib.groups import Grouping
from stages.lib.labels import Row
from stages.lib.raw_files import Scan
from stages.lib.readers.contract import Case, Refusal
from stages.lib.store import Store

# What is told of a case; a reader's further attributes are columns as well. Nothing of it names anybody.
ATTRIBUTES = ("modality", "manufacturer", "body_part", "image_type", "kvp", "orientation", "affine")
COLUMNS = (
    *("case", "group", "label", "channels", "depth", "height", "width", "dtype", "units"),
    *("spacing_z_mm", "spacing_y_mm", "spacing_x_mm", "copy_of", *ATTRIBUTES),
)


def publish(
    store: Store,
    cases_h5: Path,
    cases_csv: Path,
    ingest_json: Path,
    cases: Sequence[Case],
    rows: Sequence[Row],
    grouping: Grouping,
    refused: Sequence[Refusal],
    found: Scan,
) -> None:
    """Puts the outs into their places; those of an earlier run go first, so that old and new are never mixed."""
    for out in (cases_h5, cases_csv, ingest_json):
        out.unlink(missing_ok=True)
    labels = [row.label for row in rows]
    with outs.replacing(cases_h5) as partial:
        _link(store.finished_h5, partial)
    _write_table(cases_csv, COLUMNS, _lines(cases, labels, grouping))
    outs.write_json(ingest_json, summary(cases, labels, grouping, refused, found))


def _link(finished: Path, place: Path) -> None:
    """One file under two names where the file system can: the store takes no room of its own."""
    try:
        os.link(finished, place)
    except OSError:
        shutil.copyfile(finished, place)


def _lines(cases: Sequence[Case], labels: Sequence[str], grouping: Grouping) -> Iterator[list[object]]:
    for case, label, group, copy in zip(cases, labels, grouping.groups, grouping.copies, strict=True):
        channels, *size = case.shape
        depth, height, width = size if len(size) == 3 else ["", *size]
        yield [case.case, group, label, channels, depth, height, width, case.dtype, case.units,
               *_steps(case.spacing_mm), copy, *_told(case.attributes)]  # fmt: skip


@lru_cache
def _steps(spacing_mm: tuple[float, ...] | None) -> list[str]:
    """Spacing along D, H, W; nothing where there is none."""
    steps = [f"{step:.6g}" for step in spacing_mm or ()]
    return [""] * (3 - len(steps)) + steps


@lru_cache
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
    _write_table(rejected_csv, ("path", "outcome", "reason", "detail"), sorted(lines))


def _write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """As outs.write_csv, a line at a time: a million cases take no more memory than one."""
    with outs.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


def summary(
    cases: Sequence[Case], labels: Sequence[str], grouping: Grouping, refused: Sequence[Refusal], found: Scan
) -> dict[str, object]:
    """The counts of ingest.json; files = in cases + rejected + ignored."""
    rejected = [refusal for refusal in refused if not refusal.ignored]
    ignored = Counter({"litter": len(found.litter)} if found.litter else {})
    for refusal in refused:
        if refusal.ignored:
            ignored[refusal.reason] += len(refusal.paths)
    noted = Counter(note for case in cases for note in case.noted)
    rejected_files = sum(len(refusal.paths) for refusal in rejected)
    used = len({file.path for case in cases for file in case.files})
    return {
        "cases": len(cases),
        "groups": len(set(grouping.groups)),
        "classes": dict(sorted(Counter(labels).items())),
        "files": {
            "total": used + rejected_files + sum(ignored.values()),
            "in_cases": used,
            "rejected": rejected_files,
            "ignored": sum(ignored.values()),
        },
        "rejected": dict(sorted(Counter(refusal.reason for refusal in rejected).items())),
        "ignored": dict(sorted(ignored.items())),
        "duplicates": grouping.duplicates,
        "exif_rotated": noted["exif_rotated"],
        "burned_in": noted["burned_in"],
        "megapixels": sum(math.prod(case.shape[1:]) for case in cases) / 1e6,
    }
