"""Folders as other tools lay them out: train/, val/ and test/ above or below the classes, or one folder around all."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.core.terminal import shortened

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


def class_folders(raw: Path, paths: Sequence[str], folders: Sequence[str], as_classes: bool) -> list[ClassFolder]:
    """The folders that are classes, and the split that each is of.

    Args:
        paths: Of all files, below `raw`.
        folders: Those of the first level.
        as_classes: Take folders called train, val and test for classes like any other.

    Raises:
        UserError: Only some of the folders name a split, or files lie in a split's folder and in no class.
    """
    if around := _around(paths, folders):
        inside = [path.removeprefix(around) for path in paths if path.startswith(around)]
        folders = sorted({path.partition("/")[0] for path in inside})
        say(f"{raw} holds the folder {around} alone: what lies in it ({shortened(', '.join(folders))}) is taken")
        found = class_folders(raw / around, inside, folders, as_classes)
        return [one._replace(folder=around + one.folder) for one in found]
    below: dict[str, set[str]] = defaultdict(set)  # what lies in a folder of the first level; "" for a file
    for path in paths:
        first, *middle = path.split("/")[:-1] or [""]
        below[first].add(middle[0] if middle else "")
    below.pop("", None)  # files beside the folders, which get no label
    if not as_classes:
        named = {folder: split_named(folder) for folder in folders}
        if len(set(named.values()) - {""}) > 1:
            return _splits_above(raw, named, below)
        if any(_are_splits(inner) for inner in below.values()):
            return _splits_below(raw, folders, below)
    return [ClassFolder(folder, folder, "") for folder in folders]


def _around(paths: Sequence[str], folders: Sequence[str]) -> str:
    """The folders, one in the other and with / at the end, that hold nothing but several folders: as archives unpack.

    "" where there are none: the only folder holds files, too, or a single folder of files.
    """
    around = ""
    while len(folders) == 1:
        around += f"{folders[0]}/"
        inside = [path.removeprefix(around) for path in paths if path.startswith(around)]
        if not all("/" in path for path in inside):
            return ""
        folders = sorted({path.partition("/")[0] for path in inside})
    return around


def _are_splits(inner: set[str]) -> bool:
    return len({split_named(name) for name in inner} - {""}) > 1


def _splits_above(raw: Path, named: dict[str, str], below: dict[str, set[str]]) -> list[ClassFolder]:
    for folder, split in named.items():
        if not split:
            splits = ", ".join(name for name, found in named.items() if found)
            raise UserError(
                f"{raw}: the folders {splits} look like a split, but '{folder}' does not: leave it out "
                f"(ingest.exclude: ['/{folder}/']), or take all for classes (ingest.split_folders: classes)"
            )
        if "" in below[folder]:
            raise UserError(
                f"{raw / folder} looks like a split, but files lie in it beside its class folders: move them, "
                "write a labels.csv with the column split, or take it for a class (ingest.split_folders: classes)"
            )
    return [
        ClassFolder(f"{folder}/{inner}", inner, split)
        for folder, split in named.items()
        for inner in sorted(below[folder])
    ]


def _splits_below(raw: Path, folders: Sequence[str], below: dict[str, set[str]]) -> list[ClassFolder]:
    for folder in folders:
        if other := sorted(name for name in below[folder] if not split_named(name)):
            what = f"'{other[0]}'" if other[0] else "files"
            raise UserError(
                f"{raw}: some class folders hold train, val and test, but {raw / folder} holds {what} as well: leave "
                "it out (ingest.exclude), or take no folder for a split (ingest.split_folders: classes)"
            )
    return [
        ClassFolder(f"{folder}/{inner}", folder, split_named(inner))
        for folder in folders
        for inner in sorted(below[folder])
    ]
