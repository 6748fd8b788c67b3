"""A split that the raw data bring: kept as it is; what it leaves open is dealt."""

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.split import amounts, dealing
from stages.lib.splits import OPEN, SPLITS, Table

TRAIN = SPLITS.index("train")


def complete(cases: Table, fractions: dict[str, float], seed: int) -> np.ndarray:
    """The given split of each case, and a dealt one where none is given. Prints what was dealt beside given ones.

    Cases without a split are dealt by the fractions. If all have one, and none is in validation (or test), that split
    is dealt out of the training cases, unless its fraction is 0.

    Args:
        cases: A group has one split, or none.
        fractions: Of the cases to deal, by split.

    Returns:
        (N,) index into SPLITS.

    Raises:
        UserError: The cases to deal are too few, or a class has none to train on.
    """
    split_of = cases.split_of.copy()
    is_open = split_of == OPEN
    if is_open.all():
        return _deal(cases, fractions, seed)
    numbers = np.bincount(split_of[~is_open], minlength=len(SPLITS))
    if is_open.any():
        split_of[is_open] = _deal(cases.select(is_open), fractions, seed)
        say(f"{is_open.sum()} cases without a given split are dealt")
    elif missing := [name for name in ("validation", "test") if fractions[name] > 0 and not numbers[_at(name)]]:
        shares = {name: fractions[name] if name in missing else 0.0 for name in ("validation", "test")}
        train = split_of == TRAIN
        split_of[train] = _deal(cases.select(train), {"train": 1 - sum(shares.values()), **shares}, seed)
        for name in missing:
            dealt = (split_of == _at(name)).sum()
            say(f"the given split has no {name} cases: {dealt} of its training cases are dealt to it")
    in_training = cases.with_splits(split_of).numbers()[:, TRAIN]
    if not in_training.all():
        raise UserError(
            f"class '{cases.classes[int(in_training.argmin())]}' has no case in the training split that the raw data "
            "give: move some there, or leave the class out (ingest.exclude)"
        )
    return split_of


def _deal(cases: Table, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Deals cases, and says with figures where groups were too large for the fractions."""
    found = dealing.assign(cases, fractions, seed)
    for warning in amounts.unmet(cases.with_splits(found), fractions):
        say(warning)
    return found


def _at(name: str) -> int:
    return SPLITS.index(name)
