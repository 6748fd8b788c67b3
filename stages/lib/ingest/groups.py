"""What must stay on one side of the split: a patient's cases, a group of labels.csv, and cases with equal pixels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.ingest.case_table import CaseTable, repeated
from stages.lib.ingest.labels.table import Row
from stages.lib.ingest.readers.contract import Options

NAMED = 5  # how many examples a message gives


@dataclass(frozen=True)
class Grouping:
    """Which group each case is in, and which cases are copies of others."""

    groups: np.ndarray  # (N,) uint64: of each case
    copies: dict[int, int]  # by case: the first case with the same pixels, where that is not itself


def name_groups(cases: CaseTable, rows: Sequence[Row], options: Options) -> np.ndarray:
    """Each case's group, (N,) uint64: what ingest.group matches, else the group of labels.csv, else the patient, else
    the case itself.

    Raises:
        UserError: The expression matches no part of a path, or there is a group column as well.
    """
    pattern = options.params.group
    named = any(row.group for row in rows)
    if pattern is not None and named:
        raise UserError("labels.csv has a column group, and ingest.group is set: remove one of the two")
    patients = [int(t.case.patient, 16) if t.case.patient else 0 for t in cases.templates]
    groups = np.array(patients, np.uint64)[cases.which]
    groups = np.where(groups == 0, cases.ids, groups)
    if pattern is not None:
        names = [_matched(pattern, cases.path(i)) for i in range(len(cases))]
    else:
        names = [row.group or "" for row in rows] if named else []
    for i, name in enumerate(names):
        if name:
            groups[i] = int(options.identify("group", name), 16)
    return groups


def _matched(pattern: str, path: str) -> str:
    match = re.search(pattern, path)
    if not match or not match[1]:
        raise UserError(f"ingest.group {pattern!r} finds no group in the path '{path}'")
    return match[1]


def join_duplicates(cases: CaseTable, labels: Sequence[str], groups: np.ndarray, digests: np.ndarray) -> Grouping:
    """Joins the groups of cases with equal pixels.

    Args:
        digests: (N,) of 16 bytes: of the pixels.

    Raises:
        UserError: Equal pixels have different labels; the message lists the files.
    """
    alike = repeated(cases, digests)
    _check_labels(cases, labels, alike)
    parent: dict[int, int] = {}

    def root(group: int) -> int:
        while (above := parent.get(group, group)) != group:
            parent[group] = group = parent.get(above, above)
        return group

    copies = {}
    for members in alike:
        for i in members[1:]:
            copies[i] = members[0]
            low, high = sorted((root(int(groups[members[0]])), root(int(groups[i]))))
            parent[high] = low
    joined = np.isin(groups, np.array(list(parent), np.uint64))
    groups = groups.copy()
    groups[joined] = [root(int(group)) for group in groups[joined]]
    return Grouping(groups, copies)


def _check_labels(cases: CaseTable, labels: Sequence[str], alike: list[list[int]]) -> None:
    wrong = []
    for members in alike:
        other = next((i for i in members if labels[i] != labels[members[0]]), None)
        if other is not None:
            pair = (members[0], other)
            wrong.append(" and ".join(f"{cases.path(i)} ({labels[i]})" for i in pair))
    if wrong:
        more = f"\n  ... and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        listed = "\n  ".join(sorted(wrong)[:NAMED])
        raise UserError(f"the same pixels have different labels: mend the labels or remove the files\n  {listed}{more}")
