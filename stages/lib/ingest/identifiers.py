"""Names of cases and groups: keyed hashes. The same key gives the same names; without it nobody can compute them."""

import hmac
import os
import secrets
import shlex
import stat
import sys
from pathlib import Path
from typing import Literal

from stages.lib.core.errors import UserError
from stages.lib.core.opening import read_text
from stages.lib.core.progress import say

KEY_FILE = Path(".identifier_key")  # git-ignored; made at first use
KEY_VARIABLE = "IDENTIFIER_KEY"
OPEN = b"these identifiers hide nothing: the data set holds nobody's data"
MIN_KEY_CHARACTERS = 16
MAX_KEY_BYTES = 1 << 16
OTHERS = stat.S_IRWXG | stat.S_IRWXO  # rights of any but the owner


def load_key(identifiers: Literal["keyed", "open"], key_file: Path = KEY_FILE) -> bytes:
    """The key of the environment variable IDENTIFIER_KEY, or of the key file, which is made if there is none.

    Raises:
        UserError: The key is too short to keep a secret, or its file can't be read or made.
    """
    if identifiers == "open":
        return OPEN
    given = os.environ.get(KEY_VARIABLE)
    source = f"the environment variable {KEY_VARIABLE}" if given is not None else str(key_file)
    if given is None:
        key_file = _found(key_file)
        if not os.path.lexists(key_file):
            _make(key_file)
            say(f"{key_file} is new: the key that names cases and groups. Keep it safe, as without it they change.")
        given = read_text(key_file, MAX_KEY_BYTES).strip()
        _warn_of_readers(key_file)
    if (characters := len(given.strip())) < MIN_KEY_CHARACTERS:
        raise UserError(
            f"{source} holds a key of {characters} characters, expected {MIN_KEY_CHARACTERS} or more; as a new key "
            "gives every case another name, put the old one back if you can, or else remove it and a new one is made"
        )
    return given.encode()


def _found(key_file: Path) -> Path:
    """The key file; in the folder of an experiment that dvc runs apart, that of the project it belongs to.

    Such a folder, .dvc/tmp/exps/..., has what git tracks, so no key: a new one would give every case another name.
    """
    if not os.path.lexists(key_file) and not key_file.is_absolute():
        for folder in Path.cwd().parents:
            if folder.name == ".dvc" and os.path.lexists(folder.parent / key_file):
                return folder.parent / key_file
    return key_file


def _warn_of_readers(key_file: Path) -> None:
    mode = key_file.stat().st_mode
    if os.name == "posix" and mode & OTHERS:
        print(
            f"warning: others on this machine may read {key_file}, and with it check guesses at names (mode "
            f"{stat.filemode(mode)}): chmod 600 {shlex.quote(str(key_file))}",
            file=sys.stderr,
        )


def _make(key_file: Path) -> None:
    """Writes a new key that only its owner can read. When two processes do so at once, the first one's key stays.

    Raises:
        UserError: The file can't be made.
    """
    beside = key_file.with_name(f"{key_file.name}.{os.getpid()}.partial")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32) + "\n")
        os.link(beside, key_file)
    except FileExistsError:
        pass
    except OSError as error:
        what = f"{key_file}, the key that hides names, can't be made ({error.strerror})"
        raise UserError(f"{what}: make it elsewhere, or set {KEY_VARIABLE}") from None
    finally:
        beside.unlink(missing_ok=True)


def identify(key: bytes, kind: str, value: str) -> str:
    """A name for a value that tells nothing of the value: 64 bits of HMAC-SHA256 as 16 hexadecimal digits.

    Args:
        kind: What the value is ("path", "series", "patient"): equal values of two kinds get different names.
    """
    return hmac.digest(key, f"{kind}\0{value}".encode("utf-8", "surrogateescape"), "sha256")[:8].hex()
