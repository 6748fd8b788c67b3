"""Reads CSV files that earlier stages wrote."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.lib.core.formulas import bare, changed
from stages.lib.core.reading import reading


def parse_text(source: Path | io.BytesIO) -> pd.DataFrame:
    """A table of text, as it was before `outs.write_csv`: a label may look like a number, a formula, or nothing."""
    content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    if b"'" not in content:  # nothing was guarded
        return table
    return table.apply(lambda column: changed(bare, column)).rename(columns=bare)


def read_text(path: Path, columns: Sequence[str], more: bool = False, optional: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of a table, all of it text: a label may look like a number, or like a missing value.

    Args:
        columns: None of them has an empty cell.
        more: Whether other columns may follow them; they are left out.
        optional: Those of them that are kept; they may have empty cells.

    Raises:
        DamagedOut: The file is missing, no such table, or has no row.
    """
    with reading(path):
        table = parse_text(_whole(path))
        found = table.columns.tolist()
        if found[: len(columns)] != list(columns) or (len(found) > len(columns) and not more):
            raise ValueError(f"its columns are {', '.join(found)}, not {', '.join(columns)}{' and others' * more}")
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes the surplus cells for names of the rows
            raise ValueError("its rows have more cells than there are columns")
        if table.empty:
            raise ValueError("it has no rows")
        table = table[[*columns, *(name for name in optional if name in found)]]
        for column in columns:  # a row with too few cells ends in empty ones
            refuse(table, table[column] == "", f"no {column}")
        return table


def read_numbers(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of numbers, nan where a cell is empty.

    Args:
        columns: Must be among its columns.

    Raises:
        DamagedOut: The file is missing, no such table, or has no row.
    """
    with reading(path):
        table = pd.read_csv(_whole(path))
        if lacking := [column for column in columns if column not in table]:
            raise ValueError(f"it has no column {lacking[0]}")
        if table.empty or not isinstance(table.index, pd.RangeIndex):
            raise ValueError("it has no rows, or rows with more cells than there are columns")
        if wrong := [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]:
            raise ValueError(f"its column {wrong[0]} has cells that are no numbers")
        return table


def _whole(path: Path) -> io.BytesIO:
    """The content of a file that ends with its last line."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line is cut short")
    return io.BytesIO(content)


def refuse(table: pd.DataFrame, wrong: pd.Series, fault: str) -> None:
    """Raises a ValueError that names the first of the wrong rows, counted from 1 below the header, if there is one.

    Args:
        wrong: (rows,) bool.
        fault: What is wrong with the row; may name columns, as in "case {case} is there twice".
    """
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        more = f", and {int(wrong.sum()) - 1} more rows likewise" if wrong.sum() > 1 else ""
        raise ValueError(f"row {row + 1}: {fault.format(**table.iloc[row])}{more}")
