"""The readers, one module per format (contract.py says what a reader is, with an example).

To add a format, follow "To add a ... reader" in stages/lib/README.md.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import cast

from stages.lib.ingest.readers.contract import Reader
from stages.lib.ingest.readers.pictures import formats
from stages.lib.ingest.readers.sniff import (
    looks_like_dicom,
    looks_like_hdf5,
    looks_like_metaimage,
    looks_like_nifti,
    looks_like_npy,
    looks_like_nrrd,
)

# Which reader takes a file is decided by its content, never by its name: the first whose function returns True. Modules
# are imported when a file needs them, as importing pydicom takes 0.3 s, which a folder of pictures can do without.
READERS: dict[str, Callable[[bytes], bool]] = {
    "dicom": looks_like_dicom,
    "nifti": looks_like_nifti,
    "nrrd": looks_like_nrrd,
    "metaimage": looks_like_metaimage,
    "npy": looks_like_npy,
    "hdf5": looks_like_hdf5,
    "zarr": lambda content: False,  # a folder: in_place.py
    "image": lambda content: True,
}


def recognise(content: bytes) -> str:
    """The name of the reader that takes a file with this content."""
    if content.startswith(formats.READ) and not looks_like_dicom(content):  # to ask them all takes longer than these
        return "image"
    for name, takes in READERS.items():
        if takes(content):
            return name
    raise AssertionError("the last reader takes everything")


@cache
def reader(name: str) -> Reader:
    return cast(Reader, importlib.import_module(f"stages.lib.ingest.readers.{name}"))
