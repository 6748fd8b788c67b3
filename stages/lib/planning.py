"""From inspected files to the cases of one data set: of one kind, one colour mode, each with a label, in order."""

from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from stages.lib import readers
from stages.lib.errors import UserError
from stages.lib.inspection import Inspection
from stages.lib.labels import Labels, Row
from stages.lib.readers.colour import channels_of
from stages.lib.readers.contract import Case, Options, Refusal

NAMED = 5  # how many examples a message gives


class Plan(NamedTuple):
    cases: list[tuple[str, Case]]  # reader's name and case, by identifier
    refused: list[Refusal]


def plan(inspection: Inspection, options: Options) -> Plan:
    """All cases that the files make.

    Raises:
        UserError: There is none, or a decoder is missing.
    """
    cases: list[tuple[str, Case]] = []
    refused = list(inspection.refused)
    for name in sorted(inspection.accepted):
        assembly = readers.reader(name).assemble(inspection.accepted[name], inspection.refused, options)
        cases += [(name, case) for case in assembly.cases]
        refused += assembly.refused
    cases, others = _of_one_kind(cases, options)
    refused += others
    channels = channels_of(options.params.colour, any(case.shape[0] == 3 for _, case in cases))
    cases = [(name, _with_channels(case, channels)) for name, case in cases]
    cases.sort(key=lambda entry: entry[1].case)
    for (_, one), (_, other) in zip(cases, cases[1:], strict=False):
        assert one.case != other.case, f"two cases are called {one.case}: {one.files[0].path}, {other.files[0].path}"
    return Plan(cases, refused)


def _with_channels(case: Case, channels: int) -> Case:
    if len(case.shape) == 4:
        return case
    return case._replace(shape=_shape(channels, *case.shape[1:]))


@lru_cache
def _shape(*sizes: int) -> tuple[int, ...]:
    """One tuple for the same sizes, not one a picture."""
    return sizes


def _of_one_kind(cases: list[tuple[str, Case]], options: Options) -> tuple[list[tuple[str, Case]], list[Refusal]]:
    kind = options.params.kind
    volumes = sum(len(case.shape) == 4 for _, case in cases)
    if kind == "auto":
        kind = "volumes" if volumes * 2 > len(cases) else "images"
    if volumes in (0, len(cases)) and (volumes > 0) == (kind == "volumes"):
        return cases, []
    axes, reason = (4, "picture_among_volumes") if kind == "volumes" else (3, "volume_among_pictures")
    kept = [(name, case) for name, case in cases if len(case.shape) == axes]
    detail = f"the data set is one of {kind}; ingest.kind can be set"
    others = [case for _, case in cases if len(case.shape) != axes]
    return kept, [Refusal(tuple(file.path for file in case.files), reason, detail) for case in others]


def label_cases(cases: list[tuple[str, Case]], labels: Labels) -> dict[str, Row]:
    """The row of each case, by its identifier.

    Raises:
        UserError: A case has no label, or its files have several, or a class or a series has no case.
    """
    rows: dict[str, Row] = {}
    without: list[str] = []
    for _, case in cases:
        if len(case.files) == 1 and (row := labels.of(case.files[0].path, case.series)):
            rows[case.case] = row
            continue
        found = {row.label: row for file in case.files if (row := labels.of(file.path, case.series))}
        if len(found) > 1:
            one, other = sorted(found.values(), key=lambda row: row.number)[:2]
            detail = f"'{one.label}' from {one.name} and '{other.label}' from {other.name}"
            raise UserError(f"the case of {case.files[0].path} has two labels: {detail}: leave one of them")
        if found:
            rows[case.case] = found.popitem()[1]
        else:
            without.append(case.files[0].path)
    if without:
        listed = ", ".join(sorted(without)[:NAMED])
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        raise UserError(f"{labels.source}: {len(without)} case(s) without a label: {listed}{more}: add or remove them")
    _check_series(cases, labels)
    return rows


def _check_series(cases: list[tuple[str, Case]], labels: Labels) -> None:
    known = {case.series for _, case in cases}
    if unknown := [row for series, row in labels.by_series.items() if series not in known]:
        row = unknown[0]
        raise UserError(f"{labels.source}, row {row.number}: no series '{row.name}' was read (see rejected.csv)")


def check_classes(rows: list[Row], labels: Labels, rejected_csv: str) -> None:
    """Raises:
    UserError: A class that was labelled is left without a case.
    """
    wanted = {row.label for row in (*labels.by_path.values(), *labels.by_series.values())}
    if lost := sorted(wanted - {row.label for row in rows}):
        raise UserError(f"no case of class '{lost[0]}' could be read: {rejected_csv} says why, file by file")


def check_rejected(cases: int, refused: list[Refusal], limit: float, rejected_csv: str) -> None:
    """Raises:
    UserError: More than the allowed share of cases was rejected, or nothing is left.
    """
    lost = _lost_cases(refused)
    if cases and len(lost) <= limit * (cases + len(lost)):
        return
    reasons = Counter(refusal.reason for refusal in refused if not refusal.ignored)
    summary = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "no file is a picture"
    what = f"{len(lost)} of {cases + len(lost)} cases were rejected ({summary})"
    wayout = f"{rejected_csv} names them; mend or remove them, or raise ingest.max_rejected ({limit:g})"
    raise UserError(f"{what}: {wayout}" if cases else f"no case could be read: {what}: {rejected_csv} names the files")


def _lost_cases(refused: list[Refusal]) -> list[Refusal]:
    """What was rejected, a series once: its unreadable files, which were rejected before it, are not counted again."""
    rejected = [refusal for refusal in refused if not refusal.ignored]
    series = {refusal.series for refusal in rejected if refusal.reason == "unreadable_slice"}
    return [r for r in rejected if r.reason == "unreadable_slice" or not r.series or r.series not in series]
