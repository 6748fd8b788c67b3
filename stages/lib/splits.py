"""Training, validation and test: a group (a patient) never on two sides, classes in the same proportions on all."""

import numpy as np
import pandas as pd

from stages.lib.errors import UserError
from stages.lib.tensors import SPLITS


def assign(cases: pd.DataFrame, shares: dict[str, float], seed: int) -> pd.Series:
    """Assigns every case to a split.

    Groups go one by one, the largest first and equal ones in an order drawn from the seed, to the split that still
    lacks the largest part of its share of the classes that the group holds: so large groups, too, end on every side.
    scikit-learn's StratifiedGroupKFold has folds of one size only.

    Args:
        cases: Columns case, group, label; a group may hold several classes.
        shares: Share of the cases that each split should get; they add up to 1.

    Returns:
        The split of each case, indexed as `cases`.

    Raises:
        UserError: A class has too few groups to be in every split that is asked for.
    """
    wanted_splits = [split for split in SPLITS if shares[split] > 0]
    _check_enough_groups(cases, wanted_splits)
    counts = pd.crosstab(cases["group"], cases["label"]).sort_index()  # (groups, classes)
    held = counts.to_numpy(np.float64)
    wanted = np.outer([shares[split] for split in wanted_splits], held.sum(axis=0))  # (splits, classes) cases
    lacking = wanted.copy()
    weight = 1 / held.sum(axis=0)  # a rare class counts as much as a frequent one
    shuffled = np.random.default_rng(seed).permutation(len(held))
    chosen = np.empty(len(held), np.int64)
    for i in shuffled[np.argsort(-held[shuffled].sum(axis=1), kind="stable")]:
        chosen[i] = np.argmax((lacking / wanted) @ (weight * held[i]))
        lacking[chosen[i]] -= held[i]
    split_of_group = pd.Series([wanted_splits[c] for c in chosen], index=counts.index)
    split = cases["group"].map(split_of_group)
    _check_every_class_everywhere(cases["label"], split, wanted_splits)
    return split


def assert_no_leakage(split: pd.DataFrame) -> None:
    """Asserts that no group is in two splits; columns group, split."""
    splits_of_group = split.groupby("group")["split"].nunique()
    leaking = splits_of_group[splits_of_group > 1]
    if len(leaking):
        raise AssertionError(
            f"group {leaking.index[0]} is in {leaking.iloc[0]} splits: this is a bug, please report it"
        )


def _check_enough_groups(cases: pd.DataFrame, wanted_splits: list[str]) -> None:
    groups = cases.groupby("label")["group"].nunique()
    if len(groups) < 2:
        raise UserError(f"a classifier needs two classes, the cases have but {', '.join(groups.index) or 'none'}")
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
                f"class '{name}' has no case in {row.idxmin()}: too few groups for these shares; "
                "raise split.validation or split.test, try another split.seed, or add cases"
            )
