"""Which files are meant as cases: `ingest.include` and `ingest.exclude`, and a stop where masks lie beside pictures."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pathspec

from stages.lib.core.errors import UserError
from stages.lib.ingest.labels.table import LABELS_CSV
from stages.lib.ingest.readers.contract import Refusal
from stages.lib.params.ingest import IngestParams

PICTURES = {"png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "jp2", "pgm", "ppm"}
ROLE = "mask|masks|seg|segmentation|groundtruth|gt|annotation|annotated|overlay|heatmap|thumb|thumbnail|preview"
AFTER = re.compile(rf"^(?P<base>.+?)(?P<role>[ ._-](?:{ROLE}))(?P<number>[ ._-]?\d+)?$", re.IGNORECASE)  # x_mask_1
BEFORE = re.compile(rf"^(?P<role>(?:{ROLE})[ ._-])(?P<base>.+)$", re.IGNORECASE)  # thumb_x
FOLDERS = re.compile(rf"^(?:{ROLE})s?$", re.IGNORECASE)


class Companions(NamedTuple):
    """Files that seem to belong to others."""

    files: list[str]
    partners: list[str]  # the picture beside each
    patterns: list[str]  # that fit them


def select(paths: Sequence[str], params: IngestParams) -> tuple[list[str], list[str]]:
    """The files that `ingest.include` and `ingest.exclude` take, labels.csv apart, and the others.

    Args:
        paths: Below data/raw/<dataset>.

    Raises:
        UserError: A pattern fits no file; or there is no `include`, and files look like masks of others.
    """
    paths = [path for path in paths if path != LABELS_CSV]
    for key, patterns in (("include", params.include), ("exclude", params.exclude)):
        for pattern in patterns:
            spec = pathspec.PathSpec.from_lines("gitignore", [pattern.removeprefix("!")])
            if not any(spec.match_file(path) for path in paths):
                raise UserError(f"ingest.{key}: no file fits the pattern '{pattern}': mend or remove it")
    wanted = pathspec.PathSpec.from_lines("gitignore", params.include or ["*"])
    unwanted = pathspec.PathSpec.from_lines("gitignore", params.exclude)
    taken: list[str] = []
    excluded: list[str] = []
    for path in paths:
        (taken if wanted.match_file(path) and not unwanted.match_file(path) else excluded).append(path)
    if not params.include:
        check_companions(taken)
    return taken, excluded


def refusals(excluded: Sequence[str]) -> list[Refusal]:
    """The files that are left out, to be counted as ignored."""
    return [Refusal((path,), "excluded", "by ingest.include or ingest.exclude", ignored=True) for path in excluded]


def check_companions(paths: Sequence[str]) -> None:
    """Raises:
    UserError: Files look like masks or thumbnails of others; as cases they would be trained on.
    """
    pictures = [path for path in paths if _ending(path) in PICTURES]
    found = _by_name(pictures) or _by_folder(pictures) or _by_ending(pictures)
    if found is None:
        return
    raise UserError(
        f"{len(found.files)} of {len(paths)} files look like masks, thumbnails or copies of others: "
        f"{found.files[0]} beside {found.partners[0]}; say which are cases: "
        f"ingest.exclude: {json.dumps(found.patterns)} leaves them out, ingest.include: "
        f"{json.dumps(['*', *('!' + pattern for pattern in found.patterns)])} takes the others alone, and "
        'ingest.include: ["*"] takes all as they are'
    )


def _by_name(paths: list[str]) -> Companions | None:
    """x_mask.png beside x.png."""
    places = {_place(path): path for path in paths}
    files, partners, patterns = [], [], Counter[str]()
    for path in paths:
        folder, stem = _split(path)
        match = AFTER.match(stem) or BEFORE.match(stem)
        if match and (partner := places.get((folder, match["base"].lower()))):
            files.append(path)
            partners.append(partner)
            if match.re is BEFORE:
                patterns[f"{match['role']}*"] += 1
            else:
                patterns[f"*{match['role']}{'*' if match['number'] else '.*'}"] += 1
    return Companions(files, partners, [pattern for pattern, _ in patterns.most_common()]) if files else None


def _by_folder(paths: list[str]) -> Companions | None:
    """masks/x.png where a folder beside it holds x.jpg."""
    beside: dict[tuple[str, str], list[str]] = defaultdict(list)  # by the folder above and what follows the next one
    suspects: dict[str, list[str]] = defaultdict(list)  # files by a folder that is called masks or the like
    for path in paths:
        for above, name, rest in _steps(path):
            beside[above, rest].append(path)
            if FOLDERS.match(name):
                suspects[f"{above}{name}/"].append(path)
    for folder, files in suspects.items():
        above = folder.rstrip("/").rpartition("/")[0]
        above = above and above + "/"
        partners = []
        for path in files:
            rest = _stem(path[len(folder) :])
            partners += [other for other in beside[above, rest] if not other.startswith(folder)][:1]
        if len(files) > 1 and len(partners) == len(files):
            return Companions(files, partners, [f"{folder.rstrip('/').rpartition('/')[2]}/"])
    return None


def _steps(path: str) -> Iterator[tuple[str, str, str]]:
    """For every folder of a path: what is above it, its name, and what follows, without the ending."""
    parts = path.split("/")
    for i, name in enumerate(parts[:-1]):
        above = "".join(part + "/" for part in parts[:i])
        yield above, name, _stem("/".join(parts[i + 1 :]))


def _by_ending(paths: list[str]) -> Companions | None:
    """x.png beside every x.jpg."""
    endings: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path in paths:
        endings[_place(path)][_ending(path)] = path
    for ending, number in sorted(Counter(_ending(path) for path in paths).items(), key=lambda item: item[1]):
        pairs = [places for places in endings.values() if ending in places and len(places) > 1]
        if number > 1 and len(pairs) == number:
            files = [places[ending] for places in pairs]
            partners = [next(path for other, path in places.items() if other != ending) for places in pairs]
            return Companions(files, partners, [f"*.{ending}"])
    return None


def _place(path: str) -> tuple[str, str]:
    """Where a file lies and what it is called, without its ending and without regard to capitals."""
    folder, stem = _split(path)
    return folder, stem.lower()


def _stem(path: str) -> str:
    """A path without its ending and without regard to capitals."""
    folder, stem = _place(path)
    return f"{folder}/{stem}"


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name.rpartition(".")[0] or name


def _ending(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2].lower()
