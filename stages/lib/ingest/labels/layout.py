"""Folders as other tools lay them out: train/, val/ and test/ above or below the classes, or one folder around all."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.core.terminal import shortened
from stages.lib.ingest import patterns

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **{"train": "train", "training": "train"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
    **{"test": "test", "testing": "test"},
}
SURROUNDING = re.compile(r"^(?:seg|img|imgs|images?|data)[_-]|[_-]?(?:set|images?|imgs?|data)$")  # seg_train, test_set


class ClassFolder(NamedTuple):
    """A folder whose files are of one class."""

    folder: str  # below data/raw/<dataset>, with /
    label: str
    split: str  # train, validation or test; "" where the layout names none


def split_named(name: str) -> str:
    """The split that a folder or a value of labels.csv names; "" if it names none."""
    plain = name.strip().lower()
    return SPLIT_NAMES.get(plain) or SPLIT_NAMES.get(SURROUNDING.sub("", plain), "")


def class_folders(
    raw: Path, paths: Sequence[str], folders: Sequence[str], top: str, as_classes: bool
) -> list[ClassFolder]:
    """The folders that are classes, and the split that each is of. Says where folders around them are passed over.

    Args:
        paths: Of all files, below `raw`.
        folders: Those of the first level.
        top: As `around` gives it.
        as_classes: Take folders called train, val and test for classes like any other.

    Raises:
        UserError: Only some of the folders name a split, or files lie in a split's folder and in no class.
    """
    if top:
        paths, folders = _inside(paths, top)
        say(f"{raw} holds the folder {top} alone: what lies in it ({shortened(', '.join(folders))}) is taken")
    place = _Place(raw, top)
    if not as_classes:
        named = {folder: split_named(folder) for folder in folders}
        if len(set(named.values()) - {""}) > 1:
            return _splits_above(place, named, paths)
        if any(_are_splits(inner) for inner in _below(paths).values()):
            return _splits_below(place, folders, paths)
    return [ClassFolder(top + folder, folder, "") for folder in folders]


class _Place(NamedTuple):
    """Where the folders are that a layout is about."""

    raw: Path
    top: str  # the folders around them, with / at the end

    def exclude(self, folder: str) -> str:
        """What a message offers: the key and the pattern that leaves out a folder."""
        return patterns.excluding([patterns.of_path(f"{self.top}{folder}/")])

    def exclude_files(self, folder: str, names: Sequence[str]) -> str:
        """The same for files in a folder, by their endings."""
        endings = {patterns.literal(name.rpartition(".")[2]) if "." in name else "" for name in names}
        start = patterns.of_path(f"{self.top}{folder}/")
        return patterns.excluding([f"{start}*.{ending}" if ending else f"{start}*" for ending in sorted(endings)])

    def of(self, path: str) -> Path:
        return self.raw / (self.top + path)


def around(paths: Sequence[str], folders: Sequence[str]) -> str:
    """The folders, one in the other and with / at the end, in which several lie, and none beside them: as archives of
    pictures unpack. "" where there are none: folders of DICOM files may as well be patients as classes.
    """
    top = ""
    while len(folders) == 1:
        top += f"{folders[0]}/"
        inside, folders = _inside(paths, top)
        if not folders or len(folders) == 1 and not all("/" in path for path in inside):
            return ""
    if top and 2 * sum(map(patterns.is_picture, paths)) > len(paths):
        return top
    return ""


def alone(paths: Sequence[str], folders: Sequence[str]) -> Iterator[str]:
    """Each folder, with / at its end, beside which there is no other, one in the other, be the innermost a class."""
    top = ""
    while len(folders) == 1:
        top += f"{folders[0]}/"
        yield top
        folders = _inside(paths, top)[1]


def _inside(paths: Sequence[str], top: str) -> tuple[list[str], list[str]]:
    """What lies in a folder, by its path from there: the files, and the folders of the first level."""
    inside = [path.removeprefix(top) for path in paths if path.startswith(top)]
    return inside, sorted({path.partition("/")[0] for path in inside if "/" in path})


def _below(paths: Sequence[str]) -> dict[str, set[str]]:
    """What lies in each folder of the first level, "" for a file."""
    below: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        first, *middle = path.split("/")[:-1] or [""]
        below[first].add(middle[0] if middle else "")
    below.pop("", None)  # files beside the folders, which get no label
    return below


def _are_splits(inner: set[str]) -> bool:
    return len({split_named(name) for name in inner} - {""}) > 1


def _splits_above(place: _Place, named: dict[str, str], paths: Sequence[str]) -> list[ClassFolder]:
    below = _below(paths)
    for folder, split in named.items():
        if not split:
            splits = ", ".join(name for name, found in named.items() if found)
            raise UserError(
                f"{place.raw}: the folders {splits} look like a split, but '{folder}' does not: leave it out "
                f"({place.exclude(folder)}), or take all for classes (ingest.split_folders: classes)"
            )
    tops = _repeated(place, named, paths, below)
    found = []
    for folder, split in named.items():
        inside, inner = _inside(paths, f"{folder}/{tops[folder]}")
        if loose := [path for path in inside if "/" not in path]:
            raise UserError(
                f"{place.of(folder)} looks like a split, but files lie in it beside its class folders, such as "
                f"{loose[0]}: move them or leave them out ({place.exclude_files(folder, loose)}), write a labels.csv "
                "with the column split, or take it for a class (ingest.split_folders: classes)"
            )
        found += [ClassFolder(f"{place.top}{folder}/{tops[folder]}{name}", name, split) for name in inner]
    return found


def _repeated(place: _Place, named: dict[str, str], paths: Sequence[str], below: dict[str, set[str]]) -> dict[str, str]:
    """Of each split's folder, the folder in it that holds all classes, as in seg_train/seg_train/; "" if none does.

    A single class would look the same in one split; but where none has a second one, there are no classes yet.
    """
    if any(len(below[folder]) != 1 or "" in below[folder] for folder in named):
        return dict.fromkeys(named, "")
    tops = {folder: f"{min(below[folder])}/" for folder in named}
    several = [len(_inside(paths, f"{folder}/{top}")[1]) > 1 for folder, top in tops.items()]
    if not all(several):
        return dict.fromkeys(named, "")
    inner = ", ".join(f"{place.top}{folder}/{top}" for folder, top in tops.items())
    say(f"{place.raw}: what lies in {inner} is taken")
    return tops


def _splits_below(place: _Place, folders: Sequence[str], paths: Sequence[str]) -> list[ClassFolder]:
    below = _below(paths)
    for folder in folders:
        if other := sorted(name for name in below[folder] if not split_named(name)):
            loose = [path for path in _inside(paths, f"{folder}/")[0] if "/" not in path]
            what = f"'{other[0]}'" if other[0] else f"files such as {loose[0]}"
            way_out = place.exclude(f"{folder}/{other[0]}") if other[0] else place.exclude_files(folder, loose)
            raise UserError(
                f"{place.raw}: some class folders hold train, val and test, but {place.of(folder)} holds {what} as "
                f"well: leave those out ({way_out}), or take no folder for a split (ingest.split_folders: classes)"
            )
    return [
        ClassFolder(f"{place.top}{folder}/{inner}", folder, split_named(inner))
        for folder in folders
        for inner in sorted(below[folder])
    ]
