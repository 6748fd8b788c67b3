"""Reads outs of earlier stages: whatever is wrong with one becomes a `DamagedOut` that names it.

What is checked is whether a file is one that its stage could have written: schema, lengths, cross-references. Whether
it is the very one that the stage wrote, only its hash in dvc.lock tells, which dvc compares.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from stages.lib.core.errors import DamagedOut, UserError

Schema = TypeVar("Schema")
LONGEST = 300  # characters of another library's message


@contextmanager
def reading(*paths: Path) -> Iterator[None]:
    """Turns any error in the block into a `DamagedOut` about these outs; a check in it raises ValueError.

    Libraries raise errors of very many classes for damaged files, MemoryError and RecursionError among them.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise DamagedOut("not found", *paths) from None
    except IsADirectoryError:
        raise DamagedOut("is a folder", *paths) from None
    except Exception as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)  # str would quote it
        said = (text.strip() or type(error).__name__).splitlines()[0][:LONGEST]
        raise DamagedOut(said if isinstance(error, ValueError) else f"can't be read: {said}", *paths) from error


def read_json(path: Path, schema: type[Schema]) -> Schema:
    """A JSON file as a dataclass, with no key too many or too few.

    Raises:
        DamagedOut: The file is missing, no JSON, or of another schema.
    """
    with reading(path):
        return parsed(path.read_bytes(), schema)


def parsed(content: bytes, schema: type[Schema]) -> Schema:
    """JSON as a dataclass, with no key too many or too few.

    Raises:
        ValueError: It is none, or of another schema; the message names the first key that is wrong.
    """
    try:
        return TypeAdapter(schema).validate_json(content, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key}: {first['msg']}" if key else first["msg"]) from None
