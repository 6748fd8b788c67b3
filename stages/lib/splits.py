"""split.csv: which split each case is in, one row per case; a group (a patient) is in one split only."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from stages.lib.core.formulas import bare, changed

SPLITS = ("train", "validation", "test")
COLUMNS = ("case", "group", "label", "split")


def read(split_csv: Path) -> pd.DataFrame:
    return read_text(split_csv)


def read_text(source: Path | BytesIO, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A table of text, as it was before `outs.write_csv`: a label may look like a number, a formula, or nothing.

    Args:
        columns: The ones to read, as far as there are any; all, where left out.
    """
    wanted = None if columns is None else lambda name: name in columns
    table = pd.read_csv(source, dtype=str, keep_default_na=False, usecols=wanted)
    return table.apply(lambda column: changed(bare, column)).rename(columns=bare)


def assert_no_leakage(table: pd.DataFrame) -> None:
    """Asserts that no group is in two splits; columns group, split."""
    splits_of_group = table.groupby("group")["split"].nunique()
    leaking = splits_of_group[splits_of_group > 1]
    if len(leaking):
        raise AssertionError(
            f"group {leaking.index[0]} is in {leaking.iloc[0]} splits: this is a bug, please report it"
        )
