"""split.csv: which split each case is in, one row per case; a group (a patient) is in one split only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.core import tables
from stages.lib.core.errors import DamagedOut
from stages.lib.core.reading import reading
from stages.lib.core.tables import refuse

SPLITS = ("train", "validation", "test")
CASE_COLUMNS = ("case", "group", "label")  # the first of cases.csv
COLUMNS = (*CASE_COLUMNS, "split")
MOST_CHARACTERS = 16  # of a name: 64 bits in hexadecimal digits
BLOCK = 1 << 16  # names looked up at once


def read_cases(cases_csv: Path) -> pd.DataFrame:
    """The columns of cases.csv that say how a case may be split, as text; `split` among them if the raw data give one.

    Raises:
        DamagedOut: The file is missing, or is none that ingest could have written.
    """
    table = tables.read_text(cases_csv, CASE_COLUMNS, more=True, optional=("split",))
    with reading(cases_csv):
        if "split" in table:
            wrong = ~table["split"].isin(["", *SPLITS])
            refuse(table, wrong, f"the split is '{{split}}': expected one of {', '.join(SPLITS)}, or nothing")
        refuse(table, table["case"].duplicated(), "case {case} is there twice")
    return table


def read(split_csv: Path) -> pd.DataFrame:
    """The table, as text.

    Raises:
        DamagedOut: The file is missing, or is none that split could have written.
    """
    table = tables.read_text(split_csv, COLUMNS)
    with reading(split_csv):
        refuse(table, table["case"].duplicated(), "case {case} is there twice")
        for name in ("case", "group"):
            good = [_is_name(text) for text in table[name].tolist()]
            fault = f"the {name} '{{{name}}}' is not of 1 to {MOST_CHARACTERS} ASCII characters"
            refuse(table, ~pd.Series(good), fault)
        refuse(table, ~table["split"].isin(SPLITS), f"the split is '{{split}}': expected one of {', '.join(SPLITS)}")
        refuse(table, table["group"].isin(leaking_groups(table)), "group {group} is in two splits")
        untrained = set(table["label"].unique()) - set(table.loc[table["split"] == "train", "label"].unique())
        refuse(table, table["label"].isin(untrained), "class '{label}' has no case in the training split")
    return table


def _is_name(text: str) -> bool:
    return text.isascii() and text.isprintable() and 0 < len(text) <= MOST_CHARACTERS


def read_of(split_csv: Path, cases: Path, ids: Sequence[str]) -> pd.DataFrame:
    """As `read`; the rows are the cases of cases/, each once.

    Args:
        cases: The folder, for messages.
        ids: Of all its cases, in order.

    Raises:
        DamagedOut: As of `read`, or the two files are not of the same cases.
    """
    table = read(split_csv)
    if table["case"].tolist() != list(ids):
        lacking, strange = set(ids) - set(table["case"]), set(table["case"]) - set(ids)
        raise DamagedOut(
            f"they are not of the same cases: the one lacks {_some(lacking)}, the other {_some(strange)}"
            if lacking or strange
            else "they have the cases in another order",
            *(split_csv, cases),
        )
    return table


def _some(names: set[str]) -> str:
    return f"{len(names)} ({min(names)})" if names else "none"


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """The number of cases of each class in every split that has any; columns label, split."""
    return {
        str(name): {str(label): int(n) for label, n in part["label"].value_counts().sort_index().items()}
        for name, part in table.groupby("split")
    }


def leaking_groups(table: pd.DataFrame) -> list[str]:
    """The groups that are in more than one split; columns group, split."""
    pairs = table[["group", "split"]].drop_duplicates()
    return pairs.loc[pairs["group"].duplicated(), "group"].tolist()


def assert_no_leakage(table: pd.DataFrame) -> None:
    """Asserts that no group is in two splits; columns group, split."""
    if leaking := leaking_groups(table):
        raise AssertionError(f"group {leaking[0]} is in two splits: this is a bug, please report it")


def shared(names: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Those of the names (n,) that are among the others (m,) too; takes no more memory than the shorter array."""
    few, many = sorted((names, others), key=len)
    few = np.unique(few)
    if not len(few):
        return few
    found = []
    for start in range(0, len(many), BLOCK):
        block = many[start : start + BLOCK]
        nearest = few[np.searchsorted(few, block).clip(max=len(few) - 1)]
        found.append(nearest[nearest == block])
    return np.concatenate(found)
