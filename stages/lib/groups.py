"""What belongs together and must not be split: a patient's cases, a labels file's groups, and equal pixels."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from stages.lib.errors import UserError
from stages.lib.labels import Row
from stages.lib.readers.contract import Case, Options

NAMED = 5  # how many examples a message gives


@dataclass(frozen=True)
class Grouping:
    groups: list[str]  # of each case
    copies: list[str]  # of each case: the first case with the same pixels, "" where that is itself
    duplicates: int  # cases with the pixels of another


def name_groups(cases: Sequence[Case], rows: Sequence[Row], options: Options) -> list[str]:
    """Each case's group: ingest.group's match, else the labels' group, else the patient, else its own.

    Raises:
        UserError: The expression matches no part of a path, or there is a group column as well.
    """
    pattern = options.params.group
    if pattern is None:
        return [
            options.identify("group", row.group) if row.group else case.patient or case.case
            for case, row in zip(cases, rows, strict=True)
        ]
    if any(row.group for row in rows):
        raise UserError("labels.csv has a column group, and ingest.group is set: remove one of the two")
    groups = []
    for case in cases:
        match = re.search(pattern, case.files[0].path)
        if not match or not match[1]:
            raise UserError(f"ingest.group {pattern!r} finds no group in the path '{case.files[0].path}'")
        groups.append(options.identify("group", match[1]))
    return groups


def join_duplicates(
    cases: Sequence[Case], labels: Sequence[str], groups: Sequence[str], digests: Sequence[bytes]
) -> Grouping:
    """Joins the groups of cases with equal pixels.

    Raises:
        UserError: Equal pixels have different labels; the message lists the files.
    """
    same: dict[tuple[bytes, str, tuple[int, ...]], list[int]] = defaultdict(list)
    for i, (case, digest) in enumerate(zip(cases, digests, strict=True)):
        same[digest, case.dtype, case.shape].append(i)
    repeated = [members for members in same.values() if len(members) > 1]
    _check_labels(cases, labels, repeated)
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while (above := parent.get(group, group)) != group:
            parent[group] = group = parent.get(above, above)
        return group

    copies = [""] * len(cases)
    for members in repeated:
        for i in members[1:]:
            copies[i] = cases[members[0]].case
            low, high = sorted((root(groups[members[0]]), root(groups[i])))
            parent[high] = low
    return Grouping([root(group) for group in groups], copies, sum(len(m) - 1 for m in repeated))


def _check_labels(cases: Sequence[Case], labels: Sequence[str], repeated: list[list[int]]) -> None:
    wrong = []
    for members in repeated:
        other = next((i for i in members if labels[i] != labels[members[0]]), None)
        if other is not None:
            pair = (members[0], other)
            wrong.append(" and ".join(f"{cases[i].files[0].path} ({labels[i]})" for i in pair))
    if wrong:
        more = f"\n  ... and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        listed = "\n  ".join(sorted(wrong)[:NAMED])
        raise UserError(f"the same pixels have different labels: mend the labels or remove the files\n  {listed}{more}")
