"""Writes outs: beside their place first, then moved in by `os.replace`; the same bytes for the same content.

A reader never sees half a file, and a run killed at any moment leaves the former out, or none, in its place.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.lib.core.formulas import changed, guarded

if TYPE_CHECKING:  # it takes 0.4 s, and not every stage that writes outs has a table
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; when the block ends well, what lies there takes the place of `path`.

    Works for files and folders. When the block raises, `path` is as it was and the partial is gone; an error of the
    operating system that names no file, as that of a full disk, then names `path`.
    """
    # The ending stays: torch and others tell formats by it.
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)  # of a run that was killed
    try:
        yield partial
        if partial.is_dir():
            remove(path)  # os.replace refuses a folder that holds something; dvc has removed the out beforehand
        else:
            with open(partial, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        name = str(error.filename or partial)
        if error.errno and name.startswith(str(partial)):
            error.filename, error.filename2 = str(path) + name.removeprefix(str(partial)), None
        raise
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def significant(value: Any, digits: int = 6) -> Any:
    """Rounds every float in a nest of mappings and sequences, so that a metric's last bits make no diff.

    A nan or an infinity becomes None: JSON has no word for them.
    """
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): significant(v, digits) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [significant(v, digits) for v in value]
    if hasattr(value, "tolist"):  # numpy's and torch's scalars and arrays
        return significant(value.tolist(), digits)
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes metrics: floats of 6 significant digits, keys in the order given, one line a leaf."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(significant(value), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, table: "pd.DataFrame | Iterator[pd.DataFrame]") -> None:
    """Writes a table without its index: floats of 6 significant digits, line ends the same on every system.

    A large one may come in blocks of rows.

    Text that a spreadsheet would take for a formula is guarded (`core.formulas`).
    """
    with replacing(path) as partial:
        blocks = table if isinstance(table, Iterator) else [table]
        for i, block in enumerate(blocks):
            _to_csv(block, partial, mode="a" if i else "w", header=not i)


def csv_text(table: "pd.DataFrame") -> str:
    """A table as `write_csv` writes it."""
    return _to_csv(table, None) or ""


def _to_csv(table: "pd.DataFrame", to: Path | None, mode: Literal["a", "w"] = "w", header: bool = True) -> str | None:
    head = [guarded(name) for name in table.columns]
    table = table.set_axis(range(len(head)), axis="columns")  # a table may have two columns of one name
    for i in range(len(head)):
        if table[i].dtype.kind not in "biuf":
            table[i] = changed(guarded, table[i])
    names = head if header else False
    return table.to_csv(
        to, mode=mode, index=False, header=names, float_format="%.6g", lineterminator="\n", encoding="utf-8"
    )


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)
