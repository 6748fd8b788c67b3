"""A whole other dataset as a test: its classes in the model's words, what the exported file says of its cases as they
are, and how far it is from what the model was trained on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.lib.cases import Cases
from stages.lib.core.errors import UserError
from stages.lib.core.nearest import closest
from stages.lib.core.progress import progress
from stages.lib.core.terminal import shown
from stages.lib.moments import Summary
from stages.lib.splits import Table
from stages.lib.validate.drift import drift

LEFT_OUT = -1  # a case that is not asked about
NAMED = 5


@dataclass(frozen=True)
class Naming:
    """How an external dataset's classes are called."""

    key: str  # of params.yaml, for messages: datasets.mine.study.external.clinic
    classes: Mapping[str, str | None]  # of the other's classes those that the model calls otherwise; None: left out
    lacks: Sequence[str]  # classes of the model that the other has not


def in_the_models_words(table: Table, classes: Sequence[str], naming: Naming) -> np.ndarray:
    """The model's class of each case, (N,) index, or LEFT_OUT.

    Args:
        table: The other dataset's cases.
        classes: The model's.

    Raises:
        UserError: A class has no counterpart, or a name in params.yaml is none.
    """
    of: list[int] = []
    for name in naming.classes:
        if name not in table.classes:
            raise UserError(f"{naming.key}.classes names '{shown(name)}', and it has {_listed(table.classes)}")
    strange = []
    for name in table.classes:
        wanted = naming.classes.get(name, name)
        if wanted is not None and wanted not in classes:
            strange.append(name)
        of.append(LEFT_OUT if wanted is None or wanted not in classes else list(classes).index(wanted))
    if strange:
        first = strange[0]
        near = closest(naming.classes.get(first) or first, classes) or classes[0]
        raise UserError(
            f"{naming.key}: the model has no class {_listed(strange)}; it has {_listed(classes)}: say which it is, or "
            f"leave its cases out, as in `classes: {{{shown(first)}: {shown(near)}}}` or `{{{shown(first)}: null}}`"
        )
    found = np.array(of, np.int64)[table.label_of]
    present = {classes[k] for k in np.unique(found[found != LEFT_OUT])}
    if wrong := [name for name in naming.lacks if name in present or name not in classes]:
        raise UserError(
            f"{naming.key}.lacks names '{shown(wrong[0])}', which it has, or which is no class of the model"
        )
    if lacking := [name for name in classes if name not in present and name not in naming.lacks]:
        raise UserError(
            f"{naming.key}: it has no case of the model's class {_listed(lacking)}; its classes are "
            f"{_listed(table.classes)}. If one of these is meant: `classes: {{its name: {shown(lacking[0])}}}`; if "
            f"none is: `lacks: [{', '.join(map(shown, lacking))}]`: its scores are then of the other classes"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(f"'{shown(name)}'" for name in names[:NAMED]) + more


def check_input(cases: Cases, contract: Mapping[str, Any], key: str, reading: Mapping[str, Any]) -> None:
    """Checks that cases are of what the model takes, read in the way in which its training data were.

    Args:
        contract: The `input` of the file's metadata.
        key: Of params.yaml, for messages.
        reading: What the other dataset's section `ingest` says on how files are read.

    Raises:
        UserError: They are not.
    """
    asked = contract.get("reading", {})
    for name in sorted({*asked, *reading}):
        if asked.get(name) != reading.get(name):
            ours, theirs = asked.get(name, "its default"), reading.get(name, "its default")
            raise UserError(
                f"{key}: the model's data were read with ingest.{name}: {ours}, its own with {theirs}: read both alike"
            )
    if contract["axes"][1:] != cases.axes or contract["units"] != cases.units:
        raise UserError(
            f"{key}: the model takes {_kind(contract['axes'][1:], contract['units'])}, and its cases are "
            f"{_kind(cases.axes, cases.units)}"
        )
    channels = sorted(set(cases.shapes[:, 0].tolist()))
    if strange := [number for number in channels if number not in contract["channels"]]:
        raise UserError(
            f"{key}: the model takes {' or '.join(map(str, contract['channels']))} channel(s), and cases have "
            f"{strange[0]}: set its ingest.colour, or the model's dataset.colour, which makes it take grey and colour"
        )
    if strange := [name for name in cases.dtypes if not np.can_cast(name, contract["dtype"], "safe")]:
        raise UserError(
            f"{key}: the model takes {contract['dtype']}, and cases are {strange[0]}: their numbers would mean "
            "something else; convert the files, or train on such data"
        )
    if "spacing_mm" in contract["inputs"] and np.isnan(cases.spacings_mm).any():
        unknown = int(np.isnan(cases.spacings_mm).any(axis=1).sum())
        raise UserError(
            f"{key}: the model resamples to one spacing, and {unknown} cases have none: ingest.spacing_mm says it"
        )


def _kind(axes: str, units: str) -> str:
    return ("pictures" if axes == "CHW" else "volumes") + (f" in {units}" if units else " without a unit")


def trained_on(groups: np.ndarray, training: Table) -> np.ndarray:
    """Which cases are of a group (a patient) that the model was trained or chosen on, (N,) bool."""
    return np.isin(groups, training.group[np.isin(training.split_of, (0, 1))])


def ask(
    run: Callable[..., Any], cases: Cases, rows: np.ndarray, batch_size: int, key: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """What an exported file says of cases as they were read: (n, K) float64, and (n,) its second output, if it has one.

    Args:
        run: A `formats.runner.Runner`.
        rows: (n,) positions of the cases.
        key: Of params.yaml, for messages.

    Raises:
        UserError: It gives no probabilities of one class of several.
    """
    found: np.ndarray | None = None
    unlike = np.full(len(rows), np.nan)
    for which in progress(list(_alike(cases, rows, batch_size)), "external", "case", len(rows), len):
        x = np.stack([cases[int(i)] for i in rows[which]])
        spacing = cases.spacings_mm[rows[which[0]]]
        said = run(x, None if np.isnan(spacing).any() else spacing)
        answer = np.asarray(said[0], np.float64)
        found = np.empty((len(rows), answer.shape[1])) if found is None else found
        found[which] = answer
        if len(said) > 1:
            unlike[which] = said[1]
    assert found is not None
    if not np.isfinite(found).all() or np.abs(found.sum(axis=1) - 1).max() > 1e-3:
        raise UserError(
            f"{key}: the model gives no probabilities of one class of several, which are all that is scored"
        )
    return found, None if np.isnan(unlike).all() else unlike


def _alike(cases: Cases, rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Cases of one dtype, shape and spacing, at most so many together: which of the rows."""
    spacings = np.ascontiguousarray(cases.spacings_mm[rows]).view(np.int64)  # nan is equal to itself so
    dtypes = np.unique(cases.dtype_of[rows], return_inverse=True)[1]
    kinds = np.unique(np.column_stack([dtypes, cases.shapes[rows], spacings]), axis=0, return_inverse=True)[1]
    kinds = kinds.reshape(-1)
    for kind in range(kinds.max(initial=-1) + 1):
        which = np.flatnonzero(kinds == kind)
        for at in range(0, len(which), most):
            yield which[at : at + most]


def moved(
    training: Sequence[Summary], others: Sequence[Summary], training_groups: int, other_groups: int
) -> list[dict[str, Any]]:
    """How far each channel's intensities are from those in training; [] where the channels are of another number."""
    if len(training) != len(others):
        return []
    found = []
    for ours, theirs in zip(training, others, strict=True):
        far = drift(vars(ours), vars(theirs), training_groups, other_groups)
        pairs = {
            key: [getattr(of, key) for of in (ours, theirs)] for key in ("mean", "deviation", "minimum", "maximum")
        }
        found.append(pairs | {"distance": far.distance, "p": far.p})
    return found


def shares(counts: Mapping[str, int], classes: Sequence[str]) -> dict[str, float]:
    """The fraction of each class."""
    total = max(1, sum(counts.values()))
    return {name: counts.get(name, 0) / total for name in classes}
