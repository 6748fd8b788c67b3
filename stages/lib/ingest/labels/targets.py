"""What `ingest.target` reads of labels.csv: from the cells of its columns to each case's numbers, and to its label.

Where a target is not of one class, the label of every case is the target's own name: tables, figures and messages that
know classes then know one.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint
from stages.lib.core.terminal import shortened, shown
from stages.lib.ingest.labels import class_names
from stages.lib.params.ingest import NOBODY_KNOWS, TargetParams
from stages.lib.targets import WEIGHT, Target

if TYPE_CHECKING:
    from stages.lib.ingest.labels.table import Labels, Row

YES = {"1", "1.0", "yes", "y", "true", "t", "positive", "pos", "present"}
NO = {"0", "0.0", "no", "n", "false", "f", "negative", "neg", "absent"}
MISSING = NOBODY_KNOWS
OTHERS = ("group", "split", "series_number")  # of labels.csv, that ingest reads for something else
LARGEST = float(np.float32(1e30))  # of numbers, so that sums of them and bounds around them are float32, too
SMALLEST = float(np.float32(1e-30))  # but 0: below 1e-38, float32 has fewer and fewer digits
HEAVIEST = 1e9  # of weights
LIGHTEST = float(np.float32(1e-9))  # but 0
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
Answers = tuple[float | None, ...]


def check_columns(table: str, params: TargetParams, header: Sequence[str], naming: Collection[str]) -> None:
    """Checks that labels.csv has each column that the target reads.

    Args:
        table: labels.csv, for messages.
        header: Its columns.
        naming: Those that say which file a row is about.

    Raises:
        UserError: It has not, or the column says which file a row is about.
    """
    for name in params.all_columns:
        if name in naming:
            raise UserError(f"ingest.target names {name}, by which {table} says which file a row is about")
        if name in OTHERS:
            raise UserError(f"ingest.target names {name}, which ingest reads itself, for something else: rename it")
        if name not in header:
            raise UserError(f"ingest.target names {shown(name)}, and {table} has no such column: {hint(name, header)}")


def needs_table(params: TargetParams) -> bool:
    """Whether the target is read from columns, so that there must be a labels.csv."""
    return not params.is_label or params.weight is not None


def resolve(labels: "Labels", params: TargetParams, aliases: Mapping[str, str]) -> None:
    """Gives every row its numbers and its label. Until then the cells that the target reads end its `columns`.

    Args:
        aliases: Other spellings of classes.

    Raises:
        UserError: A cell says nothing that the target can be; the message names it.
    """
    if params == TargetParams():
        return
    reader = _Reader(labels, params, aliases)
    labels.target, labels.weighted = reader.target, params.weight is not None
    rows: dict[int, Row] = {}
    for rows_by in (labels.by_path, labels.by_series, labels.by_study, labels.by_instance):
        for key, row in rows_by.items():
            if id(row) not in rows:
                rows[id(row)] = reader.answered(row)
            rows_by[key] = rows[id(row)]  # type: ignore[index]
    reader.check_all(list(rows.values()))
    if params.readers and labels.target:
        votes = [[row.count(name) for name in labels.target.names] for row in reader.chosen]
        labels.agreement = agreement(np.array(votes))


class _Reader:
    def __init__(self, labels: "Labels", params: TargetParams, aliases: Mapping[str, str]) -> None:
        self._labels, self._params, self._aliases = labels, params, aliases
        self.chosen: list[list[str]] = []  # by the readers, of each row
        self._own = len(labels.columns)  # cells that `ingest.columns` keeps, before those of the target
        rows = [*labels.by_path.values(), *labels.by_series.values(), *labels.by_study.values()]
        self.target = self._target([*rows, *labels.by_instance.values()])

    def _target(self, rows: "Sequence[Row]") -> Target | None:
        params = self._params
        if params.kind == "regression":
            return Target("log_regression" if params.log else "regression", (params.column or "",), params.unit)
        if params.kind == "classes" and params.is_label:
            return None  # only a weight
        names: Sequence[str] = params.columns
        if params.kind == "ordinal" and not names:
            names = [class_names.spelling(name) for name in params.order]
            if "" in names or len(set(names)) < len(names):
                raise UserError(
                    "ingest.target.order has a class without a name, or one twice, as blanks and the forms of letters "
                    f"do not count: {', '.join(map(shown, names))}"
                )
        elif params.readers:
            names = sorted({name for row in rows for name in self._chosen(row) if name})
        elif params.kind == "multilabel" and params.column:
            names = sorted({name for row in rows for name in self._listed(row) or ()})
        least = 1 if params.kind == "multilabel" else 2
        if len(names) < least:
            raise UserError(
                f"{self._labels.source}: ingest.target of kind {params.kind} needs {least} classes or labels, and "
                f"found {', '.join(map(shown, names)) or 'none'}"
            )
        return Target(params.kind, tuple(names))

    def answered(self, row: "Row") -> "Row":
        """The row with its numbers, its weight behind them, and its label."""
        cells, params = self._cells(row), self._params
        weight: Answers = ()
        if params.weight:
            weight = (self._number(row, params.weight, cells[params.weight]),)
            if weight[0] is None or not (weight[0] == 0 or LIGHTEST <= weight[0] <= HEAVIEST):
                wanted = f"a number of 0 or more, which is 0 or from {LIGHTEST:g} to {HEAVIEST:g}"
                raise self._error(row, params.weight, cells[params.weight], wanted)
        answers = self._answers(row, cells)
        label = row.label
        if self.target and not params.is_label:
            label = self.target.name if not self.target.of_one_class else self.target.names[_first_largest(answers)]
        return replace(row, label=label, columns=row.columns[: self._own], answers=answers + weight)

    def _answers(self, row: "Row", cells: Mapping[str, str]) -> Answers:
        params, target = self._params, self.target
        if target is None:
            return ()
        if target.of_number:
            return (self._measured(row, cells),)
        if params.kind == "multilabel" and params.column:
            listed = self._listed(row)
            return tuple(None if listed is None else float(name in listed) for name in target.names)
        if params.kind == "multilabel":
            return tuple(self._answer(row, name, cells[name]) for name in params.columns)
        if params.readers:
            self.chosen.append(self._chosen(row))
            votes = Counter(filter(None, self.chosen[-1]))
            for name in votes:
                self._check_class(row, name)
            if not votes:
                raise self._error(row, ", ".join(params.readers), "", "the class that a reader chose")
            return tuple(votes[name] / votes.total() for name in target.names)
        if params.columns:
            shares = [self._number(row, name, cells[name]) or 0.0 for name in params.columns]
            if min(shares) < 0 or not sum(shares):
                raise self._error(
                    row, ", ".join(params.columns), ", ".join(f"{share:g}" for share in shares),
                    "a probability or number of votes a class, none below 0 and one above it",
                )  # fmt: skip
            return tuple(share / sum(shares) for share in shares)
        self._check_class(row, row.label)
        return tuple(float(name == row.label) for name in target.names)

    def _measured(self, row: "Row", cells: Mapping[str, str]) -> float:
        name = self._params.column or ""
        value = self._number(row, name, cells[name])
        if value is None:
            raise self._error(row, name, cells[name], "a number; a case without one can't teach or test")
        if value and not SMALLEST <= abs(value) <= LARGEST:
            wanted = f"a number that is 0 or from {SMALLEST:g} to {LARGEST:g} in size: take a unit that suits it"
            raise self._error(row, name, cells[name], wanted)
        if self._params.log and value <= 0:
            raise self._error(row, name, cells[name], "a number above 0, as ingest.target.log is true")
        if (range_ := self._params.range) and not range_[0] <= value <= range_[1]:
            raise self._error(
                row, name, cells[name], f"a number from {range_[0]:g} to {range_[1]:g} (ingest.target.range)"
            )
        return value

    def _answer(self, row: "Row", name: str, cell: str) -> float | None:
        ways = {way.strip().lower(): meant for way, meant in self._params.answers.items()}
        said: str | None = ways.get(cell.lower())
        for words, meant in ((YES, "yes"), (NO, "no"), (MISSING, "missing")):
            said = meant if said is None and cell.lower() in words else said
        if said is None:
            wanted = "yes or no, 1 or 0, or nothing where nobody knows; ingest.target.answers says what others mean"
            raise self._error(row, name, cell, wanted)
        return {"yes": 1.0, "no": 0.0}.get(said)

    def _number(self, row: "Row", name: str, cell: str) -> float | None:
        """The number of a cell, None where it is blank."""
        if cell.lower() in MISSING:
            return None
        value = _float32(cell)
        if not math.isfinite(value):
            comma = " with a point, not a comma" if "," in cell else ""
            raise self._error(row, name, cell, f"a number{comma}")
        return value

    def _listed(self, row: "Row") -> set[str] | None:
        """The labels that a cell lists, None where it is blank."""
        params = self._params
        cell = self._cells(row)[params.column or ""]
        if cell.lower() in MISSING:
            return None
        names = {class_names.spelling(name) for name in cell.split(params.separator)} - {""}
        nothing = class_names.spelling(params.none) if params.none else None
        if nothing in names and len(names) > 1:
            raise self._error(row, params.column or "", cell, f"labels, or {nothing} alone")
        self._labels.spellings |= names - {nothing}
        return {self._aliases.get(name, name) for name in names if name != nothing}

    def _chosen(self, row: "Row") -> list[str]:
        cells = self._cells(row)
        names = [class_names.spelling(cells[name]) for name in self._params.readers]
        names = ["" if name.lower() in MISSING else name for name in names]
        self._labels.spellings |= set(names) - {""}
        return [self._aliases.get(name, name) for name in names]

    def _check_class(self, row: "Row", name: str) -> None:
        if self.target and name not in self.target.names:
            where = f"row {row.number}: " if row.number else ""
            raise UserError(
                f"{self._labels.source}: {where}the class '{shown(name)}' is not in ingest.target.order: "
                f"{hint(name, self.target.names)}"
            )

    def _cells(self, row: "Row") -> dict[str, str]:
        return dict(zip(self._params.all_columns, row.columns[self._own :], strict=True))

    def _error(self, row: "Row", column: str, cell: str, expected: str) -> UserError:
        said = f"'{shown(shortened(cell))}'" if cell else "empty"
        return UserError(f"{self._labels.source}, row {row.number}: {column} is {said}, expected {expected}")

    def check_all(self, rows: "Sequence[Row]") -> None:
        """Raises:
        UserError: No row is of a class that the target has, or none counts.
        """
        if self._params.weight and not any(row.answers[-1] for row in rows):
            raise UserError(f"{self._labels.source}: {self._params.weight} is 0 in every row: no case would count")
        if self.target is None or not self.target.of_one_class:
            return
        sums = [sum(row.answers[k] or 0.0 for row in rows) for k in range(len(self.target.names))]
        if rows and not np.all(sums):
            lost = self.target.names[int(np.argmin(sums))]
            raise UserError(
                f"{self._labels.source}: no row is of the class '{lost}': take it out of ingest.target, or add cases"
            )


def _first_largest(answers: Answers) -> int:
    return max(range(len(answers)), key=lambda k: (answers[k] or 0.0, -k))


def relabelled(row: "Row", label: str, target: Target | None, params: TargetParams) -> "Row":
    """The row with a label that somebody has corrected.

    Raises:
        UserError: The target has no such answer, or its answers are not one class or number.
    """
    if target is None:
        return replace(row, label=label)
    rest = row.answers[len(target.names) :]
    if target.of_one_class:
        if label not in target.names:
            raise UserError(f"'{shown(label)}' is no class: {hint(label, target.names)}")
        return replace(row, label=label, answers=(*(float(name == label) for name in target.names), *rest))
    if target.kind == "multilabel":
        raise UserError("a case has several labels: mend labels.csv itself")
    value = _float32(label)
    low, high = params.range or (-math.inf, math.inf)
    is_extreme = bool(value) and not SMALLEST <= abs(value) <= LARGEST
    if is_extreme or target.wrong(np.array([[value]]))[0] or not low <= value <= high:
        raise UserError(f"'{shown(label)}' is no number that {target.name} can be")
    return replace(row, answers=(value, *rest))


def _float32(text: str) -> float:
    """The number as it is stored, nan where it is none."""
    if not NUMBER.fullmatch(text.strip()):  # float() takes 1_000, too
        return math.nan
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        return float(np.float32(float(text)))


def columns(labels: "Labels", rows: "Sequence[Row]") -> dict[str, list[str]]:
    """The further columns of cases.csv, each with the N cells of the cases."""
    names = [*(labels.target.columns if labels.target else ()), *([WEIGHT] if labels.weighted else ())]
    return {name: [_text(row.answers[k]) for row in rows] for k, name in enumerate(names)}


def _text(value: float | None) -> str:
    return "" if value is None else f"{np.float32(value):.9g}"  # nine digits are all that float32 has


def said(row: "Row") -> str:
    """What a row says of its case, for messages and to compare it with others."""
    if not row.answers:
        return row.label
    return f"{row.label}: {', '.join('?' if value is None else f'{value:.6g}' for value in row.answers)}"


def summary(labels: "Labels", rows: "Sequence[Row]") -> dict[str, Any]:
    """For ingest.json: how the cases answer; {} where the target is a class alone."""
    target, weighted = labels.target, labels.weighted
    if target is None and not weighted:
        return {}
    values = np.array([[math.nan if v is None else v for v in row.answers] for row in rows], float)
    found: dict[str, Any] = {"kind": target.kind if target else "classes"}
    of_target = values[:, : len(target.names)] if target else values[:, :0]
    if target and target.of_number:
        found |= {"name": target.name, "unit": target.unit, **_spread(of_target[:, 0])}
    elif target and target.kind == "multilabel":
        found["labels"] = {
            name: {"yes": int((of == 1).sum()), "no": int((of == 0).sum()), "missing": int(np.isnan(of).sum())}
            for name, of in zip(target.names, of_target.T, strict=True)
        }
    elif target:
        found["shares"] = {name: float(of.mean()) for name, of in zip(target.names, of_target.T, strict=True)}
    if labels.agreement:
        found["readers"] = labels.agreement
    if weighted:
        found["weight"] = _spread(values[:, -1])
    return found


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "minimum": float(values.min()), "median": float(np.median(values)), "maximum": float(values.max()),
        "mean": float(values.mean()), "deviation": float(values.std()),
    }  # fmt: skip


def agreement(votes: np.ndarray) -> dict[str, float]:
    """How far readers agree: Krippendorff's alpha for names (2011, Computing Krippendorff's Alpha-Reliability), which
    is 1 where they always do and 0 where they do as often as by chance; and the fraction of the cases of two readers
    or more about which all say the same.

    Args:
        votes: (N, K), how many readers chose each class.
    """
    votes = votes[votes.sum(axis=1) > 1].astype(float)
    if not len(votes):
        return {"read_twice": 0}
    of_case, of_class = votes.sum(axis=1), votes.sum(axis=0)
    total = of_case.sum()
    observed = ((of_case**2 - (votes**2).sum(axis=1)) / (of_case - 1)).sum() / total
    expected = (total**2 - (of_class**2).sum()) / (total * (total - 1))
    return {
        "read_twice": len(votes),
        "unanimous": float((votes.max(axis=1) == of_case).mean()),
        "krippendorff_alpha": float(1 - observed / expected) if expected else 1.0,
    }
