"""Text in CSV files that a spreadsheet would take for a formula: a class called `=HYPERLINK(...)`, a file called `@x`.

Such a cell is written with a single quote before it, as OWASP advises ("CSV Injection"); `bare` takes the quote away
when a table is read back. Numbers stay as they are, and so does text that is nothing but numbers: the class `-1`.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])")
_NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)"
_NUMBERS = re.compile(rf"{_NUMBER}(?:[ ,;]+{_NUMBER})*")


def guarded(value: Any) -> Any:
    """A value as it is written: what spreadsheets take for text stays, or becomes, text."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBERS.fullmatch(value):
        return f"'{value}"
    return value


def bare(value: str) -> str:
    """The text that `guarded` was given."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value) else value


def changed(change: Callable[[Any], Any], column: "pd.Series") -> "pd.Series":
    """A column with `guarded` or `bare` made of its cells, if any needs it: of a million identifiers, none does."""
    return column if all(str(cell)[:1].isalnum() for cell in column.tolist()) else column.map(change)
