"""What the index of an archive says of one member, and which of it can stand for a file of a folder."""

import re
from typing import BinaryIO, NamedTuple

from stages.lib.ingest.archives.members import Member

OpenFile = BinaryIO
DRIVE = re.compile(r"^[A-Za-z]:")
ORDINARY = re.compile(r"(?:[^/\\\0:.][^/\\\0:]{0,60}/){0,9}(?:[^/\\\0:.][^/\\\0:]{0,60})?")  # most names, asked at once
MAX_NAME, MAX_PATH = 255, 4096  # bytes that systems take
MAX_UNPACKED = 1 << 30  # bytes that any archive may unpack to
MAX_RATIO = 100  # times its own bytes, of one that unpacks to more


class BadArchive(Exception):
    """An archive that can't be read, or not be trusted; the text goes on after its name."""


class Entry(NamedTuple):
    """An entry of an archive's index."""

    name: str
    member: Member
    is_folder: bool
    trouble: str = ""  # why it can stand for no file of a folder


def trouble_of(name: str) -> str:
    """Why a name in an archive can be that of no file in a folder; "" where it can."""
    if ORDINARY.fullmatch(name):
        return ""
    parts = name.split("/")
    if "\0" in name:
        return "has a name with a NUL in it"
    if "\\" in name:
        return "has a name with a backslash in it"
    if name.startswith("/") or DRIVE.match(name) or ".." in parts:
        return "has a name that leads out of the archive"
    if not name.strip("/. "):
        return "" if parts[0] == "." else "has no name"
    longest = max(len(part.encode("utf-8", "surrogateescape")) for part in parts)
    if longest > MAX_NAME or len(name.encode("utf-8", "surrogateescape")) > MAX_PATH:
        return "has a longer name than systems take"
    return ""


def plain(name: str) -> str:
    """A name without `.` and empty parts, as tar and zip write them: "./a//b" is "a/b"."""
    if ORDINARY.fullmatch(name):
        return name.rstrip("/")
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def check_ratio(unpacked: int, packed: int) -> None:
    """Raises:
    BadArchive: An archive unpacks to so much that it is a bomb.
    """
    if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed):
        raise BadArchive(f"unpacks to more than {MAX_RATIO} times its {packed} bytes, as bombs do")
