"""torch's zip archives: read so that what is loaded is what was checked, and written as the same bytes in every clone.

Python's and torch's readers of zip files understand some files differently: two members of one name, a header that
differs from the directory, bytes before or after the archive. So torch is never given a file. `read` gives its members,
each format checks them, and torch loads what `packed` makes of them.
"""

import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.model import left_out, pickle_check

FOLDER = "archive/"  # of all members, as torch's own writers name it where they write into memory
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that zip knows
ALIGNMENT_BYTES = 64  # torch maps tensors into memory where they are in the file
METADATA = "metadata.json"  # in the folder extra/, which torch's loaders read as an extra file
HEADER_BYTES = 30  # of a member of the archive, before its name
DROPPED_ENDINGS = (".debug_pkl", "serialization_id")  # absolute paths of the sources; a hash over them
TENSORS = r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections OrderedDict"  # what a pickle of tensors names
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


def read_file(path: Path) -> bytes:
    """A model's file, read once: what is checked is what is loaded, whatever happens to the file meanwhile.

    Raises:
        UserError: It is no regular file, can't be read, is larger than the memory, or stands for a format left out.
    """
    if not path.is_file():  # a pipe would be waited for without end
        raise UserError(f"{path} is no file")
    try:
        content = path.read_bytes()
    except (OSError, MemoryError) as error:
        raise UserError(f"{path} can't be read: {error or 'it is larger than the memory'}") from None
    if reason := left_out.why(content):
        raise UserError(
            f"{path} holds no model, as this format was left out: {reason}. Take another of the model's files"
        )
    return content


def read(content: bytes, known: str, kind: str) -> dict[str, bytes]:
    """The members of an archive by name, without its folder; those of `DROPPED_ENDINGS` are left out.

    Args:
        known: A regular expression for the names of the members that this kind of file has.
        kind: The file's name and what it should be, for messages: "model.pt2 is no .pt2 file".

    Raises:
        UserError: It is no zip file, a member is broken, compressed or unknown, or two have one name.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return _members(file, len(content), known)
    except BROKEN as error:
        raise UserError(f"{kind}: {error or type(error).__name__}") from None


def _members(file: zipfile.ZipFile, size: int, known: str) -> dict[str, bytes]:
    found = file.infolist()
    folder = found[0].filename.partition("/")[0] + "/" if found else ""
    if any(member.compress_type != zipfile.ZIP_STORED for member in found):  # this project's exports have none
        raise ValueError("it holds compressed members")
    if sum(member.file_size for member in found) > size:
        raise ValueError("its members are larger than itself")
    members: dict[str, bytes] = {}
    for member in found:
        name = member.filename.removeprefix(folder)
        if name in members:
            raise ValueError(f"it holds {name!r} twice")
        if member.filename == name or not re.fullmatch(known, name, re.ASCII):
            if not name.endswith(DROPPED_ENDINGS):
                raise ValueError(f"it holds {member.filename[:80]!r}, which such a file does not have")
        elif not name.endswith(DROPPED_ENDINGS):
            members[name] = file.read(member)  # checks its checksum, too
    return members


def packed(members: Mapping[str, bytes]) -> bytes:
    """An archive of these members, for torch to load."""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target:
        for name, content in members.items():
            info = zipfile.ZipInfo(FOLDER + name, EPOCH)
            info.extra = _padding(result.tell() + HEADER_BYTES + len(info.filename.encode()))
            target.writestr(info, content)
    return result.getvalue()


def normalised(content: bytes) -> bytes:
    """What torch has written, without the members that depend on where it was made; no loader needs them."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        names = [name for name in source.namelist() if not name.endswith(DROPPED_ENDINGS)]
        return packed({name.removeprefix(FOLDER): source.read(name) for name in names})


def check_pickle(members: Mapping[str, bytes], name: str, known: str) -> None:
    """Checks what a pickle would import and call, and that its tensors lie in their records; nothing is unpickled.

    Args:
        name: Of the member; its tensors' records lie in the folder of that name.
        known: A regular expression for "module name".

    Raises:
        ValueError: It names something else, or is no pickle as torch writes them.
    """
    folder = f"{name.removesuffix('.pkl')}/"
    records = {key.removeprefix(folder): len(record) for key, record in members.items() if key.startswith(folder)}
    pickle_check.check(members.get(name, b""), known, records)


def parse_json(content: bytes | str, name: str) -> Any:
    """What a JSON member holds.

    Raises:
        UserError: It is no JSON, or nested too deep.
    """
    try:
        return json.loads(content.decode() if isinstance(content, bytes) else content)  # of bytes it would guess UTF-16
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is no JSON: {error}") from None


def metadata_of(members: Mapping[str, bytes]) -> dict[str, Any]:
    """The metadata among the members; {} of a file that has none."""
    content = members.get(f"extra/{METADATA}")
    return {} if content is None else parse_json(content, METADATA)


def _padding(position: int) -> bytes:
    """An extra field ("FB", as torch's own) after which the member's data begin at a multiple of `ALIGNMENT_BYTES`."""
    count = -(position + 4) % ALIGNMENT_BYTES
    return b"FB" + count.to_bytes(2, "little") + b"Z" * count
