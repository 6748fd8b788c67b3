"""A file of records that survives a kill: one line per record, with a checksum, appended as work is done."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import xxhash


def append(path: Path, record: Any) -> None:
    """Adds a record as one line."""
    with open(path, "ab", buffering=0) as file:
        file.write(_line(record))


def read(path: Path) -> Iterator[Any]:
    """The records of a journal; a damaged or unfinished line is left out."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            checksum, _, text = line.rstrip(b"\n").partition(b" ")
            if xxhash.xxh3_64_hexdigest(text).encode() == checksum:
                yield json.loads(text)


def write(path: Path, records: Iterable[Any]) -> None:
    """Writes a journal anew, moved into place when it is whole."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        for record in records:
            file.write(_line(record))
    os.replace(partial, path)


def _line(record: Any) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"
