"""A whole other dataset as a test: what the exported file says of its cases as they are, and how far it is from what
the model was trained on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stages.lib.cases import Cases
from stages.lib.core.errors import UserError
from stages.lib.core.progress import progress
from stages.lib.moments import Summary
from stages.lib.splits import Table
from stages.lib.validate.drift import drift
from stages.lib.validate.kinds.kind import Kind


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
    run: Callable[..., Any], kind: Kind, cases: Cases, rows: np.ndarray, batch_size: int, key: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """What an exported file says of cases as they were read: (n, K) float64, and (n,) its second output, if it has one.

    Args:
        run: A `formats.runner.Runner`.
        kind: What it is to answer.
        rows: (n,) positions of the cases.
        key: Of params.yaml, for messages.

    Raises:
        UserError: It answers something else.
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
    if found.shape[1] != len(kind.outputs) or not np.isfinite(found).all() or not kind.possible(found):
        raise UserError(f"{key}: the model does not answer {kind.answer}, as its metadata say: export it again")
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
