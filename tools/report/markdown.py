"""Pieces of a Markdown page that also read well as plain text."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from stages.lib.core.markdown import escape

MIN_FOLDED_ROWS = 12  # a table of so many is folded
MAX_ROWS = 100  # a comment holds 65,536 characters


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with aligned columns; "" without rows."""
    cells = [[escape(cell) for cell in row] for row in rows]
    if not cells:
        return ""
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [list(headers), *cells]
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def folded(summary: str, body: str) -> str:
    """A body that is shown when its summary is clicked."""
    if not body:
        return ""
    return f"<details><summary>{html.escape(summary)}</summary>\n\n{body}\n\n</details>"


def long_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]], fold: bool = False) -> str:
    """A table under its title, folded when long or asked for; past `MAX_ROWS` rows it says how many more there are."""
    if not rows:
        return ""
    body = table(headers, rows[:MAX_ROWS])
    if len(rows) > MAX_ROWS:
        body += f"\n\nand {len(rows) - MAX_ROWS} more, in the JSON file."
    return folded(f"{title} ({len(rows)})", body) if fold or len(rows) >= MIN_FOLDED_ROWS else f"{title}:\n\n{body}"


def number(value: Any) -> str:
    """A number with four significant digits; None is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
