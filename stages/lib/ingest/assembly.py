"""From inspected files to the cases of one data set: all images or all volumes, of one colour mode."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.ingest import companions, readers
from stages.lib.ingest.case_table import CaseTable, OneFileCases, Template, tabulate
from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.readers.colour import GREY, RGB, can_be_made, channels_of
from stages.lib.ingest.readers.contract import Assembly, Identity, IsNamed, NoSuchPart, Options, Part, Refusal

X_RAYS = ("CR", "DX", "MG")
UNSELECTED = "not one of ingest.select"
ALIKE = {"CR": "CR/DX", "DX": "CR/DX"}  # two techniques of one kind of picture
UNLISTED = "labels.csv names series or instances, and not this one"
IsListed = Callable[[str, str | None], bool]  # of a path, and of the identifier of a series
VOLUME_AXES, IMAGE_AXES = 4, 3  # C, D, H, W and C, H, W
OF_VOLUMES = ("dicom", "nifti")  # readers


class Assembled(NamedTuple):
    cases: CaseTable
    refused: list[Refusal]  # of files that are in no case, the unreadable ones among them


class SeveralKinds(UserError):
    """Nothing says which kind of scan or picture is meant."""

    def __init__(self, select: dict[str, list[str]], message: str, kinds: str) -> None:
        """Args: select: `ingest.select` of the most frequent kind; kinds: all of them, with their numbers."""
        super().__init__(message)
        self.select, self.kinds = select, kinds


def none_named(path: str, series: str) -> bool:
    """Where there is no labels.csv that names files."""
    return False


def identities(files: FileTable) -> Iterator[Identity]:
    """What labels.csv may know the files by, beside their paths."""
    for name, positions in files.accepted.items():
        if not readers.reader(name).ALONE:
            yield from readers.reader(name).identities([files.file(i) for i in positions])


def assemble(
    files: FileTable,
    options: Options,
    is_named: IsNamed = none_named,
    is_listed: IsListed | None = None,
    parts: Mapping[str, Mapping[Part, str]] = MappingProxyType({}),
) -> Assembled:
    """All cases that the files make.

    Args:
        is_named: Whether labels.csv names a file or its series by itself: then nothing but its content sets it aside.
        is_listed: Whether a file, by its path and the identifier of its series, is one that somebody has asked for;
            None where all are. What is not is ignored, before it is asked of what kind most cases are.
        parts: By path, the parts of files that are cases of their own, and where labels.csv names each.

    Raises:
        UserError: A decoder is missing, DICOM files are of several kinds, or `ingest.select` selects nothing.
    """
    if options.params.select and "dicom" not in files.accepted:
        raise UserError("ingest.select: there is no DICOM file that could be read, and it selects among those alone")
    unread = files.refused
    refused = list(unread)
    whole: list[Template] = []
    one_file: list[OneFileCases] = []
    for name, positions in files.accepted.items():
        if parts:
            of_parts, positions = _of_parts(name, files, positions, parts, options)
            whole += [Template(name, case) for case in of_parts.cases]
            refused += of_parts.refused
            if not len(positions):
                continue
        if readers.reader(name).ALONE:
            more, positions = _of_one_file(name, files, positions, options)
            one_file += more
        chosen = [files.file(i) for i in positions]
        if not readers.reader(name).ALONE:
            chosen, aside = readers.reader(name).choose(chosen, is_named, options)
            refused = _of_unselected(refused, aside) + aside
        assembly = readers.reader(name).assemble(chosen, unread, options)
        whole += [Template(name, case) for case in assembly.cases]
        refused += assembly.refused
    if options.params.select:
        whole, one_file, others = _without_other_formats(whole, one_file)
        refused += others
    if is_listed is not None:
        whole, one_file, refused = _listed(whole, one_file, refused, is_listed)
    _check_one_kind(whole, options)
    slices = companions.of_slices(files.paths[i] for name in OF_VOLUMES for i in files.accepted.get(name, ()))
    whole, one_file, of_other_kind = _images_or_volumes(whole, one_file, slices, options)
    if any(len(t.case.shape) == VOLUME_AXES for t in (*whole, *(cases.template for cases in one_file))):
        series = [tuple(file.path for file in t.case.files) for t in whole] + [r.paths for r in refused if r.series]
        above = {place for paths in series if len(paths) > 1 for place in companions.around(paths)}
        refused = companions.set_aside(refused, slices, above)
    whole, one_file = _of_one_dtype(whole, one_file)
    whole, one_file, uncommon = _of_one_colour(whole, one_file, options)
    return Assembled(tabulate(whole, one_file), refused + of_other_kind + uncommon)


def remarks(cases: CaseTable, options: Options) -> list[str]:
    """What of the cases looks as if it did not belong together, although nothing forbids it."""
    bits, units = Counter[str](), Counter[str]()
    numbers = np.bincount(cases.which, minlength=len(cases.templates)).tolist()
    for template, number in zip(cases.templates, numbers, strict=True):
        attributes = dict(template.case.attributes)
        if len(template.case.shape) == IMAGE_AXES and attributes.get("modality") in X_RAYS:
            bits[attributes.get("bits_stored", "")] += number
        units[template.case.units] += number
    found = []
    named = Counter[str]()
    for template, number in zip(cases.templates, numbers, strict=True):
        named[dict(template.case.attributes).get("channel_names", "")] += number
    if len(named) > 1 and len(named.keys() - {""}) > 1:
        there = ", ".join(str(number) for _, number in named.most_common())
        found.append(
            f"channels have other names or another order from file to file ({there} cases): a channel's number has to "
            "stand for the same in all; ingest.exclude leaves files out"
        )
    known = np.isfinite(cases.spacings_mm()).all(axis=1)
    if cases.shapes().shape[1] == VOLUME_AXES and known.any() and not known.all():
        what = f"{int((~known).sum())} of {len(cases)} volumes have no spacing"
        found.append(f"{what}, so none is resampled to one: ingest.spacing_mm says it of stacks, or leave these out")
    if len(units) > 1 and options.params.intensity != "hu":
        there = ", ".join(f"{number} in {of or 'other units'}" for of, number in sorted(units.items()))
        found.append(f"scans of several units ({there}), whose numbers do not compare: ingest.intensity: hu takes one")
    if len(bits) < 2 or options.params.intensity != "stored":
        return found
    there = ", ".join(f"{number} of {of} bits" for of, number in bits.most_common())
    return found + [f"X-rays of different depths ({there}): ingest.intensity: bits, or voi, brings them onto one scale"]


def _of_unselected(unread: list[Refusal], aside: list[Refusal]) -> list[Refusal]:
    """The refusals, where a damaged file of a series that `ingest.select` leaves out is no loss either."""
    series = {refusal.series for refusal in aside if refusal.reason == "unselected"}
    return [
        r._replace(reason="unselected", detail=f"{r.reason}; {UNSELECTED}", ignored=True)
        if r.series in series and not r.ignored
        else r
        for r in unread
    ]


def _without_other_formats(
    whole: list[Template], one_file: list[OneFileCases]
) -> tuple[list[Template], list[OneFileCases], list[Refusal]]:
    """The cases of DICOM files; the others set aside, as nothing of `ingest.select` can be said of them."""
    lost = [tuple(file.path for file in t.case.files) for t in whole if t.reader != "dicom"]
    lost += [(path,) for cases in one_file for path in cases.paths]
    kept = [template for template in whole if template.reader == "dicom"]
    return kept, [], [Refusal(paths, "unselected", UNSELECTED, ignored=True) for paths in lost]


def _check_one_kind(whole: list[Template], options: Options) -> None:
    """Raises:
    SeveralKinds: DICOM files are of several modalities, or pictures and volumes, and nothing says which are meant.
    """
    kinds: Counter[tuple[str, str]] = Counter()
    intents: dict[str, Counter[str]] = defaultdict(Counter)  # of pictures, the SOP classes of each
    for template in whole:
        if template.reader == "dicom":
            attributes = dict(template.case.attributes)
            modality = attributes.get("modality", "")
            kind = "volumes" if len(template.case.shape) == VOLUME_AXES else "images"
            kinds[ALIKE.get(modality, modality), kind] += 1
            if (intent := attributes.get("intent", "")) and kind == "images":
                intents[intent][attributes.get("sop_class", "")] += 1
    if options.params.kind != "auto":
        kinds = Counter({key: number for key, number in kinds.items() if key[1] == options.params.kind})
    select = options.params.select
    if len(intents) > 1 and not select.sop_class:
        there = " and ".join(f"{of.total()} {intent}" for intent, of in sorted(intents.items()))
        most = max(sorted(intents), key=lambda intent: intents[intent].total())
        of_others = {name for intent, of in intents.items() if intent != most for name in of}
        chosen = sorted(intents[most].keys() - of_others) or sorted(intents[most])
        way = f'ingest: {{select: {{sop_class: {json.dumps(chosen)}}}}} takes the most frequent, {{sop_class: "*"}} all'
        message = f"the X-rays are of two kinds ({there}), whose pixels do not compare: {way}"
        raise SeveralKinds({"sop_class": chosen}, message, there)
    if len(kinds) < 2 or select.modality or select.sop_class:
        return
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    there = ", ".join(f"{number} {kind} of {names or 'no modality'}" for (names, kind), number in ordered)
    modality, kind = ordered[0][0]
    modalities = sorted({name for names, _ in kinds for name in names.split("/")})
    ways = [f"ingest: {{select: {{modality: {json.dumps(modality.split('/'))}}}}} takes the first"]
    if len({names for names, _ in kinds}) > 1:
        ways.append(f"{json.dumps(modalities)} in its place all of them")
    if len({of for _, of in kinds}) > 1:
        ways.append(f"ingest: {{kind: {kind}}} {kind} alone")
    message = (
        f"the DICOM files are of several kinds ({there}), and a data set is of one: {', '.join(ways)}; "
        "python -m tools.survey shows what there is, series by series"
    )
    raise SeveralKinds({"modality": modality.split("/")}, message, there)


def _listed(
    whole: list[Template], one_file: list[OneFileCases], refused: list[Refusal], is_listed: IsListed
) -> tuple[list[Template], list[OneFileCases], list[Refusal]]:
    """The cases that are listed; and all refusals, where what belongs to a series that is not listed is ignored."""

    def is_wanted(paths: Sequence[str], series: str | None) -> bool:
        return any(is_listed(path, series) for path in paths)

    lost: list[tuple[str, ...]] = []
    kept: list[Template] = []
    for template in whole:
        paths = tuple(file.path for file in template.case.files)
        if is_wanted(paths, template.case.series):
            kept.append(template)
        else:
            lost.append(paths)
    kept_files: list[OneFileCases] = []
    for cases in one_file:
        wanted = np.array([is_listed(path, cases.template.case.series) for path in cases.paths], bool)
        lost += [(path,) for path, is_kept in zip(cases.paths, wanted.tolist(), strict=True) if not is_kept]
        if wanted.any():
            paths_kept = [cases.paths[i] for i in np.flatnonzero(wanted)]
            kept_files.append(cases._replace(ids=cases.ids[wanted], paths=paths_kept, digests=cases.digests[wanted]))
    known = [
        refusal._replace(reason="unlisted", detail=f"{refusal.reason}; {UNLISTED}", ignored=True)
        if refusal.series and not refusal.ignored and not is_wanted(refusal.paths, refusal.series)
        else refusal
        for refusal in refused
    ]
    return kept, kept_files, known + [Refusal(paths, "unlisted", UNLISTED, ignored=True) for paths in lost]


def _of_parts(
    name: str, files: FileTable, positions: np.ndarray, parts: Mapping[str, Mapping[Part, str]], options: Options
) -> tuple[Assembly, np.ndarray]:
    """The cases of parts of files, and the positions of the files of which none is named.

    Raises:
        UserError: A row is about a part that a file doesn't have.
    """
    found = Assembly([])
    kept = []
    for i in positions.tolist():
        if not (wanted := parts.get(files.paths[i])):
            kept.append(i)
            continue
        reader = readers.reader(name)
        if (take := getattr(reader, "parts", None)) is None:
            raise UserError(
                f"{next(iter(wanted.values()))}: the file is no file of arrays, of which parts can be named"
            )
        try:
            assembly = take(files.file(i), list(wanted), options)
        except NoSuchPart as error:
            raise UserError(f"{wanted[error.part]}: {error.detail}") from None
        found.cases += assembly.cases
        found.refused += assembly.refused
    return found, np.array(kept, np.int64)


def _of_one_file(
    name: str, files: FileTable, positions: np.ndarray, options: Options
) -> tuple[list[OneFileCases], np.ndarray]:
    """Files that are one case each, by what they have in common; and the positions of the others.

    The reader is asked once for all files that have the same in common, not once per file.
    """
    found: list[OneFileCases] = []
    others = [np.empty(0, np.int64)]
    ordered = positions[np.argsort(files.which[positions], kind="stable")]
    for same in np.split(ordered, np.flatnonzero(np.diff(files.which[ordered])) + 1):
        assembly = readers.reader(name).assemble([files.file(same[0])], [], options)
        if len(assembly.cases) == 1 and int(assembly.cases[0].case, 16) == files.ids[same[0]]:
            template = Template(name, assembly.cases[0]._replace(case=""))
            paths = [files.paths[i] for i in same.tolist()]
            found.append(OneFileCases(template, files.ids[same], paths, files.digests[same]))
        else:
            others.append(same)
    return found, np.concatenate(others)


def _of_one_colour(
    whole: list[Template], one_file: list[OneFileCases], options: Options
) -> tuple[list[Template], list[OneFileCases], list[Refusal]]:
    """The cases with the number of channels that all get; and those that can't get it, refused.

    Volumes keep theirs unless `ingest.colour` is given, as three channels of a microscope are no colours.
    """
    numbers: Counter[int] = Counter(template.case.shape[0] for template in whole)
    for cases in one_file:
        numbers[cases.template.case.shape[0]] += len(cases.paths)
    both = [*whole, *(cases.template for cases in one_file)]
    volumes = any(len(template.case.shape) == VOLUME_AXES for template in both)
    colour = options.params.colour
    as_they_are = volumes and colour == "auto"
    channels = max(numbers, key=lambda n: (numbers[n], -n)) if as_they_are else channels_of(colour, numbers)

    def fits(template: Template) -> bool:
        found = template.case.shape[0]
        return found == channels if as_they_are else can_be_made(found, channels, colour)

    refused = []
    lost = [(template, tuple(file.path for file in template.case.files)) for template in whole if not fits(template)]
    lost += [(cases.template, (path,)) for cases in one_file if not fits(cases.template) for path in cases.paths]
    for template, paths in lost:
        way = "ingest.colour"
        if as_they_are:
            are_colours = {template.case.shape[0], channels} == {GREY, RGB}
            way = (
                "ingest.colour can be grey_mean, grey_luminance or rgb"
                if are_colours
                else "save all with the same ones"
            )
        detail = f"{template.case.shape[0]} channels, where the data set has {channels} ({way})"
        refused.append(Refusal(paths, "unsupported_colours", detail))
    return (
        [_with_channels(template, channels) for template in whole if fits(template)],
        [
            cases._replace(template=_with_channels(cases.template, channels))
            for cases in one_file
            if fits(cases.template)
        ],
        refused,
    )


def _of_one_dtype(whole: list[Template], one_file: list[OneFileCases]) -> tuple[list[Template], list[OneFileCases]]:
    """Volumes in a dtype that holds the values of all: scanners store the same in different ones.

    Their numbers stay what they are: float32 holds every integer of 16 bits. So it is with pictures of signed and
    floating point numbers, which measure something. What unsigned ones of 8 or 16 bits measure follows from their
    range, from black to white, which is another one: beside others they are left for statistics to refuse.
    """
    both = [*whole, *(cases.template for cases in one_file)]
    dtypes = {template.case.dtype for template in both}
    volumes = any(len(template.case.shape) == VOLUME_AXES for template in both)
    if len(dtypes) < 2 or not volumes and dtypes & {"uint8", "uint16"}:
        return whole, one_file
    common = np.result_type(*dtypes).name
    common = common if common in ("uint8", "uint16", "int16") else "float32"
    kind = "volumes" if volumes else "pictures"
    say(f"{kind} of {', '.join(sorted(dtypes))}: all are stored as {common}, with the same numbers")

    def stored(template: Template) -> Template:
        case = template.case
        return template._replace(case=case._replace(dtype=common, recipe=(common, *case.recipe[1:])))

    return [stored(of) for of in whole], [cases._replace(template=stored(cases.template)) for cases in one_file]


def _with_channels(template: Template, channels: int) -> Template:
    return template._replace(case=template.case.with_channels(channels))


def _images_or_volumes(
    whole: list[Template], one_file: list[OneFileCases], slices: set[companions.Place], options: Options
) -> tuple[list[Template], list[OneFileCases], list[Refusal]]:
    """The cases of the kind that `ingest.kind` asks for, or that most are of; and the others, refused.

    Pictures that lie in a folder of slices are no cases of a data set of volumes: they are ignored.
    """
    kind = options.params.kind
    if kind == "auto":
        numbers = [(template, 1) for template in whole]
        numbers += [(cases.template, len(cases.paths)) for cases in one_file]
        volumes = sum(number for template, number in numbers if len(template.case.shape) == VOLUME_AXES)
        kind = "volumes" if volumes * 2 > sum(number for _, number in numbers) else "images"
    axes = VOLUME_AXES if kind == "volumes" else IMAGE_AXES
    reason = "picture_among_volumes" if kind == "volumes" else "volume_among_pictures"
    other = "images" if kind == "volumes" else "volumes"
    detail = f"the data set is one of {kind}; ingest: {{kind: {other}}} makes it one of {other}"
    refused = [
        Refusal(tuple(f.path for f in t.case.files), reason, detail, series=t.case.series or "")
        for t in whole
        if len(t.case.shape) != axes
    ]
    pictures = [path for cases in one_file if len(cases.template.case.shape) != axes for path in cases.paths]
    beside: list[str] = []
    if kind == "volumes":
        beside, pictures = companions.thumbnails(pictures, slices)
    refused += [Refusal((path,), reason, detail) for path in pictures]
    refused += [Refusal((path,), "thumbnail", "a picture beside slices", ignored=True) for path in beside]
    return (
        [template for template in whole if len(template.case.shape) == axes],
        [cases for cases in one_file if len(cases.template.case.shape) == axes],
        refused,
    )
