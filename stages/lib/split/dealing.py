"""Deals the cases to training, validation and test: groups stay whole, classes get the same proportions everywhere."""

from hashlib import sha256

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.splits import BLOCK, SPLITS, Table


def assign(cases: Table, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Assigns every case to a split; nearly all keep theirs when cases are added, removed or relabelled.

    Within each class (of a group: its most frequent one) the groups are ordered by a hash of the seed and their name:
    the first go to test, the next to validation, the rest to training. A further group moves no more than the few at
    the two borders, where a fresh permutation, or scikit-learn's StratifiedGroupKFold, would deal all anew.

    Args:
        cases: A group may hold several classes.
        fractions: Fraction of the cases that each split should get; they add up to 1.

    Returns:
        (N,) int8, index into SPLITS.

    Raises:
        UserError: A class has too few groups to be in every split that is asked for.
    """
    wanted = [split for split in SPLITS if fractions[split] > 0]
    groups, group_of, sizes = _groups(cases)
    class_of, groups_with = _classes(cases, group_of, len(groups))
    _check_enough_groups(cases.classes, groups_with, wanted)
    hashed = _in_order_of_hashes(groups, seed)
    split_of = np.empty(len(groups), np.int8)
    for label in range(len(cases.classes)):
        stratum = hashed[class_of[hashed] == label]
        if len(stratum):
            split_of[stratum] = _deal(sizes[stratum], fractions)
    found = split_of[group_of]
    _check_every_class_everywhere(cases.with_splits(found), wanted)
    return found


def _groups(cases: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups, the group of each case, and how many cases each has."""
    if cases.is_ungrouped():
        return cases.case, np.arange(len(cases)), np.ones(len(cases), np.int32)
    groups, group_of, sizes = np.unique(cases.group, return_inverse=True, return_counts=True)
    return groups, group_of, sizes


def _classes(cases: Table, group_of: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The most frequent class of each group, of several the first by name; and how many groups have cases of a class.

    Args:
        group_of: Of each case.
        groups: How many there are.
    """
    if groups == len(cases):
        class_of = np.empty(groups, np.int32)
        class_of[group_of] = cases.label_of
        return class_of, np.bincount(class_of, minlength=len(cases.classes))
    # Each pair of a group and a class that it has cases of, once: a table of all pairs would not fit into memory.
    pairs, cases_of = np.unique(group_of * len(cases.classes) + cases.label_of, return_counts=True)
    of_group, of_class = np.divmod(pairs, len(cases.classes))
    order = np.lexsort((of_class, -cases_of, of_group))
    class_of = of_class[order][np.unique(of_group[order], return_index=True)[1]]
    return class_of, np.bincount(of_class, minlength=len(cases.classes))


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


def _deal(sizes: np.ndarray, fractions: dict[str, float]) -> np.ndarray:
    """Cuts the ordered groups where the cases so far come nearest to each fraction, leaving each split a group.

    Args:
        sizes: Number of cases of each group, (n,).

    Returns:
        The split of each group, (n,).
    """
    names = [split for split in ("test", "validation", "train") if fractions[split] > 0]
    reached = np.concatenate([[0], sizes.cumsum()]) / sizes.sum()  # fraction of the cases before each possible cut
    cuts, wanted = [0], 0.0
    for i, name in enumerate(names[:-1], start=1):
        wanted += fractions[name]
        nearest = int(np.abs(reached - wanted).argmin())
        cuts.append(min(max(nearest, cuts[-1] + 1), max(len(sizes) - (len(names) - i), cuts[-1])))
    cuts.append(len(sizes))
    return np.repeat([SPLITS.index(name) for name in names], np.diff(cuts))


def _check_enough_groups(classes: list[str], groups: np.ndarray, wanted: list[str]) -> None:
    """Args:
    groups: Of each class, how many have a case of it.
    """
    if len(classes) < 2:
        raise UserError(
            f"a classifier needs two classes, the cases have but '{', '.join(classes) or 'none'}': the raw data "
            "needs a folder for each class, or a labels.csv at its top"
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
