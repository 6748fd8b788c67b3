"""Which label each case has."""

from collections.abc import Sequence

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.labels import own_columns, targets
from stages.lib.ingest.labels.table import Labels, Row
from stages.lib.ingest.readers.contract import Case, Refusal

NAMED = 5  # how many examples a message gives
MOST_ALONE = 2  # classes of one group each, which may be a first try


def label_cases(cases: CaseTable, labels: Labels, refused: Sequence[Refusal]) -> list[Row]:
    """The row of each case. Rows about series that make no case are told.

    Args:
        refused: The files that are in no case.

    Raises:
        UserError: A case has no label, or its files have several, or labels.csv names a series that nobody knows.
    """
    rows: list[Row | None] = []
    for i, path in enumerate(cases.paths):
        case = cases.template(i).case
        if path or len(case.files) == 1:
            rows.append(labels.of(path or case.names[0], case.series))
        else:
            rows.append(_row_of_several_files(case, labels))
    if without := sorted(cases.path(i) for i, row in enumerate(rows) if row is None):
        raise UserError(
            f"{labels.source}: {len(without)} case(s) without a label: {_some(without)}: add or remove them"
        )
    _check_series(cases, labels, refused)
    return [row for row in rows if row]


def _some(texts: Sequence[str]) -> str:
    """The first few of them, and how many there are beside these."""
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def _row_of_several_files(case: Case, labels: Labels) -> Row | None:
    found = {
        (row.label, row.answers, row.split, row.columns): row
        for file in case.files
        if (row := labels.of(file.path, case.series)) is not None
    }
    if len(found) > 1:
        one, other = sorted(found.values(), key=lambda row: row.number)[:2]
        if (targets.said(one), one.split) == (targets.said(other), other.split):
            raise _columns_differ(f"the case of {case.files[0].path} has", one, other, labels)
        what = "labels" if targets.said(one) != targets.said(other) else "splits"
        values = [targets.said(row) if what == "labels" else row.split for row in (one, other)]
        detail = f"'{values[0]}' from {one.name} and '{values[1]}' from {other.name}"
        raise UserError(f"the case of {case.files[0].path} has two {what}: {detail}: leave one of them")
    return next(iter(found.values()), None)


def _columns_differ(what: str, one: Row, other: Row, labels: Labels) -> UserError:
    """The error of two rows that must agree; their cells, which may name somebody, are not quoted."""
    column = labels.columns[own_columns.differing(one.columns, other.columns)]
    rows = " and ".join(f"row {row.number} ({row.name})" for row in (one, other))
    return UserError(
        f"{what} two values of the column {column}, in {rows} of {labels.source}: make them agree, or take {column} "
        "out of ingest.columns"
    )


def check_copies(refused: Sequence[Refusal], labels: Labels) -> None:
    """Checks that a file which is left out as a copy has the label, split and columns of the one that is taken.

    Raises:
        UserError: It has others.
    """
    for path, of in ((refusal.paths[0], refusal.copy_of) for refusal in refused if refusal.copy_of):
        _check_copy(path, of, labels.of(path, None), labels.of(of, None), labels)


def check_conversions(refused: Sequence[Refusal], cases: CaseTable, rows: Sequence[Row], labels: Labels) -> None:
    """Likewise of cases that turned out to be other cases in another form.

    Args:
        cases, rows: All cases, and their labels.
    """
    copies = [refusal for refusal in refused if refusal.copy_of]
    by_path = {cases.path(i): row for i, row in enumerate(rows)} if copies else {}
    for refusal in copies:
        path, of = refusal.paths[0], refusal.copy_of
        _check_copy(path, of, by_path[path], by_path[of], labels)


def _check_copy(path: str, of: str, copied: Row | None, taken: Row | None, labels: Labels) -> None:
    for what in ("label", "split"):
        said = targets.said if what == "label" else (lambda row: row.split)
        one, other = (said(row) if row else "" for row in (copied, taken))
        if one and other and one != other:
            raise UserError(
                f"{path} is a copy of {of}, but its {what} is '{one}', not '{other}': leave one of them out"
            )
    if copied and taken and copied.columns != taken.columns:
        raise _columns_differ(f"{path} is a copy of {of}, but they have", copied, taken, labels)


def _check_series(cases: CaseTable, labels: Labels, refused: Sequence[Refusal]) -> None:
    """Raises:
    UserError: A row is about a series of which there is neither a case nor a file that was refused.
    """
    read = {template.case.series for template in cases.templates}
    known = {refusal.series for refusal in refused}
    with_case = {row.number for series, row in labels.by_series.items() if series in read}
    lost: dict[int, Row] = {}
    for series, row in labels.by_series.items():
        if row.number in with_case:
            continue
        if series not in known:
            raise labels.not_read(row, f"no series '{row.name}'")
        lost[row.number] = row
    if lost:
        rows = [f"row {row.number} ({row.name})" for row in lost.values()]
        say(f"{labels.source}: no case came of {_some(rows)}: rejected.csv says why")


def remarks(labels: Labels, classes: Sequence[str], groups: np.ndarray) -> list[str]:
    """What labels and groups look as if they were not meant.

    Args:
        classes, groups: (N,) of each case.
    """
    found = []
    different = len(np.unique(groups))
    if len(groups) > 1 and different == 1:
        found.append(
            f"all {len(groups)} cases are of one group (patient), which can't be split: deidentified files often name "
            "one patient for all; labels.csv's column group, or ingest.group, says whose each file is"
        )
    names = set(classes)
    alone = MOST_ALONE < len(names) >= different and len(set(zip(classes, groups.tolist(), strict=True))) == len(names)
    if alone and not labels.listed:
        found.append(
            f"each of the {len(names)} class folders, as {min(names)}, is of one group (patient): if folders are "
            "patients or studies, not classes, write a labels.csv with the columns path (or study, series) and label"
        )
    return found


def check_classes(rows: Sequence[Row], labels: Labels, rejected_csv: str) -> None:
    """Raises:
    UserError: A class that was labelled is left without a case.
    """
    wanted = {row.label for row in (*labels.by_path.values(), *labels.by_series.values())}
    if lost := sorted(wanted - {row.label for row in rows}):
        raise UserError(
            f"no case of class '{lost[0]}' could be read: {rejected_csv} says why, file by file; mend them, or leave "
            "out what is no class (ingest.exclude)"
        )
