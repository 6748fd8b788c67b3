"""What is known of each case: its files, label and split, what the model said of it, and what somebody corrected."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.core import tables
from stages.lib.core.errors import UserError
from stages.lib.core.reading import reading
from stages.lib.ingest.labels import corrections
from stages.lib.ingest.labels.corrections import Correction
from stages.lib.validate.predictions import COLUMNS

MOST_VALUES = 50  # of a column of cases.csv that cases may be filtered by
NOT_FACTS = ("case", "group", "label", "depth", "height", "width", "copy_of", "affine")


class Paths(NamedTuple):
    """The files of one data set, as dvc.yaml names them."""

    raw: Path
    cases: Path
    cases_csv: Path
    files_csv: Path
    split_csv: Path
    predictions_csv: Path
    dataset_h5: Path
    statistics_json: Path
    validate_json: Path
    model_pt: Path

    def stamps(self) -> list[tuple[int, ...]]:
        """What changes when the outs do that the page shows."""
        shown = (self.cases, self.cases_csv, self.split_csv, self.predictions_csv, self.dataset_h5, self.model_pt)
        return [(found.st_ino, found.st_mtime_ns) for path in shown if path.exists() and (found := path.stat())]


@dataclass(frozen=True)
class Predictions:
    """One revision's predictions.csv: nothing of the training split."""

    revision: str
    classes: Sequence[str]
    row_of: dict[str, int]  # by case
    predicted: Sequence[str]
    probabilities: np.ndarray  # (N, K)

    def of(self, case: str) -> dict[str, float] | None:
        """A case's probability of each class; None where the revision has not predicted it."""
        if (row := self.row_of.get(case)) is None:
            return None
        return {name: float(p) for name, p in zip(self.classes, self.probabilities[row], strict=True)}


@dataclass
class Listing:
    """All cases of a data set, in the order of their names."""

    cases: list[str]
    labels: list[str]
    splits: list[str]  # "": no split.csv yet
    paths: dict[str, list[str]]  # the files of each case
    facts: dict[str, list[str]]  # the columns of cases.csv that say something: at least two values, and not too many
    copies: list[str]  # the case whose pixels are the same; "": none
    predictions: list[Predictions]  # as they are, then of another revision
    case_of: dict[str, list[str]] = field(default_factory=dict)  # by path: the pages of a file are several cases

    def __post_init__(self) -> None:
        for case, paths in self.paths.items():
            for path in paths:
                self.case_of.setdefault(path, []).append(case)

    @property
    def classes(self) -> list[str]:
        """Those of the model; without one, those of the labels."""
        return list(self.predictions[0].classes) if self.predictions else sorted(set(self.labels))

    def content(self, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """What the page shows and filters by, a list for each property, in the order of the cases.

        Args:
            rows: Of some cases alone.
        """
        rows = range(len(self.cases)) if rows is None else rows
        cases, labels, splits, copies = (
            [column[i] for i in rows] for column in (self.cases, self.labels, self.splits, self.copies)
        )
        now, before = [*self.predictions, None, None][:2]
        return {
            "classes": self.classes,
            "case": cases,
            "label": labels,
            "split": splits,
            "path": [self.paths.get(case, [""])[0] for case in cases],
            "files": [len(self.paths.get(case, [])) for case in cases],
            "copy_of": copies,
            "facts": {name: [values[i] for i in rows] for name, values in self.facts.items()},
            "revisions": [one.revision for one in self.predictions],
            "now": answers(now, cases, labels),
            "before": answers(before, cases, labels),
        }


def answers(told: Predictions | None, cases: list[str], labels: list[str]) -> dict[str, list[Any]] | None:
    """For each case the answer, its probability, that of the label, and by how much the answer leads."""
    if told is None:
        return None
    place = {name: k for k, name in enumerate(told.classes)}
    columns: dict[str, list[Any]] = {"predicted": [], "p": [], "p_label": [], "lead": []}
    for case, label in zip(cases, labels, strict=True):
        row = told.row_of.get(case)
        values: list[Any] = [None] * 4
        if row is not None:
            chances = told.probabilities[row]
            first, *others = sorted(chances.tolist(), reverse=True)
            of_label = float(chances[place[label]]) if label in place else None
            values = [told.predicted[row], first, of_label, first - (others[0] if others else 0.0)]
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns


def read(paths: Paths, revision: str | None = None) -> Listing:
    """The cases of a data set, as its stages have left them.

    Args:
        revision: Of git, whose predictions are shown beside those that are there.

    Raises:
        UserError: ingest has not run; or the revision, or its predictions, are not there.
        DamagedOut: An out of a stage can't be read.
    """
    cases = _table(paths.cases_csv)
    names = cases["case"].tolist()
    split_of = _column(paths.split_csv, "split")
    files: dict[str, list[str]] = {}
    for case, path in _table(paths.files_csv)[["case", "path"]].itertuples(index=False):
        files.setdefault(case, []).append(path)
    told = []
    if paths.predictions_csv.exists():
        with reading(paths.predictions_csv):
            told.append(_predictions("now", paths.predictions_csv.read_bytes()))
    if revision is not None:
        told.append(_predictions(revision, _at(revision, paths.predictions_csv)))
        if len(told) == 1:
            raise UserError(f"{paths.predictions_csv} not found: run `dvc repro`, then compare it with {revision}")
    return Listing(
        names,
        cases["label"].tolist(),
        [split_of.get(name, "") for name in names],
        files,
        _facts(cases),
        cases["copy_of"].tolist() if "copy_of" in cases else [""] * len(names),
        told,
    )


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"{path} not found: run `dvc repro` first")
    with reading(path):
        return tables.parse_text(path.read_bytes())


