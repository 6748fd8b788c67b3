"""torch's zip archives, rewritten to be the same bytes in every clone."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that zip knows
ALIGNMENT_BYTES = 64  # torch maps tensors into memory where they are in the file
METADATA = "metadata.json"  # in the folder extra/, which torch's loaders read as an extra file
HEADER_BYTES = 30  # of a member of the archive, before its name
DROPPED_ENDINGS = (".debug_pkl", "serialization_id")  # absolute paths of the sources; a hash over them


def normalised(content: bytes) -> bytes:
    """An archive without the members that depend on where it was made; no loader needs them."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            if not name.endswith(DROPPED_ENDINGS):
                info = zipfile.ZipInfo(name, EPOCH)
                info.extra = _padding(result.tell() + HEADER_BYTES + len(name.encode()))
                target.writestr(info, source.read(name))
    return result.getvalue()


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata.json of a file that this project wrote; {} of another file."""
    with zipfile.ZipFile(path) as file:
        found = [name for name in file.namelist() if name.endswith(f"/extra/{METADATA}")]
        return json.loads(file.read(found[0])) if found else {}


def _padding(position: int) -> bytes:
    """An extra field ("FB", as torch's own) after which the member's data begin at a multiple of `ALIGNMENT_BYTES`."""
    count = -(position + 4) % ALIGNMENT_BYTES
    return b"FB" + count.to_bytes(2, "little") + b"Z" * count
