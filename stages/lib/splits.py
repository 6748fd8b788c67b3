"""split.csv: which split each case is in, one row per case; a group (a patient) is in one split only."""

from pathlib import Path

import pandas as pd

SPLITS = ("train", "validation", "test")
COLUMNS = ("case", "group", "label", "split")


def read(split_csv: Path) -> pd.DataFrame:
    """The table, all of it text: a label may look like a number, or like a missing value."""
    return pd.read_csv(split_csv, dtype=str, keep_default_na=False)


def assert_no_leakage(table: pd.DataFrame) -> None:
    """Asserts that no group is in two splits; columns group, split."""
    splits_of_group = table.groupby("group")["split"].nunique()
    leaking = splits_of_group[splits_of_group > 1]
    if len(leaking):
        raise AssertionError(
            f"group {leaking.index[0]} is in {leaking.iloc[0]} splits: this is a bug, please report it"
        )
