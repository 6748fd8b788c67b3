"""torch's zip archives, made the same bytes in every clone."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that zip knows
ALIGNMENT = 64  # bytes: torch maps tensors from where they lie in the file


METADATA = "metadata.json"  # in the folder extra/, which torch's loaders read as an extra file
HEADER = 30  # bytes of a member's header in the file, before its name
TELLTALE = (".debug_pkl", "serialization_id")  # absolute paths of the sources; a hash over them


def normalised(content: bytes) -> bytes:
    """An archive without the members that tell where it was made; no reader asks for them."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            if not name.endswith(TELLTALE):
                info = zipfile.ZipInfo(name, EPOCH)
                info.extra = _padding(result.tell() + HEADER + len(name.encode()))
                target.writestr(info, source.read(name))
    return result.getvalue()


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata.json that a file of ours carries; {} in another's."""
    with zipfile.ZipFile(path) as file:
        found = [name for name in file.namelist() if name.endswith(f"/extra/{METADATA}")]
        return json.loads(file.read(found[0])) if found else {}


def _padding(position: int) -> bytes:
    """An extra field (torch's own kind, "FB") after which the member's data begins at a multiple of `ALIGNMENT`."""
    count = -(position + 4) % ALIGNMENT
    return b"FB" + count.to_bytes(2, "little") + b"Z" * count
