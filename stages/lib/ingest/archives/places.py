"""Archives below data/raw/<dataset> stand for the folders that they would unpack to: where, and when they do not."""

import atexit
import glob
import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.core.opening import TO_READ, check_handles, kind_of, stamp
from stages.lib.core.terminal import shortened, shown
from stages.lib.ingest.archives import foreign, tar_index, zip_index
from stages.lib.ingest.archives.entries import BadArchive, Entry, OpenFile, check_ratio, plain
from stages.lib.ingest.archives.members import TAR, TAR_GZ, ZIP, Archive, Member, Members
from stages.lib.ingest.litter import above_litter, lies_in_litter

KINDS = {".zip": ZIP, ".tar": TAR, ".tar.gz": TAR, ".tgz": TAR}  # by what a file is called; the content decides then
GZIP, GZIP_WINDOW = b"\x1f\x8b", 31  # what it begins with, and zlib's word for it
WAY_OUT = "unpack it, look at what it holds, and remove it; or pack it anew"


def instead_of(folder: Path) -> str:
    """What to do where an archive lies in place of a folder of data, which dvc.yaml names; "" where none does."""
    for end in KINDS:
        archive = folder.with_name(folder.name + end)
        if archive.is_file():
            return f"{archive} is read in place, from that folder: mkdir {folder} && mv {archive} {folder}/"
    others = (path for path in sorted(folder.parent.glob(f"{glob.escape(folder.name)}.*")) if path.suffix != ".dvc")
    return next((f"{path} {what}" for path in others if (what := foreign.told(str(path)))), "")


