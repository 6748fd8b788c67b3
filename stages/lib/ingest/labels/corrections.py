"""corrections.csv, beside labels.csv: labels that somebody has looked at and found wrong, and cases to leave out.

    path,label,excluded,note
    left/0001.png,sound,,a scratch on the lens
    left/0002.png,,yes,out of focus

`path` is any file of the case. An empty label stays as it is. The raw data keep the label that was there, and
ingest.json counts what was changed. tools.browse writes such rows, too.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.core.formulas import bare
from stages.lib.core.nearest import closest, hint
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from stages.lib.ingest.archives.members import NONE, Members
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.csv_lines import csv_line
from stages.lib.ingest.labels import class_names, targets
from stages.lib.ingest.labels.table import Row, delimiter_of
from stages.lib.ingest.raw_files import CORRECTIONS_CSV
from stages.lib.ingest.readers.contract import Refusal
from stages.lib.params.ingest import TargetParams
from stages.lib.targets import Target

COLUMNS = ("path", "label", "excluded", "note")
CLASS = TargetParams()
NEARLY = 0.9  # as `nearest.closest` has it
YES = {"": False, "no": False, "yes": True}


class Correction(NamedTuple):
    """A row."""

    path: str  # below data/raw/<dataset>
    label: str  # "": as it is
    excluded: bool
    note: str = ""
    number: int = 0  # of the row, counted as an editor counts lines


class Corrected(NamedTuple):
    """The cases that are left, with their labels, and what was changed."""

    cases: CaseTable
    rows: list[Row]
    excluded: list[Refusal]
    counts: dict[str, object]  # for ingest.json; empty without a corrections.csv


def read(raw: Path, members: Members = NONE) -> list[Correction]:
    """The rows of corrections.csv; none where there is no such file.

    Args:
        members: Of archives: it may be one of them.

    Raises:
        UserError: A row is not as it must be; the message names it.
    """
    table = raw / CORRECTIONS_CSV
    if CORRECTIONS_CSV not in members and not table.exists():
        _check_name(raw)
        return []
    text = members.read_text(CORRECTIONS_CSV, table)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text.partition("\n")[0]), strict=True)
    found: list[Correction] = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if sorted(set(header)) != sorted(header) or "path" not in header or not set(header) <= set(COLUMNS):
            raise UserError(f"{table} has the columns {shown(', '.join(header))}: expected {', '.join(COLUMNS)}")
        for values in reader:
            where = f"{table}, row {reader.line_num}"
            if not any(values):
                continue
            if len(values) != len(header):
                raise UserError(f"{where}: expected as many values as the header has columns")
            row = dict.fromkeys(COLUMNS, "") | {k: v.strip() for k, v in zip(header, values, strict=True)}
            if (excluded := YES.get(row["excluded"].lower())) is None:
                raise UserError(f"{where}: excluded is '{shown(row['excluded'])}', expected yes or nothing")
            row = {name: bare(cell) for name, cell in row.items()}
            if not row["path"]:
                raise UserError(f"{where}: path is empty")
            label = class_names.spelling(row["label"])
            found.append(Correction(row["path"], label, excluded, row["note"], reader.line_num))
    except csv.Error as error:
        raise UserError(f"{table}, row {reader.line_num}: {error}: mend or remove it") from None
    return found


def _check_name(raw: Path) -> None:
    """Raises:
    UserError: There is a table that is called nearly as corrections.csv should, and that nobody would read.
    """
    for name in sorted(os.listdir(raw)) if raw.is_dir() else ():
        if name.lower().endswith((".csv", ".tsv", ".txt", ".xlsx")) and closest(
            name.lower().rpartition(".")[0], ["corrections"], NEARLY
        ):
            raise UserError(
                f"{raw / shown(name)} is not read: call it {CORRECTIONS_CSV} (text with commas), or remove it"
            )


def write(raw: Path, corrections: Sequence[Correction]) -> None:
    """Writes corrections.csv anew, in place of one that is there; without a row, there is none.

    Raises:
        UserError: A path is no UTF-8, as `read` expects it.
    """
    if not corrections:
        (raw / CORRECTIONS_CSV).unlink(missing_ok=True)
        return
    rows = [COLUMNS, *((one.path, one.label, "yes" if one.excluded else "", one.note) for one in corrections)]
    try:
        content = "".join(f"{csv_line(row)}\n" for row in rows).encode()
    except UnicodeEncodeError:
        raise UserError(f"{raw / CORRECTIONS_CSV} takes no path that is not UTF-8: rename the file") from None
    outs.write_bytes(raw / CORRECTIONS_CSV, content)


def apply(
    raw: Path,
    corrections: Sequence[Correction],
    cases: CaseTable,
    rows: list[Row],
    refused: Sequence[Refusal],
    target: Target | None = None,
    params: TargetParams = CLASS,
) -> Corrected:
    """Gives cases their corrected labels, and leaves out those that are excluded. Says how many.

    Args:
        rows: The label of each case.
        refused: Files that are in no case: a correction of one of them changes nothing, and is counted.

    Raises:
        UserError: A path is no file of any case, two rows are about one case, or a label is no class.
    """
    if not corrections:
        return Corrected(cases, rows, [], {})
    table, rows = raw / CORRECTIONS_CSV, list(rows)
    place = _places(cases, {one.path for one in corrections})
    unread = {path for refusal in refused for path in refusal.paths}
    classes = sorted({row.label for row in rows})
    changed: Counter[str] = Counter()
    left_out: set[int] = set()
    seen: dict[int, Correction] = {}
    without_case = 0
    for one in corrections:
        where = f"{table}, row {one.number}"
        if one.path not in place:
            if one.path not in unread:
                way_out = hint(one.path, place) or f"paths are below {raw}, as files.csv and tools.which name them"
                raise UserError(f"{where}: path '{shown(one.path)}' is no file of a case: {way_out}")
            without_case += 1
            continue
        for i in place[one.path]:
            if i in seen:
                raise UserError(f"{where}: row {seen[i].number} is about the same case: leave one of them")
            seen[i] = one
            if one.excluded:
                left_out.add(i)
            elif one.label:
                if target is None and one.label not in classes:
                    raise UserError(f"{where}: '{shown(one.label)}' is no class: {hint(one.label, classes)}")
                try:
                    row = targets.relabelled(rows[i], one.label, target, params)
                except UserError as error:
                    raise UserError(f"{where}: {error}") from None
                if row != rows[i]:
                    # Numbers are counted together: each may be another one.
                    changed[target.name if target and target.of_number else f"{rows[i].label} -> {row.label}"] += 1
                rows[i] = row
    kept = np.array([i for i in range(len(rows)) if i not in left_out], np.int64)
    files = {_files(cases, i) for i in left_out}  # the pages of a file are several cases
    excluded = [Refusal(paths, "excluded", f"by {CORRECTIONS_CSV}", ignored=True) for paths in sorted(files)]
    counts: dict[str, object] = {
        "relabelled": dict(sorted(changed.items())), "excluded": len(left_out), "without_case": without_case
    }  # fmt: skip
    said = f"{table}: labels changed: {sum(changed.values())}, cases left out: {len(left_out)}"
    say(said + (f", rows about files that make no case: {without_case}" if without_case else ""))
    return Corrected(cases.select(kept) if left_out else cases, [rows[i] for i in kept], excluded, counts)


def _places(cases: CaseTable, wanted: set[str]) -> dict[str, list[int]]:
    """The cases of the files that are asked for: one file may hold several, as pages."""
    found: dict[str, list[int]] = {}
    for i, path in enumerate(cases.paths):
        for name in (path,) if path else _files(cases, i):
            if name in wanted:
                found.setdefault(name, []).append(i)
    return found


def _files(cases: CaseTable, i: int) -> tuple[str, ...]:
    return (cases.paths[i],) if cases.paths[i] else cases.template(i).case.names
