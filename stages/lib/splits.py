"""split.csv: which split each case is in, one row per case; a group (a patient) is in one split only.

A table of a million cases is read in blocks, into columns of 37 bytes a case: no stage's memory depends on how long
pandas' strings are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import targets
from stages.lib.core import tables
from stages.lib.core.errors import DamagedOut
from stages.lib.core.reading import reading
from stages.lib.core.tables import BLOCK_ROWS, refuse
from stages.lib.targets import Target

SPLITS = ("train", "validation", "test")
OPEN = -1  # in `Table.split_of`: none is given
CASE_COLUMNS = ("case", "group", "label")  # the first of cases.csv
KEPT = "labels."  # how the names of labels.csv's own columns begin in cases.csv
NAME_COLUMNS = ("case", "group")
COLUMNS = (*CASE_COLUMNS, "split")
MOST_CHARACTERS = 16  # of a name: 64 bits in hexadecimal digits
NAME = np.dtype(f"S{MOST_CHARACTERS}")
LONGER = np.dtype(f"S{MOST_CHARACTERS + 1}")  # so that a name that is too long is seen
KINDS = {"case": LONGER.str, "group": LONGER.str, "label": "object", "split": "object"}
BLOCK = 1 << 16  # names looked up at once


@dataclass(frozen=True)
class Table:
    """N cases, in columns."""

    case: np.ndarray  # (N,) NAME
    group: np.ndarray  # (N,) NAME
    classes: list[str]  # sorted; each occurs
    label_of: np.ndarray  # (N,) int32: index into the classes
    split_of: np.ndarray  # (N,) int8: index into SPLITS, or OPEN
    target: Target | None = None  # None: the class alone
    values: np.ndarray | None = None  # (N, K) float32: what is asked of each case; nan where it is not known
    weight: np.ndarray | None = None  # (N,) float32: how much each case counts; None: all alike

    def __len__(self) -> int:
        return len(self.case)

    def is_ungrouped(self) -> bool:
        """Whether each case is a group of its own, by its own name: most often, and then there is nothing to sort."""
        return self.group is self.case or np.array_equal(self.group, self.case)

    def rows(self, split: str) -> np.ndarray:
        """The positions of a split's cases, ascending."""
        return np.flatnonzero(self.split_of == SPLITS.index(split))

    def select(self, rows: np.ndarray) -> "Table":
        """Some of the cases; classes of which none is left are gone.

        Args:
            rows: Their positions, or (N,) bool.
        """
        present, label_of = np.unique(self.label_of[rows], return_inverse=True)
        classes = [self.classes[label] for label in present]
        values, weight = (None if of is None else of[rows] for of in (self.values, self.weight))
        label_of = label_of.astype(np.int32)
        return replace(
            self, case=self.case[rows], group=self.group[rows], classes=classes, label_of=label_of,
            split_of=self.split_of[rows], values=values, weight=weight,
        )  # fmt: skip

    def with_splits(self, split_of: np.ndarray) -> "Table":
        return replace(self, split_of=split_of.astype(np.int8))

    def numbers(self) -> np.ndarray:
        """How many cases of each class each split has: (classes, splits) int64."""
        which = self.split_of != OPEN
        both = self.label_of[which] * len(SPLITS) + self.split_of[which]
        return np.bincount(both, minlength=len(self.classes) * len(SPLITS)).reshape(-1, len(SPLITS))

    def counts(self) -> dict[str, dict[str, int]]:
        """The number of cases of each class in every split that has any."""
        numbers = self.numbers()
        return {
            name: {label: int(n) for label, n in zip(self.classes, of, strict=True) if n}
            for name, of in sorted(zip(SPLITS, numbers.T, strict=True))
            if of.any()
        }

    def blocks(self) -> Iterator[pd.DataFrame]:
        """The table as text, as it is written."""
        classes, splits = np.array(self.classes, object), np.array([*SPLITS, ""], object)
        for at in range(0, len(self), BLOCK_ROWS):
            rows = slice(at, at + BLOCK_ROWS)
            columns = (
                self.case[rows].astype(str).astype(object),
                self.group[rows].astype(str).astype(object),
                classes[self.label_of[rows]],
                splits[self.split_of[rows]],
            )
            further = {name: _texts(column[rows]) for name, column in self._further()}
            yield pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)) | further, dtype=object)

    def _further(self) -> Iterator[tuple[str, np.ndarray]]:
        """The columns of the target and of the weight, (N,) each."""
        if self.target is not None and self.values is not None:
            yield from zip(self.target.columns, self.values.T, strict=True)
        if self.weight is not None:
            yield targets.WEIGHT, self.weight


