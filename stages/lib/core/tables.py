"""Reads CSV files that earlier stages wrote."""

import io
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import pandas as pd

from stages.lib.core.formulas import bare, changed
from stages.lib.core.reading import reading

BLOCK_ROWS = 1 << 14  # of a table that are text at once
CHUNK_BYTES = 1 << 20


def parse_text(content: bytes) -> pd.DataFrame:
    """A table of text, as it was before `outs.write_csv`: a label may look like a number, a formula, or nothing."""
    table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    return _bare(table) if b"'" in content else table


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    return table.apply(lambda column: changed(bare, column)).rename(columns=bare)


def read_blocks(
    path: Path,
    columns: Sequence[str],
    more: bool = False,
    optional: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
) -> Iterator[pd.DataFrame]:
    """The columns of a table, all of it text as by `parse_text`, in blocks of BLOCK_ROWS rows.

    Args:
        columns: None of them has an empty cell.
        more: Whether other columns may follow them; they are left out.
        optional: Those of them that are kept; they may have empty cells.
        kinds: dtypes of columns that take less time than pandas' text: "object", whose cells are text as well, and
            "S16", which cuts longer cells. Where a cell may be guarded, all are pandas' text.

    Raises:
        ValueError: It is no such table, or has no row.
    """
    number = 0
    with open(path, "rb") as file:
        _check_end(file)
        guarded = _has_quote(file)
        dtypes = defaultdict(lambda: "str", {} if guarded else kinds or {})
        with pd.read_csv(file, dtype=dtypes, keep_default_na=False, chunksize=BLOCK_ROWS) as blocks:
            for block in blocks:
                block = _bare(block) if guarded else block
                found = block.columns.tolist()
                if found[: len(columns)] != list(columns) or (len(found) > len(columns) and not more):
                    raise ValueError(
                        f"its columns are {', '.join(found)}, not {', '.join(columns)}{' and others' * more}"
                    )
                if not isinstance(block.index, pd.RangeIndex):  # pandas takes the surplus cells for names of the rows
                    raise ValueError("its rows have more cells than there are columns")
                number += len(block)
                kept = block[[*columns, *(name for name in optional if name in found and name not in columns)]]
                for column in columns:  # a row with too few cells ends in empty ones
                    cells = kept[column]
                    refuse(kept, cells == "" if cells.dtype.kind != "S" else cells.to_numpy() == b"", f"no {column}")
                if len(kept):
                    yield kept
    if not number:
        raise ValueError("it has no rows")


def header(path: Path) -> list[str]:
    """The names of a table's columns, as `read_blocks` has them.

    Raises:
        ValueError: The file is no table.
    """
    return [bare(name) for name in pd.read_csv(path, dtype=str, keep_default_na=False, nrows=0).columns]


def read_numbers(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of numbers, nan where a cell is empty.

    Args:
        columns: Must be among its columns.

    Raises:
        DamagedOut: The file is missing, no such table, or has no row.
    """
    with reading(path):
        with open(path, "rb") as file:
            _check_end(file)
            table = pd.read_csv(file)
        if lacking := [column for column in columns if column not in table]:
            raise ValueError(f"it has no column {lacking[0]}")
        if table.empty or not isinstance(table.index, pd.RangeIndex):
            raise ValueError("it has no rows, or rows with more cells than there are columns")
        if wrong := [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]:
            raise ValueError(f"its column {wrong[0]} has cells that are no numbers")
        return table


def _check_end(file: BinaryIO) -> None:
    """Raises a ValueError unless the file ends with the end of a line; leaves it at its start."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            raise ValueError("its last line is cut short")
    file.seek(0)


def _has_quote(file: BinaryIO) -> bool:
    """Whether a single quote is in the file, as where a cell was guarded; leaves it at its start."""
    found = any(b"'" in chunk for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
    file.seek(0)
    return found


def refuse(table: pd.DataFrame, wrong: "pd.Series | np.ndarray", fault: str) -> None:
    """Raises a ValueError that names the first of the wrong rows, if there is one.

    Args:
        table: Its index counts the rows, from 0 below the header.
        wrong: (rows,) bool.
        fault: What is wrong with the row; may name columns, as in "case {case} is there twice".
    """
    if wrong.any():
        row = int(np.asarray(wrong).argmax())
        cells = {str(name): _text(cell) for name, cell in table.iloc[row].items()}
        raise_for_row(int(table.index[row]), int(wrong.sum()), fault.format(**cells))


def _text(cell: object) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def raise_for_row(row: int, number: int, fault: str) -> NoReturn:
    """Raises:
    ValueError: Always; it names the row, counted from 0 below the header, and says how many have the fault.
    """
    more = f", and {number - 1} more rows likewise" if number > 1 else ""
    raise ValueError(f"row {row + 1}: {fault}{more}")
