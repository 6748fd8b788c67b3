"""A split that the raw data bring: kept as it is; what it leaves open is dealt."""

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.split import amounts, dealing, strata
from stages.lib.split.sites import Sites, left_out
from stages.lib.splits import OPEN, SPLITS, Table

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


def complete(
    cases: Table, fractions: dict[str, float], seed: int, sites: Sites | None = None, held: np.ndarray | None = None
) -> np.ndarray:
    """The given split of each case, and a dealt one where none is given. Prints what was dealt beside given ones.

    Cases without a split are dealt by the fractions. If all have one, and none is in validation (or test), that split
    is dealt out of the training cases, unless its fraction is 0.

    Args:
        cases: A group has one split, or none.
        fractions: Of the cases to deal, by split.
        sites: Then the test split is of whole ones.
        held: (N,) bool: frozen test cases; then no others are dealt to the test split.

    Returns:
        (N,) index into SPLITS.

    Raises:
        UserError: The cases to deal are too few, a class has none to train on, or a site would be on two sides.
    """
    split_of, is_free = cases.split_of.copy(), cases.split_of == OPEN
    is_partly_given = bool(is_free.any() and not is_free.all())
    shares, missing = dict(fractions), []
    if not is_free.any():
        numbers = np.bincount(split_of, minlength=len(SPLITS))
        missing = [name for name in ("validation", "test") if fractions[name] > 0 and not numbers[_at(name)]]
        shares |= {name: 0.0 for name in ("validation", "test") if name not in missing}
        is_free = (split_of == TRAIN) & bool(missing)
    is_dealt = is_free.copy()
    if held is not None:
        split_of[held] = TEST
    if sites:
        is_for_test = is_free & ((split_of == OPEN) | ("test" in missing)) & (split_of != TEST)  # train stays train
        fraction = shares["test"] if held is None else 0.0
        whole = is_for_test & left_out(cases.with_splits(split_of), sites, is_for_test, fraction, seed)
        split_of[whole] = TEST
        is_free &= split_of != TEST
        shares["test"], held = 0.0, None
    if is_free.any():
        of_free = None if held is None else held[is_free]
        if of_free is not None and not of_free.any():  # the frozen cases are in a test split that the raw data give
            of_free, shares["test"] = None, 0.0
        shares["train"] = 1 - shares["validation"] - shares["test"]
        split_of[is_free] = _deal(cases.select(is_free), shares, seed, of_free)
    if is_partly_given:
        say(f"{is_dealt.sum()} cases without a given split are dealt")
    for name in missing:
        dealt = (split_of == _at(name)).sum()
        say(f"the given split has no {name} cases: {dealt} of its training cases are dealt to it")
    in_training = cases.with_splits(split_of).numbers()[:, TRAIN]
    if not in_training.all():
        raise UserError(
            f"class '{cases.classes[int(in_training.argmin())]}' has no case in the training split: give it some (the "
            "split of the raw data, or other split.test_sites), or leave the class out (ingest.exclude)"
        )
    strata.check_training(cases.with_splits(split_of))
    return split_of


def _deal(cases: Table, fractions: dict[str, float], seed: int, held: np.ndarray | None = None) -> np.ndarray:
    """Deals cases, and says with figures where groups were too large for the fractions."""
    found = dealing.assign(cases, fractions, seed, held)
    if held is None:
        stratified = strata.stratified(cases, strata.smallest(fractions))
        for warning in amounts.unmet(stratified.with_splits(found), fractions):
            say(warning)
    return found


def _at(name: str) -> int:
    return SPLITS.index(name)
