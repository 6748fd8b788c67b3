"""What another dataset's classes, labels or number are in the model's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import closest
from stages.lib.core.terminal import shown
from stages.lib.splits import Table
from stages.lib.targets import Target
from stages.lib.tensors import Asked

LEFT_OUT = -1  # what has no counterpart, and is not meant to have one
NAMED = 5


@dataclass(frozen=True)
class Naming:
    """How an external dataset's classes, or labels, are called."""

    key: str  # of params.yaml, for messages: datasets.mine.study.external.clinic
    classes: Mapping[str, str | None]  # of the other's classes those that the model calls otherwise; None: left out
    lacks: Sequence[str]  # classes of the model that the other has not


@dataclass(frozen=True)
class Truth:
    """What is true of the N cases of another dataset, in the model's words."""

    meant: np.ndarray  # (N,) bool: False for a case that is left out, as it is of nothing that the model knows
    y: np.ndarray  # (N,) int64, as of `tensors.Split`; `LEFT_OUT` where a case is
    target: np.ndarray | None = None  # (N, K) float32, likewise


def of_classes(table: Table, asked: Asked, naming: Naming) -> Truth:
    """The model's class of each case.

    Raises:
        UserError: A class has no counterpart, or a name in params.yaml is none.
    """
    _check_kind(table, asked, naming)
    of = _counterparts(table.classes, asked.names, naming, "class")
    found = of[table.label_of]
    present = {asked.names[k] for k in np.unique(found[found != LEFT_OUT])}
    _check_lacking(present, table.classes, asked.names, naming, "class", "classes")
    return Truth(found != LEFT_OUT, found)


def of_labels(table: Table, asked: Asked, naming: Naming) -> Truth:
    """Whether each of the model's labels holds, nan where nobody knows. A label that is several of the other's holds
    where one of them does.

    Raises:
        UserError: As `of_classes`; a label of which no case is known counts as one that the other lacks.
    """
    _check_kind(table, asked, naming)
    assert table.target is not None and table.values is not None
    of = _counterparts(table.target.names, asked.names, naming, "label")
    values = np.full((len(table), len(asked.names)), np.nan, np.float32)
    for k in range(len(asked.names)):
        own = table.values[:, of == k]
        if own.shape[1]:
            values[:, k] = np.where((own == 1).any(1), 1, np.where((own == 0).all(1), 0, np.nan))
    present = {name for name, column in zip(asked.names, values.T, strict=True) if not np.isnan(column).all()}
    _check_lacking(present, table.target.names, asked.names, naming, "label", "labels")
    return Truth(np.ones(len(table), bool), np.zeros(len(table), np.int64), values)


def of_number(table: Table, asked: Asked, naming: Naming) -> Truth:
    """The number of each case, (N, 1), in the model's unit.

    Raises:
        UserError: It is another number, or in another unit, or none that the model can answer.
    """
    _check_kind(table, asked, naming)
    theirs, values = table.target, table.values
    assert theirs is not None and values is not None
    if naming.lacks:
        raise UserError(f"{naming.key}.lacks is of classes and labels, and the model answers a number: leave it out")
    meant = _counterparts(theirs.names, asked.names, naming, "number")[0] != LEFT_OUT
    if theirs.unit != asked.unit:
        ours, other = (f"in {unit}" if unit else "without a unit" for unit in (asked.unit, theirs.unit))
        raise UserError(
            f"{naming.key}: the model answers {shown(asked.names[0])} {ours}, and its cases have it {other}: convert "
            "the column of its labels.csv, and say the unit in its ingest.target"
        )
    if asked.kind == "log_regression" and (wrong := values[:, 0] <= 0).any():
        raise UserError(
            f"{naming.key}: the model answers numbers above 0, and {wrong.sum()} of its cases have others, as "
            f"{table.case[wrong][0].decode()}: correct them, or train without ingest.target.log"
        )
    return Truth(np.full(len(table), meant), np.zeros(len(table), np.int64), values)


def _check_kind(table: Table, asked: Asked, naming: Naming) -> None:
    theirs = table.target or Target("classes", tuple(table.classes))
    if _answer(asked.target) != _answer(theirs):
        raise UserError(
            f"{naming.key}: the model answers {_answer(asked.target)}, and its cases have {_answer(theirs)}: its own "
            "ingest.target says what is asked of them"
        )


def _answer(of: Target) -> str:
    return "one class of several" if of.of_one_class else "a number" if of.of_number else "labels"


def _counterparts(theirs: Sequence[str], ours: Sequence[str], naming: Naming, a_class: str) -> np.ndarray:
    """Which of the model's names each of the other's is, (n,) int64, or `LEFT_OUT`.

    Args:
        a_class: What the names are of, for messages.
    """
    for name in naming.classes:
        if name not in theirs:
            raise UserError(f"{naming.key}.classes names '{shown(name)}', and it has {_listed(theirs)}")
    for name, as_ours in naming.classes.items():
        if as_ours is not None and as_ours not in ours:
            near = closest(as_ours, ours) or ours[0]
            raise UserError(
                f"{naming.key}.classes says that '{shown(name)}' is '{shown(as_ours)}', and the model has no such "
                f"{a_class}; it has {_listed(ours)}: as in `classes: {{{shown(name)}: {shown(near)}}}`, or null, which "
                "leaves it out"
            )
    wanted = [naming.classes.get(name, name) for name in theirs]
    strange = [name for name, as_ours in zip(theirs, wanted, strict=True) if as_ours not in (None, *ours)]
    if strange:
        first = strange[0]
        near = closest(first, ours) or ours[0]
        raise UserError(
            f"{naming.key}: the model has no {a_class} {_listed(strange)}; it has {_listed(ours)}: say which it is, or "
            f"leave its cases out, as in `classes: {{{shown(first)}: {shown(near)}}}` or `{{{shown(first)}: null}}`"
        )
    return np.array([LEFT_OUT if name is None else list(ours).index(name) for name in wanted], np.int64)


def _check_lacking(
    present: set[str], theirs: Sequence[str], ours: Sequence[str], naming: Naming, a_class: str, classes: str
) -> None:
    """Args: present: The names of the model's that a case is known of."""
    if wrong := [name for name in naming.lacks if name in present or name not in ours]:
        raise UserError(
            f"{naming.key}.lacks names '{shown(wrong[0])}', which it has, or which is no {a_class} of the model"
        )
    if lacking := [name for name in ours if name not in present and name not in naming.lacks]:
        raise UserError(
            f"{naming.key}: it has no case of the model's {a_class} {_listed(lacking)}; its {classes} are "
            f"{_listed(theirs)}. If one of these is meant: `classes: {{its name: {shown(lacking[0])}}}`; if "
            f"none is: `lacks: [{', '.join(map(shown, lacking))}]`: its scores are then of the other {classes}"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{shown(name)}'" for name in names[:NAMED]) + more
