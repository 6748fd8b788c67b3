"""Deals the cases to training, validation and test: groups stay whole, classes get the same proportions everywhere.

A group that alone holds more of a class than a whole split should, as one of 83 % of its cases, goes to training, as
far as other groups can fill validation and test.
"""

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.split.strata import smallest, stratified
from stages.lib.splits import BLOCK, SPLITS, Table

LARGEST_OF_REST = 0.5  # of the cases beside a settled test split, the fraction that validation gets at most


def assign(cases: Table, fractions: dict[str, float], seed: int, held: np.ndarray | None = None) -> np.ndarray:
    """Assigns every case to a split; nearly all keep theirs when cases are added, removed or relabelled.

    Within each class or stratum (of a group: its most frequent one) the groups are ordered by a hash of the seed and
    their name: the first go to test, the next to validation, the rest to training. A further group moves no more than
    the few at the two borders, where a fresh permutation, or scikit-learn's StratifiedGroupKFold, would deal all anew.

    A group with a larger share of a class than validation or test should have moves back in that order, the further the
    larger it is: by one length of the whole order for each share that it holds too much. So the largest are in
    training, and there is no size at which a group jumps.

    Args:
        cases: A group may hold several classes.
        fractions: Fraction of the cases that each split should get; they add up to 1.
        held: (N,) bool, of whole groups: the test split, to which none is dealt. To begin with, when these are the ones
            that would be dealt to it, the others go where they would go as well.

    Returns:
        (N,) int8, index into SPLITS.

    Raises:
        UserError: A class has too few groups to be in every split that is asked for.
    """
    wanted = [split for split in SPLITS if fractions[split] > 0 and (held is None or split != "test")]
    of_one_class = cases.target is None or cases.target.of_one_class
    cases = stratified(cases, smallest(fractions))
    groups, group_of, sizes = _groups(cases)
    class_of, groups_with, weights = _classes(cases, group_of, len(groups))
    is_held = np.zeros(len(groups), bool)
    if held is not None:
        is_held[group_of[held]] = True
        rest = np.unique(group_of[~held] * len(cases.classes) + cases.label_of[~held])
        groups_with = np.bincount(rest % len(cases.classes), minlength=len(cases.classes))
    if of_one_class:
        _check_enough_groups(cases.classes, groups_with, wanted)
    hashed = _in_order_of_hashes(groups, seed)
    split_of = np.empty(len(groups), np.int8)
    owed = dict.fromkeys(fractions, 0.0)
    for label in range(len(cases.classes)):
        stratum = hashed[class_of[hashed] == label]
        if len(stratum):
            deal = _deal if held is None else partial(_deal_beside, is_held[stratum])
            given = fractions if of_one_class else _with_owed(fractions, owed, sizes[stratum].sum())
            split_of[stratum] = deal(sizes[stratum], weights[stratum], given)
            if not of_one_class:
                owed = _still_owed(fractions, owed, sizes[stratum], split_of[stratum])
    found = split_of[group_of]
    if of_one_class:
        _check_every_class_everywhere(cases.with_splits(found), wanted)
    return found


def choose(cases: Table, fraction: float, seed: int) -> np.ndarray:
    """Whole groups that come nearest to a fraction of the cases, whatever their classes: one at least, and not all.

    Args:
        cases: Of two groups or more.

    Returns:
        (N,) bool.
    """
    groups, group_of, sizes = _groups(cases)
    weights = _classes(cases, group_of, len(groups))[2]
    order = _in_order_of_hashes(groups, seed)
    chosen = np.empty(len(groups), bool)
    dealt = _deal(sizes[order], weights[order], {"test": fraction, "validation": 0.0, "train": 1 - fraction})
    chosen[order] = dealt == SPLITS.index("test")
    return chosen[group_of]


class Stratum(NamedTuple):
    """The groups of a class, n of them, in the order of their hashes."""

    groups: np.ndarray  # (n,) positions among all groups
    sizes: np.ndarray  # (n,) cases of each
    of_group: np.ndarray  # (N,) the group of each case, of all classes


def strata(cases: Table, seed: int) -> Iterator[Stratum]:
    """Class by class, the groups that count as it; a class that no group counts as is left out."""
    groups, group_of, sizes = _groups(cases)
    class_of = _classes(cases, group_of, len(groups))[0]
    hashed = _in_order_of_hashes(groups, seed)
    for label in range(len(cases.classes)):
        stratum = hashed[class_of[hashed] == label]
        if len(stratum):
            yield Stratum(stratum, sizes[stratum], group_of)


