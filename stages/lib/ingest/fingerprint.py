"""What, besides a file's content, its pixels and identifiers depend on: code, versions of libraries, key and params."""

import hashlib
from importlib import metadata
from pathlib import Path

from stages.lib.core import sources
from stages.lib.ingest.readers.contract import Options

HERE = Path(__file__).parent
CACHED = (HERE / "inspection.py", HERE / "decoding.py", HERE / "piece_jobs.py")
"""Whose results the store keeps; with all that they import, the readers and identifiers among it."""

NOT_IN_STORE = ("group", "max_rejected", "identifiers")
"""Params that decide what becomes of the cases, not what they are: the store holds nothing that depends on them."""


def fingerprint(options: Options) -> str:
    """A name for the store, another when anything of it is."""
    found = hashlib.sha256(options.key + sources.digest(*CACHED))
    for library in sources.distributions(sources.closure(*CACHED)):
        found.update(f"{library} {_version(library)}\n".encode())
    params = {name: value for name, value in vars(options.params).items() if name not in NOT_IN_STORE}
    found.update(repr(sorted(params.items())).encode())
    return found.hexdigest()[:16]


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"
