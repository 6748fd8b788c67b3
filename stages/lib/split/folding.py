"""Deals the cases outside of the test split to folds: groups stay whole, each class is spread over the folds evenly.

Within each class the groups are in the order of a hash of the seed and their name, as in `dealing`, and a group goes to
the fold in which the middle of its cases falls, if the class is cut into equal parts along that order. So nearly all
cases keep their fold when some are added. A group that holds more of its class than a fold should has a fold for
itself, and the others are spread over the rest.
"""

from heapq import heapify, heapreplace

import numpy as np
import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.split import dealing
from stages.lib.split.sites import Sites, check_groups
from stages.lib.splits import Table

MOST_UNEVEN = 1.5  # times the size that a fold should have
NAMED = 5


def deal(cases: Table, folds: int, seed: int) -> np.ndarray:
    """The fold of each case, (N,) int32.

    Args:
        cases: Those outside of the test split, with strata for classes (`strata.stratified`); a group may hold several,
            and counts as its most frequent one.

    Raises:
        UserError: There are fewer groups than folds, or a fold would have all cases of a class.
    """
    strata = list(dealing.strata(cases, seed))
    of_group = strata[0].of_group if strata else np.zeros(0, np.int64)
    number = int(of_group.max(initial=-1)) + 1
    if number < folds:
        raise UserError(f"study.folds is {folds}: there are only {number} groups (patients) outside of the test split")
    fold_of_group = np.empty(number, np.int32)
    sizes = np.zeros(folds, np.int64)  # cases of each fold so far
    for stratum in strata:
        fold_of_group[stratum.groups] = _spread(stratum.sizes, folds, sizes)
    found = fold_of_group[of_group]
    _check_classes(cases, found, folds)
    if len(there := np.unique(found)) < folds:
        raise UserError(
            f"study.folds is {folds}, and only {len(there)} of these would have a case, as groups stay whole and are "
            "dealt by class: take fewer"
        )
    return found


def _spread(sizes: np.ndarray, folds: int, before: np.ndarray) -> np.ndarray:
    """The fold of each group of a class.

    Args:
        sizes: Their numbers of cases, (n,), in the order of their hashes.
        before: The number of cases that each fold has of other classes, (folds,); these are added.
    """
    found = np.full(len(sizes), -1, np.int32)
    free = list(range(folds))
    is_large = sizes * folds > sizes.sum()
    if len(sizes) < folds:  # by their middles all such classes would be in the same folds, and none in the others
        is_large[:] = True
    for i in sorted(np.flatnonzero(is_large), key=lambda i: -sizes[i]):
        found[i] = min(free, key=lambda fold: before[fold])
        free.remove(found[i])
    rest = np.flatnonzero(found < 0)
    middles = (np.cumsum(sizes[rest]) - sizes[rest] / 2) / max(1, sizes[rest].sum())
    found[rest] = np.array(free, np.int32)[(middles * len(free)).astype(int).clip(max=len(free) - 1)]
    np.add.at(before, found, sizes)
    return found


def by_site(cases: Table, sites: Sites, folds: int) -> np.ndarray:
    """The fold of each case, (N,) int32: of whole sites. With as many folds as sites, each is one site, in the order of
    their names; else the largest go first, each to the fold that is smallest by then.

    Raises:
        UserError: There are fewer sites than folds, a group is of two sites, or a fold would have all cases of a class.
    """
    check_groups(cases, sites)
    present = np.unique(sites.site_of)
    if len(present) < folds:
        raise UserError(
            f"study.folds is {folds}, and outside of the test split {sites.column} has {len(present)} value(s), "
            f"{sites.listed(set(present.tolist()))}: a fold needs a whole one (split.test: 0 leaves none for the test)"
        )
    fold_of_site = np.full(len(sites.names), -1, np.int32)
    if len(present) == folds:
        fold_of_site[present] = np.arange(folds)
    else:
        number_of = np.bincount(sites.site_of, minlength=len(sites.names))
        smallest = [(0, fold) for fold in range(folds)]
        heapify(smallest)
        for site in sorted(present.tolist(), key=lambda site: (-number_of[site], site)):
            size, fold = smallest[0]
            heapreplace(smallest, (size + int(number_of[site]), fold))
            fold_of_site[site] = fold
    found = fold_of_site[sites.site_of]
    _check_classes(cases, found, folds)
    return found


