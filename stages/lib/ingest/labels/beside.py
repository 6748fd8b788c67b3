"""Labels in files beside the pictures, as shards of WebDataset have them: 0001.cls, or "label" in 0001.json."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.core.opening import check_handles, decoded
from stages.lib.core.progress import say
from stages.lib.core.terminal import shown
from stages.lib.ingest.archives.members import Members, read_stamped
from stages.lib.ingest.labels import layout
from stages.lib.ingest.readers.contract import Refusal, Rejected

CLASS, RECORD = "cls", "json"
ENDINGS = (CLASS, RECORD, "txt")  # of what lies beside a picture and is none
MAX_BYTES = 1 << 20
SHARD = re.compile(r"[-_ .]*\d+$")  # what the name of a shard ends with

SERIAL = re.compile(r"(?:^|[-_ .])0\d{3,}$")  # and what no class ends with: class-1, but mine-000001


class Beside(NamedTuple):
    """The files beside pictures, by the endings above: each with the pictures that it is about."""

    cls: dict[str, list[str]]
    json: dict[str, list[str]]
    txt: dict[str, list[str]]

    @property
    def files(self) -> list[str]:
        return [path for of in self for path in of]


def find(paths: Sequence[str]) -> Beside:
    """Which files lie beside which pictures.

    WebDataset's name of a sample ends at the first dot of a file's name: a.cls is about a.png, and about a.b.png. Where
    there is none of that name, a.b.cls is about a.b.png; where there is, a.b.cls is about no picture.
    """
    found = Beside({}, {}, {})
    texts = {path for path in paths if path.endswith((".cls", ".json"))}
    if not texts:
        return found
    texts.update(path for path in paths if path.endswith(".txt"))
    pictures: dict[str, list[str]] = {}
    for path in paths:
        if path.rpartition(".")[2] not in ENDINGS:
            folder, _, name = path.rpartition("/")
            for stem in {name.partition(".")[0], name.rpartition(".")[0]}:
                pictures.setdefault(f"{folder}/{stem}", []).append(path)
    for path in paths:
        folder, _, name = path.rpartition("/")
        stem, _, ending = name.rpartition(".")
        if ending in ENDINGS and (about := pictures.get(f"{folder}/{stem}")):
            sample = path[: len(path) - len(name)] + f"{stem.partition('.')[0]}.{ending}"
            getattr(found, ending)[path] = [] if sample != path and sample in texts else about
    return found


def refusals(files: Iterable[str]) -> list[Refusal]:
    """The files beside pictures, to be counted as ignored."""
    return [Refusal((path,), "label_file", "it goes with the picture beside it", ignored=True) for path in files]


def classes(raw: Path, beside: Beside, members: Members) -> dict[str, tuple[str, str]]:
    """The label of each picture, and the file that says it, by .cls files.

    Raises:
        UserError: One can't be read, or is empty.
    """
    found: dict[str, tuple[str, str]] = {}
    _note_unused(raw, beside.cls)
    for path in sorted(filter(beside.cls.get, beside.cls), key=members.place):
        label = decoded(raw / path, _content(raw, path, members)).strip()
        if not label:
            raise UserError(f"{raw / path} is empty: expected the label of {beside.cls[path][0]}; mend or remove both")
        for picture in beside.cls[path]:
            if found.get(picture, (label,))[0] != label:
                raise UserError(f"{raw / path} and {found[picture][1]} give {picture} two labels: leave one of them")
            found[picture] = label, path
    return found


def records(raw: Path, paths: Sequence[str], beside: Beside, members: Members) -> dict[str, tuple[str, str]]:
    """Likewise by the "label" in .json files, where each picture has one: otherwise they are about something else."""
    about = {picture for pictures in beside.json.values() for picture in pictures}
    if not beside.json or any(path not in about for path in paths if path.rpartition(".")[2] not in ENDINGS):
        return {}
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(filter(beside.json.get, beside.json), key=members.place):
        try:
            given = json.loads(_content(raw, path, members))
        except (ValueError, RecursionError):
            return {}
        label = given.get("label") if isinstance(given, dict) else None
        if isinstance(label, bool) or not isinstance(label, (str, int)) or not str(label).strip():
            return {}
        found |= {picture: (str(label).strip(), path) for picture in beside.json[path]}
    _note_unused(raw, beside.json)
    return found


def _note_unused(raw: Path, about: Mapping[str, Sequence[str]]) -> None:
    if unused := [path for path, pictures in about.items() if not pictures]:
        stem, _, ending = unused[0].rpartition(".")
        folder, sign, name = stem.rpartition("/")
        sample = f"{folder}{sign}{name.partition('.')[0]}.{ending}"
        say(
            f"{raw}: {len(unused)} .{ending} files are not used, as {shown(unused[0])}: a sample's name ends at its "
            f"first dot, as WebDataset has it, and {shown(sample)} is there"
        )


def in_shards(pictures: Iterable[str]) -> bool:
    """Whether each picture lies in a folder of the first level, and all are called as shards, or splits, are."""
    folders = {picture.rpartition("/")[0] for picture in pictures}
    return all(SERIAL.search(folder) or layout.split_named(folder) for folder in folders)


def _content(raw: Path, path: str, members: Members) -> bytes:
    """Raises:
    UserError: It can't be read.
    """
    member = members.get(path)
    where = f" in {member.archive.path}" if member else ""
    try:
        return read_stamped(f"{raw}/{path}", member, MAX_BYTES)[0]
    except Rejected as error:
        raise UserError(f"{raw / path}{where} can't be read ({error.detail}): mend or remove it") from None
    except OSError as error:
        check_handles(error)
        raise UserError(f"{raw / path}{where} can't be read ({error.strerror}): mend or remove it") from None


def splits(pictures: Iterable[str]) -> dict[str, str]:
    """The split of each picture, where each lies in a folder or shard that is called by one, as train-000012.tar."""
    named: dict[str, str] = {}
    found: dict[str, str] = {}
    for picture in pictures:
        folder, _, below = picture.partition("/")
        if folder not in named:
            named[folder] = layout.split_named(folder) or layout.split_named(SHARD.sub("", folder)) if below else ""
        found[picture] = named[folder]
    return found if len(set(named.values())) > 1 and all(named.values()) else {}
