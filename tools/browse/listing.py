"""What is known of each case: its files, label and split, what the model said of it, and what somebody corrected."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.lib import targets
from stages.lib.core import tables
from stages.lib.core.errors import UserError
from stages.lib.core.reading import reading
from stages.lib.ingest.labels import class_names, corrections
from stages.lib.ingest.labels import targets as targets_read
from stages.lib.ingest.labels.corrections import CLASS, Correction
from stages.lib.ingest.labels.table import Row
from stages.lib.params.ingest import TargetParams
from stages.lib.targets import PREFIX, Target
from stages.lib.validate.predictions import COLUMNS
from tools.browse.told import Predictions, Truth, text_of
from tools.report.judging import Asked

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
    target: Target | None = None  # what is asked of each case; None: the class alone
    values: np.ndarray | None = None  # (N, K) float64, of the target; nan: not known
    asked: TargetParams = CLASS
    case_of: dict[str, list[str]] = field(default_factory=dict)  # by path: the pages of a file are several cases

    def __post_init__(self) -> None:
        for case, paths in self.paths.items():
            for path in paths:
                self.case_of.setdefault(path, []).append(case)

    @property
    def classes(self) -> list[str]:
        """Those of the model, or what else it answers; without one, those of the labels."""
        if self.predictions:
            return list(self.predictions[0].names)
        return list(self.target.names) if self.target else sorted(set(self.labels))

    def truth(self, rows: Sequence[int] | None = None) -> Truth:
        """What is true of all cases, or of some."""
        rows = range(len(self.cases)) if rows is None else rows
        values = None if self.values is None else self.values[list(rows)]
        return Truth([self.labels[i] for i in rows], self.target, values)

    def about(self, i: int) -> dict[str, Any]:
        """What is known of one case alone: its files, all that the models say, and what is true where a class is not
        all of it."""
        case = self.cases[i]
        told = [one.of(case) for one in self.predictions]
        return {"paths": self.paths.get(case, []), "probabilities": told, "truth": self.truth([i]).of(0)}

    def content(self, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """What the page shows and filters by, a list for each property, in the order of the cases.

        Args:
            rows: Of some cases alone.
        """
        rows = range(len(self.cases)) if rows is None else rows
        cases, splits, copies = ([column[i] for i in rows] for column in (self.cases, self.splits, self.copies))
        truth = self.truth(rows)
        now, before = [*(one.answers(cases, truth) for one in self.predictions), None, None][:2]
        of_number = self.target is not None and self.target.of_number and truth.values is not None
        return {
            "classes": self.classes,
            "case": cases,
            "kind": self.target.kind if self.target else "classes",
            "unit": self.target.unit if self.target else "",
            "label": list(truth.labels),
            "parts": truth.parts,
            "value": truth.values[:, 0].tolist() if of_number and truth.values is not None else None,
            "split": splits,
            "path": [self.paths.get(case, [""])[0] for case in cases],
            "files": [len(self.paths.get(case, [])) for case in cases],
            "copy_of": copies,
            "facts": {name: [values[i] for i in rows] for name, values in self.facts.items()},
            "revisions": [one.revision for one in self.predictions],
            "now": now,
            "before": before,
        }


def read(paths: Paths, revision: str | None = None, asked: TargetParams = CLASS) -> Listing:
    """The cases of a data set, as its stages have left them.

    Args:
        revision: Of git, whose predictions are shown beside those that are there.
        asked: `ingest.target`, which says how a label may be corrected.

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
            judged = paths.validate_json.read_bytes()
            told.append(_predictions("now", paths.predictions_csv.read_bytes(), judged))
    if revision is not None:
        told.append(_predictions(revision, *(_at(revision, p) for p in (paths.predictions_csv, paths.validate_json))))
        if len(told) == 1:
            raise UserError(f"{paths.predictions_csv} not found: run `dvc repro`, then compare it with {revision}")
    with reading(paths.cases_csv):
        target, values = _asked(cases)
    labels = cases["label"].tolist()
    if target is not None and values is not None and not target.of_one_class:
        labels = text_of(target, values)
    return Listing(
        names,
        labels,
        [split_of.get(name, "") for name in names],
        files,
        _facts(cases),
        cases["copy_of"].tolist() if "copy_of" in cases else [""] * len(names),
        told,
        target,
        values,
        asked,
    )


def _asked(cases: pd.DataFrame) -> tuple[Target | None, np.ndarray | None]:
    """What is asked of the cases of cases.csv, and what is true, (N, K)."""
    target = targets.found(list(cases.columns))
    if target is None:
        return None, None
    return target, cases[target.columns].replace("", "nan").to_numpy(np.float64)


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
        if name not in NOT_FACTS and not name.startswith(PREFIX) and 2 <= cases[name].nunique() <= MOST_VALUES:
            found[name] = cases[name].tolist()
    return found


def _predictions(revision: str, content: bytes, validate_json: bytes) -> Predictions:
    table = tables.parse_text(content)
    judged = json.loads(validate_json)
    asked, unit = Asked.of(judged), (judged.get("target") or {}).get("unit", "")
    names = list(asked.names) or table.columns.tolist()[len(COLUMNS) :]
    width = len(Target(asked.kind, tuple(names)).outputs)  # type: ignore[arg-type]
    said = table.iloc[:, len(COLUMNS) : len(COLUMNS) + width].to_numpy(np.float64)
    row_of = {case: i for i, case in enumerate(table["case"].tolist())}
    return Predictions(revision, asked.kind, names, row_of, table["predicted"].tolist(), said, asked.thresholds, unit)


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
        label = class_names.spelling(label)  # as ingest will read it
        if label:
            self._check(label)
        note = " ".join(note.split())

        def is_about(one: Correction) -> bool:
            return one.path == path or not meant.isdisjoint(self.listing.case_of.get(one.path, ()))

        place = next((i for i, one in enumerate(rows) if is_about(one)), len(rows))
        kept = [one for one in rows if not is_about(one)]
        if label or excluded or note:
            kept.insert(place, Correction(path, label, excluded, note))
        corrections.write(self.raw, kept)

    def _check(self, label: str) -> None:
        """Raises:
        UserError: A case can't be corrected to this, as ingest would say.
        """
        listing = self.listing
        if listing.target is not None:
            targets_read.relabelled(Row("", None, 0, ""), label, listing.target, listing.asked)
        elif label not in listing.classes and label not in listing.labels:
            raise UserError(f"'{label}' is no class")
