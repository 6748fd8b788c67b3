"""What, besides a file's content, its pixels depend on: the readers' code, the libraries' versions, key and params."""

import hashlib
import sys
from importlib import metadata
from pathlib import Path

from stages.lib.ingest.readers.contract import Options

LIBRARIES = ("numpy", "pillow", "simplejpeg", "tifffile", "imagecodecs", "pydicom", "python-gdcm", "pyjpegls",
             "pylibjpeg", "pylibjpeg-openjpeg")  # fmt: skip
OURS = ("case_table.py", "cases.py", "facts.py", "filling.py", "inspection.py", "store.py")
# These say what becomes of the cases, not what they are.
OF_NO_MATTER = ("workers", "group", "max_rejected", "identifiers")


def fingerprint(options: Options) -> str:
    """A name that is another when anything of it is."""
    known = hashlib.sha256(options.key + sys.version.encode())
    lib = Path(__file__).parent
    for source in (*sorted((lib / "readers").glob("*.py")), *(lib / name for name in OURS)):
        known.update(source.read_bytes())
    for library in LIBRARIES:
        known.update(f"{library} {_version(library)}\n".encode())
    params = {name: value for name, value in vars(options.params).items() if name not in OF_NO_MATTER}
    known.update(repr(sorted(params.items())).encode())
    return known.hexdigest()[:16]


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"