def _groups(cases: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups, the group of each case, and how many cases each has."""
    if cases.is_ungrouped():
        return cases.case, np.arange(len(cases)), np.ones(len(cases), np.int32)
    groups, group_of, sizes = np.unique(cases.group, return_inverse=True, return_counts=True)
    return groups, group_of, sizes


def _classes(cases: Table, group_of: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most frequent class of each group, of several the first by name; how many groups have cases of a class; and
    the largest fraction that each group has of the cases of any class.

    Args:
        group_of: Of each case.
        groups: How many there are.
    """
    totals = np.bincount(cases.label_of, minlength=len(cases.classes))
    if groups == len(cases):
        class_of = np.empty(groups, np.int32)
        class_of[group_of] = cases.label_of
        return class_of, totals, 1 / totals[class_of]
    # Each pair of a group and a class that it has cases of, once: a table of all pairs would not fit into memory.
    pairs, cases_of = np.unique(group_of * len(cases.classes) + cases.label_of, return_counts=True)
    of_group, of_class = np.divmod(pairs, len(cases.classes))
    order = np.lexsort((of_class, -cases_of, of_group))
    class_of = of_class[order][np.unique(of_group[order], return_index=True)[1]]
    starts = np.flatnonzero(np.diff(of_group, prepend=-1))
    weights = np.maximum.reduceat(cases_of / totals[of_class], starts)
    return class_of, np.bincount(of_class, minlength=len(cases.classes)), weights


def _in_order_of_hashes(groups: np.ndarray, seed: int) -> np.ndarray:
    """The positions of the groups, in the order of a SHA-256 of the seed and their name."""
    first = np.empty(len(groups), np.uint64)
    for at in range(0, len(groups), BLOCK):
        names = groups[at : at + BLOCK].tolist()
        first[at : at + len(names)] = np.frombuffer(b"".join(_hash(seed, name)[:8] for name in names), ">u8")
    order = np.argsort(first, kind="stable")
    first = first[order]
    if not (first[1:] == first[:-1]).any():
        return order
    return np.array(sorted(range(len(groups)), key=lambda i: _hash(seed, bytes(groups[i]))))  # 64 bits did not tell all


def _hash(seed: int, group: bytes) -> bytes:
    return sha256(b"%d %s" % (seed, group)).digest()


def _deal(sizes: np.ndarray, weights: np.ndarray, fractions: dict[str, float]) -> np.ndarray:
    """Cuts the ordered groups where the cases so far come nearest to each fraction, leaving each split a group.

    Args:
        sizes: Number of cases of each group, (n,), in the order of their hashes.
        weights: The largest fraction that each has of a class, (n,).

    Returns:
        The split of each group, (n,).
    """
    names = [split for split in ("test", "validation", "train") if fractions[split] > 0]
    shares = [fractions[name] for name in names[:-1]]
    order = np.arange(len(sizes))
    is_uneven = bool(shares) and weights.max() > min(shares) and weights.min() < weights.max()
    if is_uneven:  # groups of one size are all alike: moved back by the same, they would stay where they are
        order = np.argsort(order / len(order) + _excess(weights, max(shares)), kind="stable")
    reached = np.concatenate([[0], sizes[order].cumsum()]) / sizes.sum()  # fraction of the cases before each cut
    cuts, wanted = [0], 0.0
    for i, share in enumerate(shares, start=1):
        wanted += share
        cuts.append(min(max(_nearest(reached, wanted), cuts[-1] + 1), max(len(sizes) - (len(names) - i), cuts[-1])))
    if is_uneven and len(shares) == 2 and cuts[2] > 1:
        order[: cuts[2]], cuts[1] = _parted(order[: cuts[2]], sizes, weights, shares)
    cuts.append(len(sizes))
    found = np.empty(len(sizes), np.int8)
    found[order] = np.repeat([SPLITS.index(name) for name in names], np.diff(cuts))
    return found


def _with_owed(fractions: dict[str, float], owed: dict[str, float], cases: int) -> dict[str, float]:
    """The fractions of a stratum, with what the strata before it were too small to give.

    Args:
        owed: Cases that each split lacks so far; below 0, it has too many.
        cases: Of the stratum.
    """
    found = {name: min(max(0.0, share + owed[name] / cases), 1.0) for name, share in fractions.items()}
    beside = sum(found[name] for name in found if name != "train")
    found |= {name: share / max(1.0, beside) for name, share in found.items() if name != "train"}
    return found | {"train": max(0.0, 1 - beside)}


def _still_owed(
    fractions: dict[str, float], owed: dict[str, float], sizes: np.ndarray, split_of: np.ndarray
) -> dict[str, float]:
    given = {name: sizes[split_of == SPLITS.index(name)].sum() for name in fractions}
    return {name: owed[name] + share * sizes.sum() - given[name] for name, share in fractions.items()}


def _deal_beside(
    is_held: np.ndarray, sizes: np.ndarray, weights: np.ndarray, fractions: dict[str, float]
) -> np.ndarray:
    """As `_deal`, where test is settled: where it is what would be dealt to it, as when it has just been frozen, the
    others go where they would go as well; else validation gets its share of the cases, from those that are not held.

    Args:
        is_held: Whether each group is in test, (n,).
    """
    test, validation = SPLITS.index("test"), SPLITS.index("validation")
    found = _deal(sizes, weights, fractions)
    if np.array_equal(found == test, is_held):
        return found
    found = np.where(is_held, test, SPLITS.index("train")).astype(np.int8)
    free = np.flatnonzero(~is_held)
    if len(free) > 1 and fractions["validation"]:
        fraction = fractions["validation"] * sizes.sum() / sizes[free].sum()
        shares = {"test": 0.0, "validation": min(fraction, LARGEST_OF_REST), "train": 1.0}
        dealt = _deal(sizes[free], weights[free], shares)
        found[free[dealt == validation]] = validation
    return found


def _parted(order: np.ndarray, sizes: np.ndarray, weights: np.ndarray, shares: list[float]) -> tuple[np.ndarray, int]:
    """The groups that are not for training, those for test first, and how many these are.

    What is too large for one of the two goes to the other. Where large groups leave both more or fewer cases than were
    wanted, both get them in the proportion of their shares.

    Args:
        order: Their positions.
        shares: Of test and validation.
    """
    test, validation = shares
    to_test = np.arange(len(order)) / len(order) + _excess(weights[order], test) - _excess(weights[order], validation)
    order = order[np.argsort(to_test, kind="stable")]
    reached = np.concatenate([[0], sizes[order].cumsum()]) / sizes.sum()
    wanted = reached[-1] * test / (test + validation)
    return order, min(max(_nearest(reached, wanted), 1), len(order) - 1)


def _excess(weights: np.ndarray, share: float) -> np.ndarray:
    """How many times its share each group holds beyond the first, 0 where it holds no more than that."""
    return np.maximum(0, weights / share - 1)


def _nearest(reached: np.ndarray, wanted: float) -> int:
    return int(np.abs(reached - wanted).argmin())


def _check_enough_groups(classes: list[str], groups: np.ndarray, wanted: list[str]) -> None:
    """Args:
    groups: Of each class, how many have a case of it.
    """
    if len(classes) < 2:
        raise UserError(
            f"a classifier needs two classes, the cases have but '{', '.join(classes) or 'none'}': the raw data "
            "needs a folder for each class, or a labels.csv at its top; of ingest.target.columns or readers, each "
            "class needs cases of which it has the largest share"
        )
    few = np.flatnonzero(groups < len(wanted))
    if len(few):
        raise UserError(
            f"class '{classes[few[0]]}' has {groups[few[0]]} group(s) (patients); {', '.join(wanted)} need one each: "
            "add cases, leave the class out, set split.validation or split.test to 0, or, if groups are not the true "
            "ones, say which files belong together (labels.csv's column group, ingest.group)"
        )


def _check_every_class_everywhere(cases: Table, wanted: list[str]) -> None:
    numbers = cases.numbers()[:, [SPLITS.index(name) for name in wanted]]
    for label, row in zip(cases.classes, numbers, strict=True):
        if not row.all():
            raise UserError(
                f"class '{label}' has no case in {wanted[int(row.argmin())]}: too few groups for these fractions; "
                "raise split.validation or split.test, try another split.seed, or add cases"
            )
