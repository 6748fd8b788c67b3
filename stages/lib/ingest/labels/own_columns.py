"""Columns of labels.csv that ingest does not know, and that `ingest.columns` keeps: text, as it was written.

In cases.csv the column `sex` is called `labels.sex`, as no column of the pipeline's own ever is.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import hint
from stages.lib.core.terminal import shown

PREFIX = "labels."  # of their names in cases.csv


def check(table: str, wanted: Sequence[str], header: Sequence[str], known: Collection[str]) -> None:
    """Checks that each column that is to be kept is there, and none that ingest reads itself.

    Args:
        table: labels.csv, for messages.
        wanted: `ingest.columns`.
        header: The columns of the table.
        known: Those that ingest reads.

    Raises:
        UserError: One is not.
    """
    for name in wanted:
        if name in known:
            raise UserError(f"ingest.columns names {name}, which ingest reads itself: leave it out of ingest.columns")
        if name not in header:
            others = [column for column in header if column and column not in known]
            raise UserError(
                f"ingest.columns names {shown(name)}, and {table} has no such column: "
                f"{hint(name, others) or 'it has no other columns than those that ingest reads'}"
            )


def by_name(wanted: Sequence[str], cells: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
    """The columns of cases.csv, each with the N cells of the cases.

    Args:
        cells: Of each case, in the order of `wanted`.
    """
    return {f"{PREFIX}{name}": [row[k] for row in cells] for k, name in enumerate(wanted)}


def counts(columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """For ingest.json, which git keeps: how many different values each has, and how many blank cells; no value."""
    return {
        name: {"values": len(set(cells) - {""}), "blank": sum(not cell for cell in cells)}
        for name, cells in columns.items()
    }


def differing(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """The position of the first column in which two rows differ; -1 where they are alike."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), -1)
