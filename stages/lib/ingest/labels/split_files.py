"""A split that lists of names give, as a challenge's train.txt and test.txt do: `ingest.split_files`.

A line is one name: a path below data/raw/<dataset>, of a file or a folder, with or without its ending, or of a part of
a file, as labels.csv has it; the mere name or stem of one; a group of labels.csv; a PatientID or SeriesInstanceUID; or
a case as cases.csv names it. Blank lines count for nothing.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import closest
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from stages.lib.ingest.archives.members import NONE, Members
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.labels.table import MAX_CHARACTERS, MOST_COMPARED, Row
from stages.lib.ingest.readers.contract import Options, Refusal

NAMED = 5  # how many examples a message gives
ENDING = re.compile(r"(?:\.nii)?\.[^./]+$")


@dataclass
class Given:
    """What the lists say."""

    rows: list[Row]  # of the cases, each with its split
    lines: dict[str, list[frozenset[int]]] = field(default_factory=dict)  # by split: the identifiers each line means

    def counts(self, left: CaseTable) -> dict[str, dict[str, int]]:
        """For ingest.json: how many names each list has, and how many of them are of files that make no case. Says
        the latter.

        Args:
            left: The cases that could be read.
        """
        ids = set(left.ids.tolist())
        found = {}
        for split, lines in self.lines.items():
            lost = sum(line.isdisjoint(ids) for line in lines)
            found[split] = {"names": len(lines), "without_case": lost}
            if lost:
                say(f"ingest.split_files: {lost} of {len(lines)} names of {split} are of files that make no case")
        return found


def read(
    raw: Path,
    cases: CaseTable,
    rows: list[Row],
    refused: Sequence[Refusal],
    options: Options,
    members: Members = NONE,
) -> Given:
    """Gives each case the split of the list that names it; "" where none does.

    Args:
        rows: Of each case; without a split.
        refused: Files that are in no case: a name may be of one of them, and is counted.

    Raises:
        UserError: A list can't be read; a name is unknown or means several things; a case is in two lists; or the raw
            data bring a split of another kind as well.
    """
    files = options.params.split_files
    if not files:
        return Given(rows)
    if any(row.split for row in rows):
        raise UserError(
            "ingest.split_files is set, and labels.csv's column split, or folders called train and test, give a split, "
            "too: leave one of them out (for folders: ingest.split_folders: classes)"
        )
    names = _Names(cases, rows, refused, options)
    given = Given(list(rows))
    seen: dict[int, tuple[str, str]] = {}  # by case: the split, and the line that gave it
    for split, name in files.items():
        given.lines[split], unknown = [], []
        for where, line in _lines(raw / name, name, members):
            meant = names.meaning(where, line)
            if meant is None:
                unknown.append((where, line))
                continue
            given.lines[split].append(frozenset(cases.ids[sorted(meant)].tolist()))
            for i in meant:
                before = seen.setdefault(i, (split, where))
                if before[0] != split:
                    raise UserError(f"{where}: {cases.path(i)} is in {before[0]} already, by {before[1]}: leave one")
                given.rows[i] = replace(given.rows[i], split=split)
        if unknown:
            raise UserError(_unknown(raw / name, unknown, names))
    return given


def _lines(path: Path, name: str, members: Members) -> Iterator[tuple[str, str]]:
    """Each name, and the line that it stands in.

    Raises:
        UserError: The list is missing, empty, or no text; or a line is longer than any name.
    """
    if name not in members and not path.exists():
        raise UserError(f"ingest.split_files: {path} not found: put it there, or mend its path")
    empty, text = True, members.read_text(name, path)
    for number, line in enumerate(text.split("\n"), start=1):
        if line := line.strip():
            if len(line) > MAX_CHARACTERS:
                raise UserError(f"{path}, line {number}: it has {len(line)} characters: expected one name a line")
            empty = False
            yield f"{path}, line {number}", line
    if empty:
        raise UserError(f"ingest.split_files: {path} holds no names: fill it, or leave it out")


def _unknown(path: Path, unknown: Sequence[tuple[str, str]], names: "_Names") -> str:
    listed = "\n  ".join(f"{where.removeprefix(f'{path}, ')}: {shown(line)}" for where, line in unknown[:NAMED])
    more = f"\n  ... and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    near = closest(unknown[0][1], names.some())
    return (
        f"{path}: {len(unknown)} name(s) are of no file, folder, group, patient, series or case: mend or remove them"
        f"{f' (did you mean {shown(near)}?)' if near else ''}\n  {listed}{more}"
    )


class _Names:
    """What cases may be called by, and files that make none."""

    def __init__(self, cases: CaseTable, rows: Sequence[Row], refused: Sequence[Refusal], options: Options) -> None:
        self._options = options
        self._places: dict[str, set[int]] = defaultdict(set)  # the cases of each file and folder
        self._called: dict[str, set[str]] = defaultdict(set)  # the files and folders of each name and stem
        self._groups: dict[str, set[int]] = defaultdict(set)
        self._identified: dict[str, set[int]] = defaultdict(set)  # by hashed patient and series, and by case
        files: dict[str, set[int]] = defaultdict(set)
        group = options.params.group
        for i, (path, row, name) in enumerate(zip(cases.paths, rows, cases.names().tolist(), strict=True)):
            case = cases.template(i).case
            for one in [path] if path else [file.path for file in case.files]:
                files[one].add(i)
            if case.part:
                self._places[_normal(case.names[0])].add(i)
            found = re.search(group, cases.path(i)) if group is not None else None
            if name_of_group := found[1] if found else row.group:
                self._groups[_normal(name_of_group)].add(i)
            for identifier in (case.patient, case.series, name.decode()):
                if identifier:
                    self._identified[identifier].add(i)
        for refusal in refused:
            for path in refusal.paths:
                files.setdefault(path, set())
            if refusal.copy_of:  # the file that is taken instead is meant
                files[refusal.paths[0]] |= files[refusal.copy_of]
            if refusal.series:
                self._identified.setdefault(refusal.series, set())
        for path, of in files.items():
            self._add(path, of)

    def _add(self, path: str, of: set[int]) -> None:
        path = _normal(path)
        file = PurePosixPath(path)
        self._places[path] |= of
        stem = ENDING.sub("", path)
        for name in (stem, file.name, ENDING.sub("", file.name)):
            self._called[name].add(path)
        for folder in [*file.parents][:-1]:
            self._places[str(folder)] |= of
            self._called[folder.name].add(str(folder))

    def some(self) -> list[str]:
        """Names to compare a misspelt one with."""
        return [*list(self._places)[:MOST_COMPARED], *list(self._called)[:MOST_COMPARED], *list(self._groups)]

    def meaning(self, where: str, line: str) -> set[int] | None:
        """The cases that a name means: none of a file that makes no case; None of an unknown one.

        Raises:
            UserError: It means several things.
        """
        name = _normal(line.replace("\\", "/")).removeprefix("./").rstrip("/")
        if name in self._places:
            return self._places[name]
        found = {place: self._places[place] for place in sorted(self._called.get(name, ()))}
        for what, table, key in (
            ("a group", self._groups, _normal(line)),
            ("a patient", self._identified, self._options.identify("patient", f"\0{line}")),
            ("a series", self._identified, self._options.identify("series", line)),
            ("a case", self._identified, line.lower()),
        ):
            if key in table:
                found[what] = table[key]
        meant = {what: cases for what, cases in found.items() if cases}
        if len({frozenset(cases) for cases in meant.values()}) > 1:
            listed = ", ".join(shown(what) for what in [*meant][:NAMED])
            raise UserError(f"{where}: '{shown(line)}' may be {listed}: write the path of the file or folder")
        return next(iter(meant.values()), set()) if found else None


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
