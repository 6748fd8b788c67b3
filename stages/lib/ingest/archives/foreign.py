"""Archives that are not read, or not under their names: what each is, and the command that makes one of it that is.

An archive that bzip2, xz or Zstandard has packed could be read from its beginning alone, each member behind all before
it: unlike gzip's, for which there is a library, nothing notes places from which to go on.
"""

import bz2
import lzma
import os
import re
import zlib
from collections.abc import Callable, Sequence
from shlex import quote

from stages.lib.core.opening import TO_READ
from stages.lib.ingest import patterns
from stages.lib.ingest.archives import tar_index
from stages.lib.ingest.readers.sniff import ZIP, looks_like_npy

HEAD_BYTES = 1 << 16
MAX_MEMORY = 1 << 28  # bytes that xz may take for the first of them
GZIP, GZIP_WINDOW = b"\x1f\x8b", 31  # zlib's word for it
MOST_LOOKED_AT = 100  # files of a folder: one that holds more is no folder of archives
SPLIT = re.compile(r"(?P<whole>.+\.(?P<kind>zip|tar|tar\.gz|tgz|7z|rar))\.\d{2,4}", re.IGNORECASE)  # x.zip.001
SPANNED = re.compile(r"(?P<whole>.+)\.z\d\d", re.IGNORECASE)  # x.z01, beside x.zip
ENDING = re.compile(r"(?<=[^/])(?:\.tar)?\.[^./]+$", re.IGNORECASE)  # .tar.bz2, .tbz
PACKED: tuple[tuple[bytes, str, Callable[[bytes], bytes] | None], ...] = (
    (b"BZh", "bzip2", lambda head: bz2.BZ2Decompressor().decompress(head, tar_index.BLOCK)),
    (b"\xfd7zXZ\0", "xz", lambda head: lzma.LZMADecompressor(memlimit=MAX_MEMORY).decompress(head, tar_index.BLOCK)),
    (b"\x28\xb5\x2f\xfd", "zstd", None),  # Python unpacks it from 3.14 on
)
"""What files begin with that a program has packed, the program, and how the first bytes are unpacked."""
OTHER_KINDS = ((b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"Rar!\x1a\x07", "RAR"))


def told(path: str) -> str:
    """What a file is that is an archive, and not read as one, and what to do about it; "" of all other files.

    The text goes on after the file's name. One that is read, as it is called so, is not to be asked about.
    """
    try:
        with open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, TO_READ)) as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # whoever reads it says what is wrong
        return ""
    if match := SPLIT.fullmatch(path):
        return f"is a part of a split archive: {_joined(path, match['whole'], match['kind'].lower())}"
    if match := SPANNED.fullmatch(path):
        return f"is a part of a split ZIP: {joined(match['whole'])}"
    for begin, name in OTHER_KINDS:
        if head.startswith(begin):
            return f"is a {name} archive, which is not read: `{_seven_zip(path, path)}` unpacks it"
    for begin, program, unpack in PACKED:
        if head.startswith(begin):
            is_tar = _holds_tar(head, unpack) if unpack else ".t" in path.rpartition("/")[2].lower()
            new = ENDING.sub("", path) + ".tar"
            way = f"{program} -dc {quote(path)} > {quote(new)} && rm {quote(path)}"
            return f"is a tar packed by {program}, which is not read: `{way}` makes a .tar of it, which is" * is_tar
    if what := _kind(head):
        way = f"mv {quote(path)} {quote(ENDING.sub('', path) + f'.{what}')}"
        return f"is a {what}, and read as an archive where it is called so: `{way}`"
    return ""


def only(raw: str, paths: Sequence[str], exclude: Sequence[str]) -> str:
    """The first of some files and what `told` says of it, where they are few and all are such archives; "" else.

    Args: exclude: `ingest.exclude`: files that are not meant.
    """
    if len(paths) > MOST_LOOKED_AT:
        return ""
    meant = sorted(set(paths) - patterns.fitting(exclude, paths))
    found = [told(f"{raw}/{path}") for path in meant]
    return f"{raw}/{meant[0]} {found[0]}" if found and all(found) else ""


def joined(whole: str) -> str:
    """How the parts x.z01, x.z02, ... and x.zip become one ZIP.

    Args: whole: The path without the ending.
    """
    last, new = quote(f"{whole}.zip"), quote(f"{whole}-whole.zip")
    return f"`zip -s 0 {last} --out {new} && rm {last} {quote(whole)}.z[0-9]*` joins them"


def _joined(path: str, whole: str, kind: str) -> str:
    if kind in ("7z", "rar"):
        return f"`{_seven_zip(path, whole)}` unpacks it"
    return f"`cat {quote(whole)}.* > {quote(whole)} && rm {quote(whole)}.*` joins the parts"


def _seven_zip(path: str, whole: str) -> str:
    """The command that unpacks an archive into the folder that it is called like, and removes it and its parts."""
    folder = ENDING.sub("", whole)
    folder += "_unpacked" if folder == path else ""
    return f"7z x {quote(path)} -o{quote(folder)} && rm {quote(path) if path == whole else f'{quote(whole)}.*'}"


def _kind(head: bytes) -> str:
    """The ending of a ZIP, a tar or a tar.gz; "" of other files, and of NumPy's, which are ZIPs inside."""
    if head.startswith(ZIP) and not looks_like_npy(head):
        return "zip"
    block = head[: tar_index.BLOCK]
    if tar_index.begins(block) and block.strip(b"\0"):  # an empty tar begins with zeros, as some of HDF5's files do
        return "tar"
    return "tar.gz" if head.startswith(GZIP) and _holds_tar(head, _gunzipped) else ""


def _gunzipped(head: bytes) -> bytes:
    return zlib.decompressobj(GZIP_WINDOW).decompress(head, tar_index.BLOCK)


def _holds_tar(head: bytes, unpack: Callable[[bytes], bytes]) -> bool:
    try:
        return tar_index.begins(unpack(head))
    except (OSError, EOFError, ValueError, MemoryError, lzma.LZMAError, zlib.error):
        return False  # no such, whatever it begins with, or damaged
