"""CSV a line at a time: a table of a million cases takes no more memory than one of a single case."""

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from stages.lib.core import outs
from stages.lib.core.formulas import guarded


def csv_line(values: Iterable[object]) -> str:
    """The values as a line of CSV, quoted where they must be, without its end; no text opens as a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(map(guarded, values))  # so that both are quoted within a value
    return text.getvalue().removesuffix("\r\n")


def write_lines(path: Path, lines: Iterable[str], mode: int = 0o666) -> None:
    """Writes an out of lines, each with its end.

    Args:
        mode: Who may read and write it, less what the user's umask takes away.
    """
    with outs.replacing(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "w", newline="", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)
