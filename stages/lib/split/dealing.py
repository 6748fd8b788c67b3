"""Deals the cases to training, validation and test: groups stay whole, classes get the same proportions everywhere."""

from hashlib import sha256

import numpy as np
import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.splits import SPLITS


def assign(cases: pd.DataFrame, fractions: dict[str, float], seed: int) -> pd.Series:
    """Assigns every case to a split; nearly all keep theirs when cases are added, removed or relabelled.

    Within each class (of a group: its most frequent one) the groups are ordered by a hash of the seed and their name:
    the first go to test, the next to validation, the rest to training. A further group moves no more than the few at
    the two borders, where a fresh permutation, or scikit-learn's StratifiedGroupKFold, would deal all anew.

    Args:
        cases: Columns case, group, label; a group may hold several classes.
        fractions: Fraction of the cases that each split should get; they add up to 1.

    Returns:
        The split of each case, indexed as `cases`.

    Raises:
        UserError: A class has too few groups to be in every split that is asked for.
    """
    wanted_splits = [split for split in SPLITS if fractions[split] > 0]
    _check_enough_groups(cases, wanted_splits)
    counts = pd.crosstab(cases["group"], cases["label"])  # (groups, classes)
    hashed = pd.Series([sha256(f"{seed} {group}".encode()).hexdigest() for group in counts.index], counts.index)
    split_of_group: dict[str, str] = {}
    for _, stratum in counts.sum(axis=1).loc[hashed.sort_values().index].groupby(counts.idxmax(axis=1)):
        split_of_group |= _deal(stratum, fractions)
    split = cases["group"].map(split_of_group)
    _check_every_class_everywhere(cases["label"], split, wanted_splits)
    return split


def _deal(sizes: pd.Series, fractions: dict[str, float]) -> dict[str, str]:
    """Cuts the ordered groups where the cases so far come nearest to each fraction, leaving each split a group.

    Args:
        sizes: Number of cases of each group, indexed by group.
    """
    names = [split for split in ("test", "validation", "train") if fractions[split] > 0]
    reached = np.concatenate([[0], sizes.cumsum()]) / sizes.sum()  # fraction of the cases before each possible cut
    cuts, wanted = [0], 0.0
    for i, name in enumerate(names[:-1], start=1):
        wanted += fractions[name]
        nearest = int(np.abs(reached - wanted).argmin())
        cuts.append(min(max(nearest, cuts[-1] + 1), max(len(sizes) - (len(names) - i), cuts[-1])))
    cuts.append(len(sizes))
    ranges = zip(names, cuts, cuts[1:], strict=False)
    return {group: name for name, start, stop in ranges for group in sizes.index[start:stop]}


def _check_enough_groups(cases: pd.DataFrame, wanted_splits: list[str]) -> None:
    groups = cases.groupby("label")["group"].nunique()
    if len(groups) < 2:
        raise UserError(
            f"a classifier needs two classes, the cases have but '{', '.join(groups.index) or 'none'}': the raw data "
            "needs a folder for each class, or a labels.csv at its top"
        )
    few = groups[groups < len(wanted_splits)]
    if len(few):
        raise UserError(
            f"class '{few.index[0]}' has {few.iloc[0]} group(s) (patients); {', '.join(wanted_splits)} need one each: "
            "add cases, leave the class out, or set split.validation or split.test to 0"
        )


def _check_every_class_everywhere(label: pd.Series, split: pd.Series, wanted_splits: list[str]) -> None:
    table = pd.crosstab(label, split).reindex(columns=wanted_splits, fill_value=0)
    for name, row in table.iterrows():
        if (row == 0).any():
            raise UserError(
                f"class '{name}' has no case in {row.idxmin()}: too few groups for these fractions; "
                "raise split.validation or split.test, try another split.seed, or add cases"
            )
