"""What ingest remembers

What ingest's first pass notes of 50,000 files, a record for each 256: appended as the work is done, so that a kill
costs no more than a record; written anew at the end; read at the start of the next ingest. Ours is a file of lines with
checksums (`stages/lib/ingest/journal.py`). SQLite either holds the same records, or a row for each file.
"""

import json
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.ingest import journal
from tools.bench.groups import Options
from tools.bench.results import Measured
from tools.bench.timing import Work, race

NAME = "store"
FILES, RECORD_FILES, FINAL_FILES = 50_000, 256, 4096
RECORDS_WHY = "It would be another container for the same text."
ROWS_WHY = "Others could read the rows."


def run(options: Options) -> Measured:
    notes, final = (records(size) for size in (RECORD_FILES, FINAL_FILES))
    with tempfile.TemporaryDirectory() as name:
        works = [
            Work(called, partial(work, Path(name, called), notes, final), why)
            for called, work, why in (
                ("journal", by_journal, ""),
                ("SQLite, the same records", by_sqlite, RECORDS_WHY),
                ("SQLite, a row for each file", by_rows, ROWS_WHY),
            )
        ]
        return Measured(race(NAME, f"notes on {FILES} files", works[0], works[1:], options.rounds, agree=agree))


def records(files: int) -> list[dict[str, Any]]:
    """What is noted of all files, in columns, so many to a record."""
    rng = np.random.default_rng(0)
    numbers = [min(files, FILES - at) for at in range(0, FILES, files)]
    return [
        {
            "names": rng.integers(0, 1 << 62, number).tolist(),
            "stamps": rng.integers(0, 1 << 40, (number, 5)).tolist(),
            "digests": rng.bytes(16 * number).hex(),
        }
        for number in numbers
    ]


def by_journal(place: Path, notes: list[dict[str, Any]], final: list[dict[str, Any]]) -> int:
    """Appends, writes anew and reads; how many files are noted at the end."""
    new, kept = place.with_suffix(".new"), place.with_suffix(".jsonl")
    for note in notes:
        journal.append(new, note)
    journal.write(kept, final)
    new.unlink()
    return sum(len(record["names"]) for record in journal.read(kept))


def by_sqlite(place: Path, notes: list[dict[str, Any]], final: list[dict[str, Any]]) -> int:
    """As `by_journal`."""

    def add(database: sqlite3.Connection, given: list[dict[str, Any]]) -> None:
        texts = ((json.dumps(record, separators=(",", ":")),) for record in given)
        database.executemany("INSERT INTO notes VALUES (?)", texts)

    def read(database: sqlite3.Connection) -> int:
        return sum(len(json.loads(text)["names"]) for (text,) in database.execute("SELECT text FROM notes"))

    return _in_database(place, "notes(text TEXT)", add, read, notes, final)


def by_rows(place: Path, notes: list[dict[str, Any]], final: list[dict[str, Any]]) -> int:
    """As `by_journal`."""

    def add(database: sqlite3.Connection, given: list[dict[str, Any]]) -> None:
        for record in given:
            digests = (record["digests"][at : at + 32] for at in range(0, len(record["digests"]), 32))
            columns = zip(record["names"], record["stamps"], digests, strict=True)
            rows = ((name, *stamp, digest) for name, stamp, digest in columns)
            database.executemany("INSERT INTO notes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def read(database: sqlite3.Connection) -> int:
        return len(database.execute("SELECT * FROM notes").fetchall())

    return _in_database(place, "notes(name INTEGER, a, b, c, d, e, digest TEXT)", add, read, notes, final)


def _in_database(
    place: Path,
    table: str,
    add: Callable[[sqlite3.Connection, list[dict[str, Any]]], None],
    read: Callable[[sqlite3.Connection], int],
    notes: list[dict[str, Any]],
    final: list[dict[str, Any]],
) -> int:
    """Each note in a transaction of its own, written ahead, as safe from a kill of the process as the journal."""
    path = place.with_suffix(".sqlite")
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"CREATE TABLE {table}")
        for note in notes:
            database.execute("BEGIN")
            add(database, [note])
            database.execute("COMMIT")
        database.execute("BEGIN")
        database.execute("DELETE FROM notes")
        add(database, final)
        database.execute("COMMIT")
        return read(database)
    finally:
        database.close()
        path.unlink()


def agree(ours: int, theirs: int) -> bool:
    return ours == theirs
