"""The test cases that stay so, whatever happens to the data: a list that tools.freeze writes, and git keeps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.lib import splits
from stages.lib.core import outs
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from stages.lib.splits import OPEN, SPLITS, Table

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


class Frozen(NamedTuple):
    """The test cases, n of them."""

    path: Path
    case: np.ndarray  # (n,) NAME
    group: np.ndarray  # (n,) NAME, of each when it was frozen


def read(path: Path) -> Frozen:
    """Raises:
    UserError: The file is missing, or is none that `write` made.
    """
    if not path.exists():
        raise UserError(
            f"split.freeze: {path} not found: `python -m tools.freeze` with the dataset's name writes down its test "
            "cases, once; commit the file. One that was there: `git checkout` brings it back"
        )
    try:
        return Frozen(path, *splits.read_names(path))
    except DamagedOut as error:
        raise UserError(f"split.freeze: {error}; `git checkout -- {path}` brings back what was committed") from error


def write(path: Path, cases: Table) -> int:
    """Writes down the test cases; how many."""
    rows = cases.rows("test")
    names = (column[rows].astype(str).astype(object) for column in (cases.case, cases.group))
    outs.write_csv(path, pd.DataFrame(dict(zip(splits.NAME_COLUMNS, names, strict=True)), dtype=object))
    return len(rows)


def held(cases: Table, frozen: Frozen) -> np.ndarray:
    """The cases that are the test split: the frozen ones, and all others of their groups, also of those whose frozen
    case is gone. Says how many are gone and have joined.

    Args:
        cases: With the split that the raw data give.

    Returns:
        (N,) bool.

    Raises:
        UserError: None of the frozen cases is there any more, or the raw data put cases of their groups elsewhere.
    """
    is_frozen = np.isin(cases.case, frozen.case)
    number, there = len(frozen.case), int(is_frozen.sum())
    if not there:
        raise UserError(
            f"{frozen.path}: none of its {number} frozen test cases is among the {len(cases)} cases: it is of other "
            "data, or of the same under another identifier key; bring that back, or leave out split.freeze"
        )
    groups = np.union1d(cases.group[is_frozen], frozen.group)
    found = np.isin(cases.group, groups)
    elsewhere = found & (cases.split_of != OPEN) & (cases.split_of != TEST)
    if not np.isin(cases.split_of, (OPEN, TEST)).any():  # then the test split is dealt from the training cases
        elsewhere &= cases.split_of != TRAIN
    if elsewhere.any():
        first = cases.case[elsewhere][0].decode()
        raise UserError(
            f"{frozen.path}: {elsewhere.sum()} case(s) of frozen test groups, as {first} (`python -m tools.which "
            f"{first}`), are in another split by the raw data: mend that split, or leave out split.freeze"
        )
    joined = int(found.sum()) - there
    say(
        f"{there} frozen test cases"
        + (f", {number - there} more of {shown(frozen.path)} are gone" if there < number else "")
        + (f"; {joined} other case(s) of their groups join them" if joined else "")
    )
    numbers = cases.with_splits(np.where(found, TEST, OPEN)).numbers()[:, TEST]
    if without := [label for label, n in zip(cases.classes, numbers, strict=True) if not n]:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        say(
            f"warning: no frozen test case is of class {', '.join(without[:5])}{more}: nothing is measured of it; "
            "`python -m tools.freeze --anew` with the dataset's name freezes a new test split"
        )
    return found