@cache
def scratch() -> Path:
    """A folder for seek points that goes when this process ends."""
    folder = TemporaryDirectory(prefix="archives-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


class Unpacked(NamedTuple):
    """What archives stand for."""

    members: Members
    litter: list[str]
    folders: set[str]  # of the first level


def ending(path: str) -> str:
    """What the name of an archive ends with; "" of other files."""
    low = path.lower()
    return next((end for end in KINDS if low.endswith(end) and not low.endswith("/" + end)), "")


def without_ending(path: str) -> str:
    """What an archive is called but for that; the name of any other file as it is."""
    return path[: -len(ending(path)) or None]


def find(raw: str, paths: Iterable[str]) -> list[str]:
    """Those of the files that are archives: called so, and such by their content.

    Raises:
        UserError: One of them can't be read.
    """
    found = []
    for path in filter(ending, paths):
        try:
            if kind(os.path.join(raw, path)):
                found.append(path)
        except OSError as error:
            raise UserError(f"{os.path.join(raw, path)} can't be read ({error.strerror}): mend or remove it") from None
    return found


def kind(path: str) -> str:
    """ZIP, TAR or TAR_GZ, by the first bytes and a name that ends so; "" of other files.

    Raises:
        OSError, UserError: It can't be opened.
    """
    with opened(path) as file:
        head = os.pread(file.fileno(), 1 << 16, 0)
        if KINDS.get(ending(path)) == ZIP:
            return ZIP if head[:2] == b"PK" or zipfile.is_zipfile(file) else ""
    if head[:2] == GZIP:
        try:
            head = zlib.decompressobj(GZIP_WINDOW).decompress(head, tarfile.BLOCKSIZE)
        except zlib.error:
            return TAR_GZ  # called so, and damaged
        return TAR_GZ if tar_index.begins(head) else ""
    return TAR if tar_index.begins(head[: tarfile.BLOCKSIZE]) else ""


def opened(path: str) -> OpenFile:
    """Raises:
    OSError: It can't be opened, or is no regular file.
    UserError: There are too few file handles.
    """
    try:
        file = os.fdopen(os.open(path, TO_READ), "rb", buffering=0)
    except OSError as error:
        check_handles(error)
        raise
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise OSError(22, f"{kind_of(mode)}, expected a file")
    return file


def entries(path: str, of_kind: str, seek_points: Path) -> Iterator[Entry]:
    """What is in an archive, by its index, folders among it.

    Args:
        seek_points: A folder for what it takes to read a TAR_GZ at any place.

    Raises:
        BadArchive: It is damaged, or not to be trusted.
        OSError, UserError: It can't be read.
    """
    with opened(path) as file:
        archive = Archive(path, of_kind, stamp(os.fstat(file.fileno())))
        if of_kind == ZIP:
            yield from zip_index.entries(file, archive)
        elif of_kind == TAR:
            yield from tar_index.entries(file, archive)
        else:
            name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
            seek_points.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield from tar_index.packed_entries(file, archive._replace(seek_points=str(seek_points / name)))


def unpacked(raw: str, archives: Sequence[str], files: Sequence[str], is_whole: bool, seek_points: Path) -> Unpacked:
    """What archives stand for, in place of themselves.

    An archive a.zip stands for a folder a beside it; one whose members lie in one folder a, for that one.

    Args:
        archives, files: Below `raw`; those that are archives, and all others.
        is_whole: Whether there is one archive that stands for `raw` itself.
        seek_points: As of `entries`.

    Raises:
        UserError: An archive can't be read or trusted, or what it stands for is there already.
    """
    found = Unpacked(Members(), [], set())
    owners: dict[str, str] = {}
    called: dict[str, str] = {}  # the archives before, by their names without endings
    for path in archives:
        if (other := called.setdefault(without_ending(path), path)) != path:
            raise UserError(f"{raw}/{other} and {raw}/{path} stand for the same folder: keep one of them")
        try:
            listed = _listed(f"{raw}/{path}", seek_points)
        except BadArchive as error:
            raise UserError(f"{raw}/{path} {error}: {WAY_OUT}") from None
        except OSError as error:
            raise UserError(f"{raw}/{path} can't be read ({error.strerror}): mend or remove it") from None
        base = "" if is_whole else _base(path, listed)
        mine = {base + name: member for name, member in listed.files.items()} if base else listed.files
        _check_place(raw, path, "" if is_whole else f"{without_ending(path)}/", mine, files, owners)
        owners |= dict.fromkeys(mine, path) if len(archives) > 1 else {}
        for name, member in mine.items():
            found.members.add(name, member)
        found.litter.extend(base + name for name in listed.litter)
        found.folders.update((base + folder).partition("/")[0] for folder in listed.folders)
        found.folders.update([base.partition("/")[0]] if base else ())
    return found


class _Listed(NamedTuple):
    """What is in an archive, by plain names."""

    files: dict[str, Member]
    litter: dict[str, Member]
    folders: set[str]  # that are listed, or hold a file or litter; and those around them


def _listed(path: str, seek_points: Path) -> _Listed:
    """Raises:
    BadArchive: It can't be read, or some of it can't stand for files of a folder.
    """
    found = _Listed({}, {}, set())
    is_litter = {"": False}  # of a folder
    total = 0
    for entry in entries(path, kind(path), seek_points):
        if entry.trouble:
            raise BadArchive(f"holds '{_shown(entry.name)}', which {entry.trouble}")
        name = plain(entry.name)
        if entry.is_folder:
            found.folders.add(above_litter(name))
            continue
        if not name:
            raise BadArchive("holds a file without a name")
        if name in found.files or name in found.litter:
            raise BadArchive(f"holds two members called '{_shown(name)}'")
        folder = name[: max(0, name.rfind("/"))]
        if folder not in is_litter:
            is_litter[folder] = lies_in_litter(folder)
        aside = is_litter[folder] or lies_in_litter(name[len(folder) :].lstrip("/"))
        (found.litter if aside else found.files)[name] = entry.member
        total += entry.member.size
    check_ratio(total, os.stat(path).st_size)
    for folder in [*found.folders, *map(above_litter, is_litter)]:
        while folder:
            found.folders.add(folder)
            folder = folder.rpartition("/")[0]
    found.folders.discard("")
    if both := min(found.folders & found.files.keys(), default=""):
        raise BadArchive(f"holds '{_shown(both)}' as a file, and as a folder")
    return found


def _shown(name: str) -> str:
    return shown(shortened(name))


def _base(path: str, listed: _Listed) -> str:
    """The folder that an archive stands for, with / at its end: below it, its members have their names."""
    whole = without_ending(path)
    above, _, stem = whole.rpartition("/")
    if listed.files and all(name.startswith(f"{stem}/") for name in listed.files):
        return f"{above}/" if above else ""
    return f"{whole}/"


def _check_place(
    raw: str, path: str, folder: str, mine: Collection[str], files: Sequence[str], owners: Mapping[str, str]
) -> None:
    """Args:
        folder: That an archive is called like, with / at its end; "" where it stands for `raw`.
        mine: What it stands for.
        owners: The archives before it, by what they stand for.

    Raises:
        UserError: A file, or another archive, is or lies where the archive's members would.
    """
    clash = next((file for file in files if file in mine or (folder and file.startswith(folder))), None)
    if clash is not None:
        what = f"{raw}/{clash}" if clash in mine else f"the folder {raw}/{folder}"
        raise UserError(f"{what} is there, and {raw}/{path} stands for the same: keep one of them")
    if twice := min((file for file in mine if file in owners), default=""):
        raise UserError(f"{raw}/{twice} is in two archives, {owners[twice]} and {path}: keep one of them")
