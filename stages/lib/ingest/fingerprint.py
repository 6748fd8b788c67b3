"""What, besides a file's content, its pixels and identifiers depend on: code, versions of libraries, key and params."""

import hashlib
from pathlib import Path

from stages.lib.core import sources
from stages.lib.ingest.readers.contract import Options

HERE = Path(__file__).parent

NOT_IN_STORE = (
    *("include", "exclude", "split_folders", "split_files", "same_group", "aliases", "columns", "target"),
    *("burned_in", "group", "max_rejected", "identifiers", "pictures"),
)
"""Params that decide what becomes of the cases, not what they are: the store holds nothing that depends on them."""


def fingerprint(options: Options) -> str:
    """A name for the store, another when anything of it is."""
    found = hashlib.sha256(options.key + sources.digest(*cached(HERE)))
    params = {name: value for name, value in vars(options.params).items() if name not in NOT_IN_STORE}
    params["select"] = options.params.select.series_description  # the others are asked of what the store holds
    found.update(repr(sorted(params.items())).encode())
    return found.hexdigest()[:16]


def cached(folder: Path) -> list[Path]:
    """The modules whose results the store keeps: whatever writes into the store imports it."""
    return [file for file in sorted(folder.glob("*.py")) if folder / "store.py" in sources.imports(file).files]
