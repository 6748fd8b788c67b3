"""What cases are dealt alike by, where they are not of one class: their rarest labels, or how large their number is.

Sechidis et al. (2011, On the Stratification of Multi-label Data) deal the cases of the rarest label first, as later
ones can't be made up for. Here a case's stratum is the rarest label that it has, and the next rarest that it has or has
not where both parts are large enough; a stratum is dealt as a class is. So nearly all cases keep their split when cases
are added, which the iterative algorithm does not promise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.splits import SPLITS, Table

STRATA = 15  # of numbers, at most: with more, more cases change their split when cases are added
LEAST = 3  # cases of each part of a stratum of labels, in a split of the smallest share
IN_SPLITS = pd.Index(SPLITS, name="split")
NOTHING = ""  # the stratum of cases without a label: no label is called so


def smallest(fractions: Mapping[str, float]) -> float:
    """The share of the smallest split beside training; 0 where there is none."""
    return min((share for name, share in fractions.items() if name != "train" and share > 0), default=0.0)


def stratified(cases: Table, share: float) -> Table:
    """The cases with strata for classes; the same table where cases are of one class.

    Args:
        share: Fraction of the cases in the smallest of the splits or folds that they are dealt to. Strata of numbers
            have one case of it each where cases are few.
    """
    if cases.target is None or cases.values is None or cases.target.of_one_class:
        return cases
    if cases.target.of_number:
        values = cases.values[:, 0]
        number = max(1, min(STRATA, int(len(values) * share + 1e-9)))
        edges = np.unique(np.quantile(values, np.arange(1, number) / number))
        present, strata = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)
        names = [f"{cases.target.name}, part {k + 1} of {len(present)}" for k in range(len(present))]
    else:
        fewest = LEAST / share if share else np.inf
        strata, names = _by_labels(cases.values == 1, cases.target.names, fewest)
    return replace(cases, classes=names, label_of=strata.astype(np.int32))


def _by_labels(there: np.ndarray, names: Sequence[str], fewest: float) -> tuple[np.ndarray, list[str]]:
    """The stratum of each case, and what each is called: "rare, not common".

    Args:
        there: (N, K) bool, whether each label holds.
        fewest: Cases of each part that a stratum of a label is cut into.
    """
    order = np.argsort(there.sum(axis=0), kind="stable")  # the rarest label first
    found = np.empty(len(there), np.int64)
    called: list[str] = []
    waiting = [(np.arange(len(there)), 0, NOTHING)]  # cases, how many labels they are told apart by, and what as
    while waiting:
        rows, told, name = waiting.pop()
        for at, k in enumerate(order[told:], start=told + 1):
            holds = there[rows, k]
            if name == NOTHING:
                waiting.append((rows[holds], at, names[k]))
                rows = rows[~holds]
            elif fewest <= holds.sum() <= len(rows) - fewest:
                waiting.append((rows[holds], at, f"{name}, {names[k]}"))
                rows, name = rows[~holds], f"{name}, not {names[k]}"
        if len(rows):
            found[rows] = len(called)
            called.append(name)
    return found, called


def named(cases: Table) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """What a message calls cases by: their class, or each label that they have, never the stratum of their labels.

    Returns:
        The names, and in pairs the position of a case and that of a name that it has, (P,) int64 each.
    """
    if cases.target is None or cases.values is None or cases.target.kind != "multilabel":
        return cases.classes, np.arange(len(cases)), cases.label_of.astype(np.int64)
    rows, label = np.nonzero(cases.values == 1)
    return cases.target.names, rows, label


def tally(cases: Table, side_of: np.ndarray | None = None, sides: pd.Index = IN_SPLITS) -> pd.DataFrame:
    """How many cases each split, or fold, has: of each class, or where each label is there and where it is not.

    Args:
        side_of: (N,) the position of each case's fold in `sides`, below 0 of a case in none; None: its split.
    """
    side_of = cases.split_of if side_of is None else side_of
    if cases.target is None or cases.values is None or cases.target.kind != "multilabel":
        dealt = (side_of >= 0) & (side_of < len(sides))
        both = cases.label_of[dealt].astype(np.int64) * len(sides) + side_of[dealt]
        counts = np.bincount(both, minlength=len(cases.classes) * len(sides)).reshape(-1, len(sides))
        return pd.DataFrame(counts, pd.Index(cases.classes, name="label"), sides)
    rows = {
        f"{name}{said}": [int((of[side_of == side] == answer).sum()) for side in range(len(sides))]
        for name, of in zip(cases.target.names, cases.values.T, strict=True)
        for said, answer in (("", 1), (": not", 0))
    }
    return pd.DataFrame(rows, sides).T.rename_axis("label")


def check_training(cases: Table) -> None:
    """Checks that the training split can teach: that a case of it counts, and that each label is there and is not.

    Raises:
        UserError: It can't.
    """
    if cases.weight is not None and not cases.weight[cases.rows("train")].any():
        raise UserError(
            "all training cases have a weight of 0: give some of them another, or deal them by another seed"
        )
    if cases.target is None or cases.target.kind != "multilabel":
        return
    table = tally(cases)["train"]
    for name in cases.target.names:
        for row, what in ((name, "with"), (f"{name}: not", "without")):
            if not table[row]:
                raise UserError(
                    f"the label '{name}' has no training case {what} it: add cases, or take it out of "
                    "ingest.target.columns (or of the cells of ingest.target.column)"
                )


def few(cases: Table, fewest: int) -> list[str]:
    """The labels of which validation or test has fewer than so many cases with or without them, one text each."""
    if cases.target is None or cases.target.kind != "multilabel":
        return []
    table = tally(cases)
    return [
        f"{label} {count} {split}"
        for split in ("test", "validation")
        if (cases.split_of == SPLITS.index(split)).any()
        for label, count in table[split].items()
        if count < fewest
    ]
