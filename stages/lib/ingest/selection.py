"""Which files are meant as cases: `ingest.include` and `ingest.exclude`, and a stop where masks lie beside pictures."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from stages.lib.core.errors import UserError
from stages.lib.ingest import companions, patterns
from stages.lib.ingest.raw_files import TABLES
from stages.lib.ingest.readers.contract import Refusal
from stages.lib.params.ingest import IngestParams

ROLE = (
    "masks?|d?seg|segmentations?|groundtruth|gt|annotations?|annotated|labels?|overlays?|heatmaps?|thumbs?|thumbnails?|"
    "previews?|small"
)
AFTER = re.compile(rf"^(?P<base>.+?)(?P<role>[ ._-](?:{ROLE}))(?P<number>[ ._-]?\d+)?$", re.IGNORECASE)  # x_mask_1
BEFORE = re.compile(rf"^(?P<role>(?:{ROLE})[ ._-])(?P<base>.+)$", re.IGNORECASE)  # thumb_x
BETWEEN = re.compile(r"[ ._-]")
# Beside whole volumes; what a role is called among them is rarely anything else.
VOLUME_ROLES = re.compile(
    rf"^(?:{ROLE}|msk|seg\d+|labelmap|rois?|lesions?|aseg|aparc|wmh|contours?)(?:T[rs])?\d*$", re.IGNORECASE
)
WORDS = re.compile(r"[ ._+-]+")
NUMBERED = re.compile(r"^(?P<word>.*?)(?P<number>\d+)$")
ROLE_NUMBERED = re.compile(rf"^(?P<role>{ROLE})[ ._-]?(?P<number>\d+)$", re.IGNORECASE)  # mask-0, label0001
FOLDERS = re.compile(rf"^(?:{ROLE})(?:T[rs])?$", re.IGNORECASE)  # labelsTr: of the Medical Segmentation Decathlon
CLASS_TOO = re.compile(r"^(?:mask|gt|small|annotated|label|overlay|preview)$", re.IGNORECASE)  # what classes are called
IMAGES = re.compile(r"^(?:im|ims|images?|imgs?|photos?|pictures?|scans?|originals?|raw|rgb|inputs?)$", re.IGNORECASE)
ANY_ROLE = re.compile(rf"(?:^|[/ ._-])(?:{ROLE})(?:T[rs])?(?:[/ ._-]|\d|$)", re.IGNORECASE | re.MULTILINE)
CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's images are called x_0000 where their segmentation is called x
NAMES_ROLE = re.compile(rf"(?:^|[ ._-])(?:{ROLE})(?:$|[ ._-])", re.IGNORECASE)  # no_mask: a class beside mask
MOST_NAMED = 3  # files or folders that are named one by one, where no pattern fits them alone
FEWEST_PARTNERS = 0.5  # of the files in a folder of masks


class Companions(NamedTuple):
    """Files that seem to belong to others, and one of those."""

    files: list[str]
    partner: str  # of the first
    patterns: list[str]  # that may fit them
    exact: list[str]  # that do, one by one


def select(paths: Sequence[str], params: IngestParams) -> tuple[list[str], list[str]]:
    """The files that `ingest.include` and `ingest.exclude` take, labels.csv and other tables apart, and the others.

    Args:
        paths: Below data/raw/<dataset>.

    Raises:
        UserError: A pattern fits no file; or there is no `include`, and files look like masks of others.
    """
    tables = {*TABLES, *params.split_files.values()}
    paths = [path for path in paths if path not in tables]
    for key, given in (("include", params.include), ("exclude", params.exclude)):
        for pattern in given:
            spec = patterns.read(pattern.removeprefix("!"))
            if not any(spec.match_file(path) for path in paths):
                raise UserError(f"ingest.{key}: no file fits the pattern '{pattern}': mend or remove it")
    taken, excluded = paths, []
    if params.include or params.exclude:  # to ask takes microseconds for each path
        kept = patterns.fitting(params.include or ["*"], paths) - patterns.fitting(params.exclude, paths)
        taken, excluded = ([path for path in paths if (path in kept) == wanted] for wanted in (True, False))
    if not params.include:
        check_companions(taken, params.exclude)
    return taken, excluded


def refusals(excluded: Sequence[str]) -> list[Refusal]:
    """The files that are left out, to be counted as ignored."""
    return [Refusal((path,), "excluded", "by ingest.include or ingest.exclude", ignored=True) for path in excluded]


class Offer(NamedTuple):
    """What a message, or `tools.init`, says of files that look like masks or thumbnails of others."""

    files: list[str]
    seen: str  # some of them, each with the file that it seems to belong to
    exclude: list[str]  # `ingest.exclude` that leaves them out, and what was left out before
    others: list[str]  # that it would leave out as well


def find_companions(paths: Sequence[str], excluded: Sequence[str] = ()) -> Offer | None:
    """The files that look like masks or thumbnails of others, if there are any.

    Args:
        excluded: `ingest.exclude` as it is.
    """
    pictures = [path for path in paths if patterns.is_picture(path)]
    found: list[Companions] = []
    for search in _searches(pictures):
        while pictures and (one := search(pictures)):
            found.append(one)
            pictures = sorted(set(pictures) - set(one.files))
    if not found:
        return None
    files = [path for one in found for path in one.files]
    exclude = [*excluded, *(pattern for one in found for pattern in _exact(one, paths))]
    seen = ", ".join(f"{one.files[0]} beside {one.partner}" for one in found[:MOST_NAMED])
    return Offer(files, seen, exclude, sorted(patterns.fitting(exclude, paths) - set(files)))


def check_companions(paths: Sequence[str], excluded: Sequence[str] = ()) -> None:
    """Raises:
    UserError: Files look like masks or thumbnails of others; as cases they would be trained on. What the message says
        of `ingest.exclude` leaves out those files alone, and what was left out before.
    """
    if not (offer := find_companions(paths, excluded)):
        return
    more = f" (and {len(offer.others)} others, such as {offer.others[0]})" if offer.others else ""
    raise UserError(
        f"{len(offer.files)} of {len(paths)} files look like masks, thumbnails or copies of others: {offer.seen}; say "
        f"which are cases: {patterns.excluding(offer.exclude)} leaves them out{more}, ingest.include: "
        f"{json.dumps(['*', *('!' + pattern for pattern in offer.exclude)], ensure_ascii=False)} takes the others "
        'alone, and ingest.include: ["*"] takes all as they are'
    )


def _searches(pictures: Sequence[str]) -> list[Callable[[list[str]], Companions | None]]:
    """Those that may find any: most often none can, which is seen in a moment."""
    by_role = [_by_name, _by_number, _by_word, _by_folder] if ANY_ROLE.search("\n".join(pictures)) else []
    if any(companions.is_volume(path) for path in pictures):
        by_role.append(_by_volume)
    return [*by_role, *([_by_ending] if len({patterns.ending(path) for path in pictures}) > 1 else [])]


def _exact(found: Companions, paths: Sequence[str]) -> list[str]:
    """The patterns that fit them and no other file; if there are none, and they are many, those that fit them."""
    if patterns.fitting(found.patterns, paths) == set(found.files) or len(found.exact) > MOST_NAMED:
        return found.patterns
    return found.exact


def _companions(pairs: dict[str, str], fitting: Iterable[str]) -> Companions | None:
    """Files with the partner of each, and patterns for them, the most frequent first; None if there are no files."""
    if not pairs:
        return None
    files = list(pairs)
    chosen = [pattern for pattern, _ in Counter(fitting).most_common()]
    return Companions(files, pairs[files[0]], chosen, [patterns.of_path(path) for path in files])


def _by_name(paths: list[str]) -> Companions | None:
    """x_mask.png beside x.png, and x_seg.nii.gz beside x_t1.nii.gz."""
    places = {_place(path): path for path in paths}
    for path in paths:
        folder, stem = _place(path)
        if companions.is_volume(path) and not AFTER.match(stem):
            for cut in BETWEEN.finditer(stem):
                places.setdefault((folder, stem[: cut.start()]), path)
    pairs: dict[str, str] = {}
    fitting = []
    for path in paths:
        folder, stem = _split(path)
        for match in (AFTER.match(stem), BEFORE.match(stem)):
            if match and (partner := places.get((folder, match["base"].lower()))) and partner != path:
                pairs[path] = partner
                fitting.append(_pattern(match, path))
                break
    return _companions(pairs, fitting)


def _pattern(match: re.Match[str], path: str) -> str:
    """What fits a file, and others that are called in the same way; its ending keeps it from fitting a folder."""
    role, ending = patterns.literal(match["role"]), patterns.literal(patterns.ending(path))
    if match.re is AFTER:
        return f"*{role}*[0-9].{ending}" if match["number"] else f"*{role}.{ending}"
    return f"{role}*.{ending}"


def _by_number(paths: list[str]) -> Companions | None:
    """mask_1.png beside image_1.png."""
    words: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)  # by folder and number
    for path in paths:
        folder, stem = _split(path)
        if match := NUMBERED.match(stem):
            words[folder, match["number"]].append((match["word"].rstrip(" ._-"), path))
    pairs: dict[str, str] = {}
    fitting = []
    for together in words.values():
        roles = [(word, path) for word, path in together if FOLDERS.match(word)]
        rest = [path for word, path in together if not FOLDERS.match(word)]
        for word, path in roles if rest else ():
            pairs[path] = rest[0]
            fitting.append(f"{patterns.literal(word)}*[0-9].{patterns.literal(patterns.ending(path))}")
    return _companions(pairs, fitting) if len(pairs) > 1 else None


def _by_word(paths: list[str]) -> Companions | None:
    """segmentation.nii.gz beside imaging.nii.gz, in a folder for each patient."""
    beside: dict[str, str] = {}  # the first by its folder
    roles: list[str] = []
    for path in paths:
        folder, stem = _split(path)
        if FOLDERS.match(stem):
            roles.append(path)
        else:
            beside.setdefault(folder, path)
    pairs = {path: beside[folder] for path in roles if (folder := _split(path)[0]) in beside}
    fitting = [patterns.literal(path.rpartition("/")[2]) for path in pairs]
    return _companions(pairs, fitting) if len(pairs) > 1 else None


def _by_folder(paths: list[str]) -> Companions | None:
    """masks/x.png, or masks/x_mask.png, where a folder beside it, or the one around it, holds x.jpg."""
    beside: dict[tuple[str, str], str] = {}  # the first, by the folder above and what follows the next one
    suspects: dict[str, list[str]] = defaultdict(list)  # files by a folder that is called masks or the like
    is_role = cache(lambda name: FOLDERS.match(name) or ROLE_NUMBERED.match(name))
    names_role = cache(NAMES_ROLE.search)
    for path in paths:
        is_volume = companions.is_volume(path)
        for above, name, rest in _steps(path):
            if is_role(name) or is_volume and names_role(name):
                suspects[f"{above}{name}/"].append(path)
            elif not names_role(name):
                beside.setdefault((above, rest), path)
                beside.setdefault((above, CHANNEL.sub("", rest)), path)
                if is_volume:  # label/label01.nii.gz beside img/img01.nii.gz
                    if number := NUMBERED.match(rest):
                        beside.setdefault((above, number["number"]), path)
                    for cut in BETWEEN.finditer(rest, rest.rfind("/")):
                        beside.setdefault((above, rest[: cut.start()]), path)
        folder, stem = _place(path)
        if not is_role(folder.rpartition("/")[2]):
            around = f"{folder}/" if folder else ""
            beside.setdefault((around, f"/{stem}"), path)
            beside.setdefault((around, f"/{CHANNEL.sub('', stem)}"), path)
    pairs: dict[str, str] = {}
    found = []
    for folder, files in suspects.items():
        above = folder[: folder.rstrip("/").rfind("/") + 1]
        partners = {path: _partner(beside, above, path[len(folder) :]) for path in files}
        known = [partner for partner in partners.values() if partner]
        if known and len(known) >= FEWEST_PARTNERS * len(files) and not _are_classes(folder, files, known):
            found.append(folder)
            pairs |= {path: partner or known[0] for path, partner in partners.items()}
    if len(pairs) < 2:
        return None
    files = list(pairs)
    names = [patterns.literal(folder.rstrip("/").rpartition("/")[2]) + "/" for folder in found]
    chosen = [pattern for pattern, _ in Counter(names).most_common()]
    exact = [patterns.of_path(folder) for folder in found]
    alone = patterns.fitting(chosen, paths) == set(files)
    return Companions(files, pairs[files[0]], chosen if alone else exact, exact)


def _are_classes(folder: str, files: Sequence[str], partners: Sequence[str]) -> bool:
    """Whether two folders of the first level are rather classes, as small and large, whose files are but numbered."""
    names = {partner.partition("/")[0] for partner in partners}
    numbered = all(_split(path)[1].isdecimal() for path in files)
    return numbered and bool(CLASS_TOO.match(folder.rstrip("/"))) and not any(map(IMAGES.match, names))


def _by_volume(paths: list[str]) -> Companions | None:
    """segmentations/liver.nii.gz, or sub-1_desc-brain_mask.nii.gz, where volumes without such a word lie near it."""
    named = cache(lambda name: bool(any(map(VOLUME_ROLES.match, WORDS.split(name)))))
    near: dict[str, str] = {}  # the first volume without such a word in each folder, or below it
    roles: list[tuple[str, list[str], str]] = []
    for path in filter(companions.is_volume, paths):
        *folders, _ = path.split("/")
        stem = _split(path)[1]
        classes = {word.lower() for word in WORDS.split(folders[0])} if folders else set()
        of_stem = [word for word in WORDS.split(stem) if VOLUME_ROLES.match(word) and word.lower() not in classes]
        of_folders = [name for name in folders[1:] if named(name)]  # the first one is a class's
        if of_folders or of_stem:
            role = f"{patterns.literal(of_folders[0])}/" if of_folders else f"*{patterns.literal(of_stem[-1])}*"
            roles.append((path, folders, role if of_folders else f"{role}.{patterns.literal(patterns.ending(path))}"))
        else:
            for depth in range(len(folders) + 1):
                near.setdefault("/".join(folders[:depth]), path)
    pairs: dict[str, str] = {}
    fitting = []
    for path, folders, pattern in roles:
        above = ("/".join(folders[:depth]) for depth in range(len(folders), -1, -1))
        if partner := next((near[folder] for folder in above if folder in near), None):
            pairs[path] = partner
            fitting.append(pattern)
    return _companions(pairs, fitting)


def _partner(beside: dict[tuple[str, str], str], above: str, path: str) -> str:
    """The file in a folder beside that is called like this one, with or without a word for masks; "" if none is."""
    rest = _stem(path)
    folder, _, stem = rest.rpartition("/")
    plain = [match["base"] for match in (AFTER.match(stem), BEFORE.match(stem)) if match]
    numbered = ROLE_NUMBERED.match(stem)
    for one in (rest, *(f"{folder}/{base}" for base in plain), *([numbered["number"]] if numbered else ())):
        if found := beside.get((above, one)):
            return found
    return ""


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
        endings[_place(path)][patterns.ending(path)] = path
    for ending, number in sorted(Counter(patterns.ending(path) for path in paths).items(), key=lambda item: item[1]):
        pairs = [places for places in endings.values() if ending in places and len(places) > 1]
        if number > 1 and len(pairs) == number:
            partner_of = {
                places[ending]: next(path for other, path in places.items() if other != ending) for places in pairs
            }
            return _companions(partner_of, [f"*.{patterns.literal(ending)}"])
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
    return folder, name.removesuffix(f".{patterns.ending(name)}") or name
