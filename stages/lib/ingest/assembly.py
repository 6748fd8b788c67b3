"""From inspected files to the cases of one data set: of one kind, one colour mode, each with a label, in order."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.ingest import readers
from stages.lib.ingest.case_table import Alike, CaseTable, Kind, tabulate
from stages.lib.ingest.file_table import Facts
from stages.lib.ingest.labels import Labels, Row
from stages.lib.ingest.readers.colour import channels_of
from stages.lib.ingest.readers.contract import Case, Options, Refusal

NAMED = 5  # how many examples a message gives


class Plan(NamedTuple):
    cases: CaseTable
    refused: list[Refusal]


def plan(facts: Facts, options: Options) -> Plan:
    """All cases that the files make.

    Raises:
        UserError: There is none, or a decoder is missing.
    """
    unread = facts.refused
    refused = list(unread)
    single: list[Kind] = []
    alike: list[Alike] = []
    for name, positions in facts.accepted.items():
        if readers.reader(name).ALONE:
            more, positions = _alike(name, facts, positions, options)
            alike += more
        files = [facts.file(i) for i in positions]
        assembly = readers.reader(name).assemble(files, unread, options)
        single += [(name, case) for case in assembly.cases]
        refused += assembly.refused
    single, alike, others = _of_one_kind(single, alike, options)
    refused += others
    kinds = [*single, *(kind for kind, *_ in alike)]
    channels = channels_of(options.params.colour, any(case.shape[0] == 3 for _, case in kinds))
    single = [_with_channels(kind, channels) for kind in single]
    alike = [(_with_channels(kind, channels), names, paths, digests) for kind, names, paths, digests in alike]
    return Plan(tabulate(single, alike), refused)


def _alike(name: str, facts: Facts, positions: np.ndarray, options: Options) -> tuple[list[Alike], np.ndarray]:
    """The files that make one case each, by what they have alike; and the positions of the others."""
    alike: list[Alike] = []
    others = [np.empty(0, np.int64)]
    ordered = positions[np.argsort(facts.kinds[positions], kind="stable")]
    for mine in np.split(ordered, np.flatnonzero(np.diff(facts.kinds[ordered])) + 1):
        file = facts.file(mine[0])
        assembly = readers.reader(name).assemble([file], [], options)
        if len(assembly.cases) == 1 and int(assembly.cases[0].case, 16) == facts.names[mine[0]]:
            kind = (name, assembly.cases[0]._replace(case=""))
            alike.append((kind, facts.names[mine], [facts.paths[i] for i in mine.tolist()], facts.digests[mine]))
        else:
            others.append(mine)
    return alike, np.concatenate(others)


def _with_channels(kind: Kind, channels: int) -> Kind:
    reader, case = kind
    return kind if len(case.shape) == 4 else (reader, case._replace(shape=(channels, *case.shape[1:])))


def _of_one_kind(
    single: list[Kind], alike: list[Alike], options: Options
) -> tuple[list[Kind], list[Alike], list[Refusal]]:
    kind = options.params.kind
    volumes = sum(len(case.shape) == 4 for _, case in single)
    if kind == "auto":
        kind = "volumes" if volumes * 2 > len(single) + sum(len(paths) for _, _, paths, _ in alike) else "images"
    axes, reason = (4, "picture_among_volumes") if kind == "volumes" else (3, "volume_among_pictures")
    detail = f"the data set is one of {kind}; ingest.kind can be set"
    lost = [tuple(file.path for file in case.files) for _, case in single if len(case.shape) != axes]
    lost += [(path,) for (_, case), _, paths, _ in alike for path in paths if len(case.shape) != axes]
    return (
        [(name, case) for name, case in single if len(case.shape) == axes],
        [entry for entry in alike if len(entry[0][1].shape) == axes],
        [Refusal(paths, reason, detail) for paths in lost],
    )


def label_cases(cases: CaseTable, labels: Labels) -> list[Row]:
    """The row of each case.

    Raises:
        UserError: A case has no label, or its files have several, or a class or a series has no case.
    """
    rows: list[Row | None] = []
    for i, path in enumerate(cases.paths):
        case = cases.kind(i)
        if path or len(case.files) == 1:
            rows.append(labels.of(path or case.files[0].path, case.series))
        else:
            rows.append(_row_of_several(case, labels))
    if without := sorted(cases.path(i) for i, row in enumerate(rows) if row is None):
        listed = ", ".join(without[:NAMED])
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        raise UserError(f"{labels.source}: {len(without)} case(s) without a label: {listed}{more}: add or remove them")
    _check_series(cases, labels)
    return [row for row in rows if row]


def _row_of_several(case: Case, labels: Labels) -> Row | None:
    found = {row.label: row for file in case.files if (row := labels.of(file.path, case.series))}
    if len(found) > 1:
        one, other = sorted(found.values(), key=lambda row: row.number)[:2]
        detail = f"'{one.label}' from {one.name} and '{other.label}' from {other.name}"
        raise UserError(f"the case of {case.files[0].path} has two labels: {detail}: leave one of them")
    return next(iter(found.values()), None)


def _check_series(cases: CaseTable, labels: Labels) -> None:
    known = {case.series for _, case in cases.kinds}
    if unknown := [row for series, row in labels.by_series.items() if series not in known]:
        row = unknown[0]
        raise UserError(f"{labels.source}, row {row.number}: no series '{row.name}' was read (see rejected.csv)")


def check_classes(rows: Sequence[Row], labels: Labels, rejected_csv: str) -> None:
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