def numbers(cases: Table, fold_of: np.ndarray, folds: int) -> np.ndarray:
    """How many cases of each class each fold has: (classes, folds)."""
    which = fold_of >= 0
    both = cases.label_of[which] * folds + fold_of[which]
    return np.bincount(both, minlength=len(cases.classes) * folds).reshape(-1, folds)


def warnings(counted: pd.DataFrame, sizes: np.ndarray) -> list[str]:
    """Sentences on folds of which nothing is learnt about a class, and on folds of very different size.

    Args:
        counted: How many cases of each class, or of each label, each fold has (`strata.tally`).
        sizes: (folds,) their cases.
    """
    if len(sizes) < 2:
        return []
    found = []
    in_folds = (counted > 0).sum(axis=1)
    if len(lacking := in_folds[(in_folds > 0) & (in_folds < len(sizes))]):
        listed = ", ".join(f"{name} in {number}" for name, number in lacking[:NAMED].items())
        more = f" and {len(lacking) - NAMED} more classes" if len(lacking) > NAMED else ""
        found.append(
            f"warning: classes that are not in all {len(sizes)} folds, as their groups are too few: {listed}{more}"
        )
    if sizes.max() > MOST_UNEVEN * sizes.sum() / len(sizes):
        found.append(
            f"warning: folds of {sizes.min()} to {sizes.max()} cases, as groups (patients, or whole sites of split.by) "
            "stay whole: the scores over folds differ by their cases, too"
        )
    return found


def check_trainings(cases: Table, fold_of: np.ndarray, folds: int) -> None:
    """Checks that each training has something to learn: a case that counts, and two of different numbers.

    Raises:
        UserError: One has not.
    """
    more = "add cases, take fewer folds, or deal them by another split.seed"
    for fold in range(folds):
        counts = fold_of != fold
        if cases.weight is not None:
            counts &= cases.weight > 0
        if not counts.any():
            raise UserError(f"all cases that are trained on while fold {fold} is held out have a weight of 0: {more}")
        if cases.target is None or cases.values is None or not cases.target.of_number:
            continue
        if len(np.unique(cases.values[counts, 0])) < 2:
            raise UserError(
                f"all cases that are trained on while fold {fold} is held out have the same {cases.target.name}: {more}"
            )


def untaught(cases: Table, fold_of: np.ndarray, folds: int) -> list[str]:
    """A warning of labels that a training sees but with, or but without: what it says of them is no answer."""
    if cases.target is None or cases.values is None or cases.target.kind != "multilabel":
        return []
    found = []
    for k, name in enumerate(cases.target.names):
        for answer, what in ((1, "with"), (0, "without")):
            lacking = [f for f in range(folds) if not (cases.values[fold_of != f, k] == answer).any()]
            found += [f"'{name}' ({what} it: only in fold {fold})" for fold in lacking]
    if not found:
        return []
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [
        f"warning: labels that a training knows no case of, which says nothing of them then: {', '.join(found[:NAMED])}"
        f"{more}; add cases of other groups"
    ]


def _check_classes(cases: Table, fold_of: np.ndarray, folds: int) -> None:
    """Raises:
    UserError: A class is in one fold alone, so that the training on the others would never see it.
    """
    alone = np.flatnonzero((numbers(cases, fold_of, folds) > 0).sum(axis=1) == 1)
    if len(alone) and (cases.target is None or cases.target.of_one_class):
        first = int(alone[0])
        fold = int(fold_of[cases.label_of == first][0])
        raise UserError(
            f"class '{cases.classes[first]}' is in fold {fold} alone, and so would be trained on by nobody while that "
            "is held out: it needs cases of two groups (of two sites, where split.by is set); add some, or leave the "
            "class out (ingest.exclude)"
        )