def _column(path: Path, column: str) -> dict[str, str]:
    """A column of a table by case; of one that is not there yet, nothing."""
    if not path.exists():
        return {}
    table = _table(path)
    return dict(zip(table["case"].tolist(), table[column].tolist(), strict=True))


def _facts(cases: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of cases.csv by which cases can be told apart."""
    found = {}
    for name in cases.columns:
        if name not in NOT_FACTS and 2 <= cases[name].nunique() <= MOST_VALUES:
            found[name] = cases[name].tolist()
    return found


def _predictions(revision: str, content: bytes) -> Predictions:
    table = tables.parse_text(content)
    chances = table.iloc[:, len(COLUMNS) :].to_numpy(np.float64)
    row_of = {case: i for i, case in enumerate(table["case"].tolist())}
    return Predictions(revision, table.columns.tolist()[len(COLUMNS) :], row_of, table["predicted"].tolist(), chances)


def _at(revision: str, path: Path) -> bytes:
    """A file at a revision of git."""
    if revision.startswith("-"):
        raise UserError(f"'{revision}' is no revision: give a branch, a tag or a commit")
    shown = subprocess.run(["git", "show", f"{revision}:./{path.as_posix()}"], capture_output=True, check=False)
    if shown.returncode:
        raise UserError(f"{path} is not there at {revision}: {shown.stderr.decode(errors='replace').strip()}")
    return shown.stdout


@dataclass(frozen=True)
class Marks:
    """corrections.csv: what was found wrong, case by case."""

    raw: Path
    listing: Listing

    def all(self) -> list[dict[str, Any]]:
        """Each row, and the cases that it is about: none where they were left out already, or are no cases.

        Raises:
            UserError: corrections.csv can't be read.
        """
        return [
            {
                "path": one.path, "label": one.label, "excluded": one.excluded, "note": one.note,
                "cases": self.listing.case_of.get(one.path, []),
            }
            for one in corrections.read(self.raw)
        ]  # fmt: skip

    def mark(self, path: str, label: str, excluded: bool, note: str) -> None:
        """Writes what was found wrong with the case of a file; nothing found wrong takes its row away.

        Raises:
            UserError: No such file or class, or corrections.csv can't be read or written.
        """
        rows = corrections.read(self.raw)  # somebody may have edited it
        meant = set(self.listing.case_of.get(path, ()))
        if not meant and path not in {one.path for one in rows}:
            raise UserError(f"'{path}' is no file of a case")
        if label and label not in self.listing.classes and label not in self.listing.labels:
            raise UserError(f"'{label}' is no class")
        note = " ".join(note.split())

        def is_about(one: Correction) -> bool:
            return one.path == path or not meant.isdisjoint(self.listing.case_of.get(one.path, ()))

        place = next((i for i, one in enumerate(rows) if is_about(one)), len(rows))
        kept = [one for one in rows if not is_about(one)]
        if label or excluded or note:
            kept.insert(place, Correction(path, label, excluded, note))
        corrections.write(self.raw, kept)