def _texts(numbers: np.ndarray) -> list[str]:
    """float32 as text that gives it back, nan as nothing."""
    return ["" if number != number else f"{number:.9g}" for number in numbers]


def read_cases(cases_csv: Path) -> Table:
    """The columns of cases.csv that say how a case may be split, and the split that the raw data give, where they do.

    Raises:
        DamagedOut: The file is missing, or is none that ingest could have written.
    """
    return _read(cases_csv, CASE_COLUMNS, more=True)


def read_kept(cases_csv: Path, column: str) -> np.ndarray | None:
    """A column of labels.csv that `ingest.columns` keeps, (N,) object of text; None where cases.csv has it not.

    Raises:
        DamagedOut: The file is missing, or is none that ingest could have written.
    """
    name = KEPT + column
    with reading(cases_csv):
        blocks = list(tables.read_blocks(cases_csv, CASE_COLUMNS, more=True, optional=(name,)))
        if name not in blocks[0]:
            return None
        return np.concatenate([block[name].to_numpy(object) for block in blocks])


def read(split_csv: Path) -> Table:
    """The table.

    Raises:
        DamagedOut: The file is missing, or is none that split could have written.
    """
    table = _read(split_csv, COLUMNS)
    with reading(split_csv):
        if len(leaking := leaking_groups(table)):
            wrong = np.isin(table.group, leaking)
            _refuse_row(wrong, f"group {table.group[int(wrong.argmax())].decode()} is in two splits")
        lost = (table.numbers()[:, SPLITS.index("train")] == 0)[table.label_of]
        if lost.any():
            label = table.classes[table.label_of[int(lost.argmax())]]
            _refuse_row(lost, f"class '{label}' has no case in the training split")
    return table


def _read(path: Path, columns: tuple[str, ...], more: bool = False) -> Table:
    """A table of these columns; a split that is not among them may be there, and may be open."""
    known = {"": OPEN} if "split" not in columns else {}
    known |= {name: i for i, name in enumerate(SPLITS)}
    expected = f"expected one of {', '.join(SPLITS)}{', or nothing' * ('' in known)}"
    label_codes: dict[str, int] = {}
    parts: list[tuple[np.ndarray, ...]] = []
    numbers: list[np.ndarray] = []
    with reading(path):
        header = tables.header(path)
        target, weighted = targets.found(header), targets.WEIGHT in header
        further = [*(target.columns if target else ()), *([targets.WEIGHT] if weighted else ())]
        if not more and further and sorted(header) != sorted([*columns, *further]):
            raise ValueError(f"its columns are {', '.join(header)}, not {', '.join([*columns, *further])}")
        more = more or bool(further)
        for block in tables.read_blocks(path, columns, more, optional=("split", *further), kinds=KINDS):
            if further:
                numbers.append(_numbers(block, further, target))
            case, group = (_names(block, column) for column in ("case", "group"))
            codes, labels = pd.factorize(block["label"])
            theirs = np.array([label_codes.setdefault(label, len(label_codes)) for label in labels], np.int32)
            split_of: np.ndarray = np.full(len(block), OPEN, np.int8)
            if "split" in block:
                refuse(block, ~block["split"].isin(known), f"the split is '{{split}}': {expected}")
                split_of = block["split"].map(known).to_numpy().astype(np.int8)
            parts.append((case, case if np.array_equal(case, group) else group, theirs[codes], split_of))
        pieces = list(zip(*parts, strict=True))
        parts.clear()
        if all(group is case for case, group in zip(*pieces[:2], strict=True)):
            pieces[1] = ()
        case = np.concatenate(pieces.pop(0))  # one column is there twice at a time
        group = np.concatenate(theirs) if (theirs := pieces.pop(0)) else case
        label_of, given = (np.concatenate(pieces.pop(0)) for _ in range(2))
        if not (case[1:] > case[:-1]).all() and (twice := _repeated(case)).any():
            _refuse_row(twice, f"case {case[int(twice.argmax())].decode()} is there twice")
        values = weight = None
        if further:
            together = np.concatenate(numbers)
            values = together[:, : len(target.names)] if target else None
            weight = together[:, -1] if weighted else None
        classes = sorted(label_codes)
        if target and target.of_one_class:
            if strange := set(label_codes) - set(target.names):
                raise ValueError(f"the label '{min(strange)}' is none of its target's")
            classes = list(target.names)
        place = np.empty(len(label_codes), np.int32)
        place[list(label_codes.values())] = [classes.index(label) for label in label_codes]
    return Table(case, group, classes, place[label_of], given, target, values, weight)


