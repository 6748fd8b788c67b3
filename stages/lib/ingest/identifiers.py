"""Names of cases and groups: keyed hashes. The same key gives the same names; without it nobody can compute them."""

import hmac
import os
import secrets
from pathlib import Path
from typing import Literal

from stages.lib.core.errors import UserError

KEY_FILE = Path(".identifier_key")  # git-ignored; made at first use
KEY_VARIABLE = "IDENTIFIER_KEY"
OPEN = b"these identifiers hide nothing: the data set holds nobody's data"
MIN_KEY_CHARACTERS = 16


def load_key(identifiers: Literal["keyed", "open"], key_file: Path = KEY_FILE) -> bytes:
    """The key of the environment variable IDENTIFIER_KEY, or of the key file, which is made if there is none.

    Raises:
        UserError: The key is too short to keep a secret.
    """
    if identifiers == "open":
        return OPEN
    given = os.environ.get(KEY_VARIABLE)
    source = f"the environment variable {KEY_VARIABLE}" if given is not None else str(key_file)
    if given is None:
        if not key_file.exists():
            _make(key_file)
        given = key_file.read_text(encoding="utf-8").strip()
    if len(given) < MIN_KEY_CHARACTERS:
        raise UserError(
            f"{source} holds a key of {len(given)} characters, expected {MIN_KEY_CHARACTERS} or more; as a new key "
            "gives every case another name, put the old one back if you can, or else remove it and a new one is made"
        )
    return given.encode()


def _make(key_file: Path) -> None:
    """Writes a new key that only its owner can read. When two processes do so at once, the first one's key stays."""
    beside = key_file.with_name(f"{key_file.name}.{os.getpid()}.partial")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32) + "\n")
    try:
        os.link(beside, key_file)
    except FileExistsError:
        pass
    finally:
        beside.unlink()


def identify(key: bytes, kind: str, value: str) -> str:
    """A name for a value that tells nothing of the value: 64 bits of HMAC-SHA256 as 16 hexadecimal digits.

    Args:
        kind: What the value is ("path", "series", "patient"): equal values of two kinds get different names.
    """
    return hmac.digest(key, f"{kind}\0{value}".encode("utf-8", "surrogateescape"), "sha256")[:8].hex()
