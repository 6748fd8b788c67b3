"""Patterns of `ingest.include` and `ingest.exclude`, as a message offers them: they fit the files that it counts."""

import json
import re
from collections.abc import Sequence

import pathspec

from stages.lib.core.errors import UserError

PACKED = "nii.gz"
PICTURES = {
    *("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "jp2", "pgm", "ppm"),
    *("nii", PACKED, "nrrd", "mha", "npy", "npz"),
}
SPECIAL = re.compile(r"([\\*?\[\]#!])")


def is_picture(path: str) -> bool:
    """Whether a file is called as pictures or whole volumes are; DICOM files are called in any way."""
    return ending(path).lower() in PICTURES


def ending(path: str) -> str:
    """What a file's name ends with, after a dot: "nii.gz" is one ending."""
    name = path.rpartition("/")[2]
    return name[-len(PACKED) :] if name.lower().endswith(f".{PACKED}") else name.rpartition(".")[2]


def fitting(patterns: Sequence[str], paths: Sequence[str]) -> set[str]:
    """The paths that some of the patterns fit.

    Raises:
        UserError: One can't be read.
    """
    spec = pathspec.PathSpec([one for pattern in patterns for one in read(pattern).patterns])
    return {path for path in paths if spec.match_file(path)}


def read(pattern: str) -> pathspec.PathSpec:
    """Raises:
    UserError: It can't be read.
    """
    try:
        return pathspec.PathSpec.from_lines("gitignore", [pattern])
    except (ValueError, re.error) as error:
        raise UserError(
            f"the pattern {pattern!r} can't be read as those of .gitignore are ({error}): mend it"
        ) from None


def literal(text: str) -> str:
    """A part of a path in a pattern, where it fits nothing but itself."""
    return SPECIAL.sub(r"\\\1", text)


def of_path(path: str) -> str:
    """The pattern of one file, or with / at its end of one folder, below data/raw/<dataset>."""
    return "/" + literal(path)


def excluding(patterns: Sequence[str]) -> str:
    """As a line of params.yaml."""
    return f"ingest.exclude: {json.dumps(list(patterns), ensure_ascii=False)}"