def _numbers(block: pd.DataFrame, columns: Sequence[str], target: Target | None) -> np.ndarray:
    """The columns of a target and of a weight, (n, columns) float32; nan where a cell is empty.

    Raises:
        ValueError: A cell is no number, or the row no answer to the target.
    """
    cells = block[list(columns)].replace("", "nan")
    found = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    refuse(block, (np.isnan(found) & (cells != "nan").to_numpy()).any(axis=1), "a number is none")
    answers = found[:, : len(target.names)] if target else found[:, :0]
    if target:
        refuse(block, target.wrong(answers), f"the columns {', '.join(columns)} are no answer to {target.kind}")
    weights = found[:, answers.shape[1] :]
    refuse(block, ~(np.isfinite(weights) & (weights >= 0)).all(axis=1), "the weight is no number of 0 or more")
    return found


def read_names(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A table of cases and their groups alone, (n,) NAME each.

    Raises:
        DamagedOut: The file is missing, or is no such table.
    """
    with reading(path):
        blocks = list(tables.read_blocks(path, NAME_COLUMNS, kinds=KINDS))
        case, group = (np.concatenate([_names(block, column) for block in blocks]) for column in NAME_COLUMNS)
        if (twice := _repeated(case)).any():
            _refuse_row(twice, f"case {case[int(twice.argmax())].decode()} is there twice")
        return case, group


def _names(block: pd.DataFrame, column: str) -> np.ndarray:
    """A column of identifiers, (n,) NAME.

    Raises:
        ValueError: One is no identifier.
    """
    cells = block[column].to_numpy()
    names = cells if cells.dtype == LONGER else np.array([cell.encode() for cell in cells], LONGER)
    bytes_of = np.ascontiguousarray(names).view(np.uint8).reshape(-1, LONGER.itemsize)
    is_end = bytes_of == 0
    sound = is_end | (bytes_of >= ord(" ")) & (bytes_of <= ord("~"))
    sound[:, 1:] &= is_end[:, 1:] | ~is_end[:, :-1]  # nothing follows the end
    wrong = ~sound.all(axis=1) | is_end[:, 0] | ~is_end[:, -1]
    refuse(block, wrong, f"the {column} '{{{column}}}' is not of 1 to {MOST_CHARACTERS} ASCII characters")
    return names.astype(NAME)


def _repeated(names: np.ndarray) -> np.ndarray:
    """Which names have been there before, (n,) bool."""
    again = np.ones(len(names), bool)
    again[np.unique(names, return_index=True)[1]] = False
    return again


def _refuse_row(wrong: np.ndarray, fault: str) -> None:
    """Raises a ValueError about the first of the wrong rows, (N,) bool, counted from 1."""
    tables.raise_for_row(int(wrong.argmax()), int(wrong.sum()), fault)


def read_of(split_csv: Path, cases: Path, names: np.ndarray) -> Table:
    """As `read`; the rows are the cases of cases/, each once.

    Args:
        cases: The folder, for messages.
        names: Of all its cases, in order, (N,) NAME.

    Raises:
        DamagedOut: As of `read`, or the two files are not of the same cases.
    """
    table = read(split_csv)
    if not np.array_equal(table.case, names):
        lacking, strange = np.setdiff1d(names, table.case), np.setdiff1d(table.case, names)
        raise DamagedOut(
            f"they are not of the same cases: the one lacks {_some(lacking)}, the other {_some(strange)}"
            if len(lacking) or len(strange)
            else "they have the cases in another order",
            *(split_csv, cases),
        )
    group = names if table.group is table.case else table.group
    return replace(table, case=names, group=group)  # they are not held twice


def _some(names: np.ndarray) -> str:
    return f"{len(names)} ({names[0].decode()})" if len(names) else "none"


def leaking_groups(table: Table) -> np.ndarray:
    """The groups that are in more than one split, sorted."""
    if table.is_ungrouped():
        return table.group[:0]
    order = np.argsort(table.group, kind="stable")
    groups, split_of = table.group[order], table.split_of[order]
    return np.unique(groups[1:][(groups[1:] == groups[:-1]) & (split_of[1:] != split_of[:-1])])


def assert_no_leakage(table: Table) -> None:
    """Asserts that no group is in two splits."""
    if len(leaking := leaking_groups(table)):
        raise AssertionError(f"group {leaking[0].decode()} is in two splits: this is a bug, please report it")


def shared(names: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Those of the names (n,) that are among the others (m,) too; takes no more memory than the shorter array."""
    few, many = sorted((names, others), key=len)
    few = np.unique(few)
    if not len(few):
        return few
    found = []
    for start in range(0, len(many), BLOCK):
        block = many[start : start + BLOCK]
        nearest = few[np.searchsorted(few, block).clip(max=len(few) - 1)]
        found.append(nearest[nearest == block])
    return np.concatenate(found)
