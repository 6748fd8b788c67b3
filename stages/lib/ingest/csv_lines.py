"""CSV a line at a time: a table of a million cases takes no more memory than one of a single case."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from stages.lib.core import outs


def csv_line(values: Iterable[object]) -> str:
    """The values as a line of CSV, quoted where they must be, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes an out of lines, each with its end."""
    with outs.replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8", errors="replace") as file:
        file.writelines(lines)
