"""The readers, one file a format (contract.py says what a reader is, with an example).

A new format: write `<name>.py` here with inspect, assemble and read; add its line below; add a test.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import cast

from stages.lib.ingest.readers.contract import Reader
from stages.lib.ingest.readers.sniff import looks_like_dicom

# The first that takes a file has it, whatever the file is called. Modules are imported when a file asks for them:
# pydicom takes 0.3 s, which a folder of pictures need not wait for.
READERS: dict[str, Callable[[bytes], bool]] = {
    "dicom": looks_like_dicom,
    "image": lambda content: True,
}


def recognise(content: bytes) -> str:
    """The name of the reader for a file's content."""
    for name, takes in READERS.items():
        if takes(content):
            return name
    raise AssertionError("the last reader takes everything")


@cache
def reader(name: str) -> Reader:
    return cast(Reader, importlib.import_module(f"stages.lib.ingest.readers.{name}"))
