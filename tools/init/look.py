"""What lies in a folder, as ingest would read it: kinds, sizes, channels, classes, splits, groups, masks."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.terminal import shortened, shown
from stages.lib.ingest import assembly, in_place, inspection, raw_files, selection
from stages.lib.ingest.archives.members import Members
from stages.lib.ingest.case_table import CaseTable
from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.labels import labelling, targets
from stages.lib.ingest.labels.layout import split_named
from stages.lib.ingest.labels.table import Labels, Row, read_labels
from stages.lib.ingest.readers.contract import Options, Refusal
from stages.lib.ingest.results import rejected
from stages.lib.ingest.store import Store
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import Workers, count
from tools.init import target

MOST_FILES = 2000  # that are read, of pictures
MOST_SLICES = 6000  # of DICOM files, in whole folders
SNIFFED = 200  # files that say whether pictures or DICOM files are most
MOST_NAMED = 12  # classes
FEW = 40  # cases of a class, below which its scores mean little
PATIENT = re.compile(r"(?:sub|subj|subject|patient|pat|pt|participant|case|id|p)[-_ ]?\d+", re.IGNORECASE)  # a folder
# How people name a patient or an object of which there are several pictures: the text before the last number.
SERIAL = re.compile(r"^(?P<who>.*[^\W_].*?)[ ._-](?:[a-z]{0,8}[ ._-]?)?\d{1,4}$", re.IGNORECASE)


class Numbers(NamedTuple):
    """The smallest, the middle and the largest of some numbers."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Numbers":
        return cls(*(float(f(numbers)) for f in (np.min, np.median, np.max)))

    def __str__(self) -> str:
        low, middle, high = (f"{number:g}" for number in self)
        return low if low == high else f"{low} to {high}, half of them up to {middle}"


@dataclass
class Found:
    """What was found; `rows` says it to a person."""

    rows: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)  # paths of hidden files and the like, which are not read
    kind: str = "images"  # or volumes
    cases: int = 0  # files of pictures, or series that were looked at
    size: tuple[float, ...] = ()  # medians along H, W or D, H, W
    ingest: dict[str, Any] = field(default_factory=dict)  # keys that the data ask for, with `why`
    why: dict[str, str] = field(default_factory=dict)
    trouble: str = ""  # why ingest will stop
    offers: dict[str, tuple[Any, str]] = field(default_factory=dict)  # keys of ingest that may help, and why


def look(folder: Path, found: Found) -> None:
    """Looks at all names and at some headers.

    Args:
        found: What is found is added to it, also where an error ends the look.

    Raises:
        UserError: The data can't be used as they are.
    """
    scan = in_place.with_stores(folder, raw_files.scan(folder))
    found.litter = scan.litter
    paths = [path for path in scan.paths if path not in raw_files.TABLES]
    offer = selection.find_companions(paths)
    if offer:
        found.ingest["exclude"] = offer.exclude
        found.why["exclude"] = f"{len(offer.files)} files that look like masks or thumbnails: {offer.seen}" + (
            f"; and {len(offer.others)} others" if offer.others else ""
        )
    if proposal := target.propose(folder, scan.members):
        found.ingest["target"], found.why["target"] = proposal
    options = Options(check(IngestParams, found.ingest), OPEN)
    taken, excluded = selection.select(scan.paths, options.params)
    labels = read_labels(folder, taken, raw_files.folders_of(taken, scan.folders, excluded), options, scan.members)
    taken = [path for path in taken if path not in labels.beside]
    files, all_read = _inspected(folder, taken, options, scan.members)
    if labels.selects and all_read:
        labels.resolve(assembly.identities(files))
    listed = labels if labels.selects and all_read else None
    while True:
        try:
            cases = _describe(found, files, options, len(taken), labels, listed)
            break
        except assembly.SeveralKinds as several:  # the user sees which was chosen, in the table and in the block
            found.ingest["select"] = found.ingest.get("select", {}) | several.select
            found.why["select"] = f"the DICOM files are of several kinds: {several.kinds}"
            options = Options(check(IngestParams, found.ingest), OPEN)
        except _Undecided as undecided:  # likewise, and said
            found.ingest[undecided.key], found.why[undecided.key] = undecided.value, undecided.why
            found.rows.clear()
            options = Options(check(IngestParams, found.ingest), OPEN)
            files, all_read = _inspected(folder, taken, options, scan.members)
    _say(found, "left out", f"{len(scan.litter)} hidden files and the like" * bool(scan.litter))
    _say(found, "left out", found.why.get("exclude", ""))
    _classes(found, labels, taken, cases, all_read)
    _groups(found, labels, taken, files)
    for remark in assembly.remarks(cases, options):
        _say(found, "warning", remark)
    _patients(found, labels)
    if found.ingest.get("frames") == "stack":
        _say(found, "warning", PAGES)
    if "axes" in found.ingest:
        told = f"no array says what its axes are: taken for {found.ingest['axes']}"
        _say(found, "warning", f"{told}; if that is wrong, set ingest.axes in params.yaml, {AXES}")
    if found.kind == "images" and len(kinds := sorted({dtype.decode() for dtype in cases.dtypes()})) > 1:
        what = f"pictures of {' and '.join(kinds)}, whose numbers mean different things"
        _say(found, "warning", f"{what}: statistics will stop; convert some, or make two data sets of them")
    if all_read and not labels.grouped and "dicom" in files.accepted:
        named = [labels.of(cases.path(i), cases.template(i).case.series) for i in range(len(cases))]
        patients = np.array([cases.template(i).case.patient or "" for i in range(len(cases))])
        for remark in labelling.remarks(labels, [row.label if row else "" for row in named], patients):
            _say(found, "warning", remark)


class _Undecided(Exception):
    """No file makes a case before a key of `ingest` says what is meant."""

    def __init__(self, key: str, value: str, why: str) -> None:
        super().__init__(key, value, why)
        self.key, self.value, self.why = key, value, why


PAGES = (
    "files of several pages, of which they don't say whether these are slices, channels or pictures: taken for slices; "
    "if that is wrong, ingest.frames in params.yaml can be channels, split, first or middle"
)
UNDECIDED = {
    "several_frames": ("frames", "stack", "pages as slices; channels: of one picture; split: a picture each"),
    "several_at_a_place": ("split_4d", "first", "several volumes a file or series; mean: of all; all: each"),
}
"""By the reason of a rejection: the key, value and why of what is proposed where it is that of all files."""
SIZES = re.compile(r"\d+(?: x \d+){2,}")  # of an array, as the detail of a rejection has them
MOST_CHANNELS = 4
AXES = "of pictures HWC or CHW, of volumes DHW, HWD, WHD, CDHW or DHWC"


def _undecided(refusal: Refusal) -> _Undecided | None:
    if refusal.reason in UNDECIDED:
        return _Undecided(*UNDECIDED[refusal.reason])
    sizes = SIZES.search(refusal.detail) if refusal.reason == "unknown_axes" else None
    return _Undecided("axes", _likely_axes(sizes[0]), f"of an array of {sizes[0]}; {AXES}") if sizes else None


def _likely_axes(sizes: str) -> str:
    """What most programs would mean by an array of some sizes, as "64 x 64 x 4"."""
    first, *_, last = numbers = [int(size) for size in sizes.split(" x ")]
    if len(numbers) > 3:
        return "CDHW" if first < last else "DHWC"
    if min(first, last) > MOST_CHANNELS:
        return "DHW"
    return "CHW" if first < last else "HWC"


def _inspected(folder: Path, taken: list[str], options: Options, members: Members) -> tuple[FileTable, bool]:
    """What is known of some files, and whether they are all."""
    with TemporaryDirectory() as place, Workers(count(0)) as workers, closing(Store(Path(place), "look")) as store:
        chosen = _chosen(folder, taken, options, store, workers, members)
        files = inspection.inspect_all(folder, chosen, store, options, workers, members)
    return files, len(files.paths) == len(taken)


def _say(found: Found, what: str, text: str) -> None:
    if text:
        found.rows.append(f"{what:10} {text}")


def _chosen(
    folder: Path, taken: list[str], options: Options, store: Store, workers: Workers, members: Members
) -> list[str]:
    """The files to read: pictures evenly over all of them, slices in whole folders."""
    few = _evenly(taken, SNIFFED)
    readers = inspection.inspect_all(folder, few, store, options, workers, members).accepted
    if len(readers.get("dicom", ())) * 2 <= len(few):
        return _evenly(taken, MOST_FILES)
    by_folder: dict[str, list[str]] = {}
    for path in taken:
        by_folder.setdefault(path.rpartition("/")[0], []).append(path)
    chosen: list[str] = []
    for name in _evenly(list(by_folder), max(1, MOST_SLICES * len(by_folder) // len(taken))):
        chosen += by_folder[name]
    return sorted(chosen)


def _evenly(items: Sequence[str], number: int) -> list[str]:
    if len(items) <= number:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, number).astype(int)]


def _describe(
    found: Found, files: FileTable, options: Options, number: int, labels: Labels, listed: Labels | None
) -> CaseTable:
    """Kinds, sizes and channels of what was read, and what can't be read; gives the cases.

    Args:
        listed: A labels.csv that says which series or instances are meant.

    Raises:
        UserError: No case can be read.
        SeveralKinds, _Undecided: Nothing says which are meant, or how.
    """
    is_listed = (lambda path, series: listed.of(path, series) is not None) if listed else None
    is_named = listed.names if listed else assembly.none_named
    assembled = assembly.assemble(files, options, is_named, is_listed, labels.parts)
    cases, accepted = assembled.cases, files.accepted
    asked = next((key for refusal in assembled.refused if (key := _undecided(refusal))), None)
    if not len(cases) and asked and asked.key not in found.ingest:
        raise asked
    read = f" (of {len(files.paths)} of {number} files)" if len(files.paths) < number else ""
    kinds = ", ".join(f"{len(of)} {'DICOM files' if name == 'dicom' else 'pictures'}" for name, of in accepted.items())
    _say(found, "files", f"{kinds or 'none that can be read'}{read}")
    if len(cases):
        shapes = cases.shapes()
        found.kind = "volumes" if shapes.shape[1] == 4 else "images"
        axes = "DHW"[-shapes.shape[1] + 1 :]
        found.size = tuple(float(np.median(column)) for column in shapes[:, 1:].T)
        found.cases = number if found.kind == "images" and read else len(cases)
        _say(found, "cases", f"{len(cases)} {found.kind} of {', '.join(sorted({t.decode() for t in cases.dtypes()}))}")
        for axis, column in zip(axes, shapes[:, 1:].T, strict=True):
            _say(found, f"  {axis}", f"{Numbers.of(column)} pixels")
        spacings = cases.spacings_mm()
        if found.kind == "volumes" and not np.isnan(spacings).any():
            for axis, column in zip(axes, spacings.T, strict=True):
                _say(found, f"  {axis}", f"{Numbers.of(column)} mm from one to the next")
        channels = Counter(template.case.shape[0] for template in (cases.template(i) for i in range(len(cases))))
        _say(found, "  channels", ", ".join(f"{n} ({number} cases)" for n, number in sorted(channels.items())))
    reasons: Counter[str] = Counter()
    example: dict[str, str] = {}
    for refusal in assembled.refused:
        what = f"{refusal.outcome}: {refusal.reason}"
        reasons[what] += 1
        example.setdefault(what, f"{refusal.paths[0]}{f': {refusal.detail}' if refusal.detail else ''}")
    why = [f"{times} {what} ({shortened(example[what])})" for what, times in reasons.most_common()]
    for line in why:
        _say(found, "not a case", line)
    lost = rejected.lost_cases(assembled.refused)
    if rejected.too_many(len(cases), lost, options.params.max_rejected):
        found.trouble = (
            f"{len(lost)} of {len(cases) + len(lost)} cases would be rejected, more than ingest.max_rejected allows: "
            f"{rejected.way_out(lost)}, or raise ingest.max_rejected"
        )
    if not len(cases):
        told = "; ".join(why) or "no file"
        raise UserError(f"none of the {len(files.paths)} files that were looked at can be read: {told}")
    return cases


def _classes(found: Found, labels: Labels, taken: list[str], cases: CaseTable, all_read: bool) -> None:
    """Raises:
    UserError: There is one class alone, or a class has no case, or a case has no class.
    """
    rows = [row for path in taken if (row := labels.of(path, None))]
    selecting = {
        row.number: row for of in (labels.by_series, labels.by_study, labels.by_instance) for row in of.values()
    }
    rows += selecting.values()
    counts = Counter(row.label for row in rows)
    if labels.target:
        _target(found, labels, rows)
    if not labels.selects:
        paths = [cases.path(i) for i in range(len(cases))]
        of_case = [(path, labels.of(path, None)) for path in paths]
        if unlabelled := [path for path, row in of_case if row is None]:
            raise UserError(
                f"{labels.source}: {len(unlabelled)} of {len(paths)} cases have no label, as {shown(unlabelled[0])}: "
                "label them, or leave them out (ingest.exclude)"
            )
        if all_read:
            classes, counts = set(counts), Counter(row.label for _, row in of_case if row)
            if empty := classes - set(counts):
                raise UserError(
                    f"{labels.source}: no case of {shown(shortened(', '.join(sorted(empty))))} can be used, as the "
                    f"table above says; the data set is one of {found.kind}"
                )
    if labels.target is None and len(counts) < 2:
        raise UserError(
            f"{labels.source}: {len(taken)} files of the class {shown(next(iter(counts), 'none'))} alone, where a "
            "classifier needs two: a folder for each class, or a labels.csv with the columns path and label"
        )
    if labels.target is None:
        _counts(found, labels, counts, all_read)
    splits = Counter(row.split for row in rows)
    if set(splits) - {""}:
        given = ", ".join(f"{name or 'to be dealt'} {number}" for name, number in sorted(splits.items()))
        _say(found, "split", f"given: {given} files")
    else:
        lists = {split: path for path in taken if (split := _list_of(path))}
        more = f"; {', '.join(lists.values())} may list it: ingest.split_files" if lists else ""
        _say(found, "split", f"none given: train, validation and test are dealt{more}")
        if lists:
            found.offers["split_files"] = (lists, "lists that may give the split, by names of cases")


def _list_of(path: str) -> str:
    """The split that a text in the outermost folder is called by, as test.txt; "" of any other file."""
    stem, ending = os.path.splitext(path)
    return split_named(stem) if "/" not in path and ending.lower() == ".txt" else ""


def _target(found: Found, labels: Labels, rows: list[Row]) -> None:
    """What a labels.csv asks for that is no class alone: numbers, how many have each label, or shares of classes."""
    of, told = labels.target, targets.summary(labels, rows)
    assert of is not None
    _say(found, "target", f"{of.kind}: {found.why['target']}")
    if of.of_number:
        spread = Numbers(told["minimum"], told["median"], told["maximum"])
        _say(found, "", f"{shown(of.name)}{f' in {of.unit}' if of.unit else ''}: {spread}")
        return
    if of.of_one_class:
        shares = [f"{shown(name)} {share:.1%}" for name, share in told["shares"].items()]
        more = f" and {len(shares) - MOST_NAMED} more" if len(shares) > MOST_NAMED else ""
        _say(found, "classes", f"{len(shares)}, by their shares: {', '.join(shares[:MOST_NAMED])}{more}")
        return
    counts = [f"{shown(name)} {number['yes']}" for name, number in told["labels"].items()]
    more = f" and {len(counts) - MOST_NAMED} more" if len(counts) > MOST_NAMED else ""
    _say(found, "labels", f"{len(counts)}, by files that have them: {', '.join(counts[:MOST_NAMED])}{more}")


def _counts(found: Found, labels: Labels, counts: Counter[str], all_read: bool) -> None:
    listed = [f"{shown(label)} {number}" for label, number in sorted(counts.items())]
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    by = "rows of labels.csv" if labels.selects else "cases" if all_read else "files"
    _say(found, "classes", f"{len(counts)}, by {by}: {', '.join(listed[:MOST_NAMED])}{more}")
    if rare := [label for label, number in counts.items() if number < FEW] if found.kind == "images" else []:
        _say(found, "", f"fewer than {FEW} of {shortened(', '.join(map(shown, sorted(rare))))}: scores will say little")


def _groups(found: Found, labels: Labels, taken: list[str], files: FileTable) -> None:
    """What keeps the cases of a patient or a part together, or could."""
    if labels.grouped:
        _say(found, "groups", "by the column group of labels.csv")
    elif "dicom" in files.accepted:
        _say(found, "groups", "by the patient that each DICOM file names")
    else:
        _say(found, "groups", "none: each file is taken for a subject of its own")
        for pattern, example in _patterns(taken):
            groups = {match[1] for path in taken if (match := re.search(pattern, path))}
            fitting = sum(bool(re.search(pattern, path)) for path in taken)
            if fitting > 0.9 * len(taken) and 2 * len(groups) <= fitting and len(groups) > 4:
                why = f"if {example} are one patient or part: {len(groups)} groups of {fitting} files"
                found.offers["group"] = (pattern, why)
                _say(found, "", f"{why} (ingest.group: '{pattern}')")
                break


def _patients(found: Found, labels: Labels) -> None:
    """Whether the folders that would be classes are called as those of patients are, as BIDS has them."""
    names = [] if labels.listed else sorted({row.label for row in labels.by_path.values()})
    if len(names) < 2 or not all(map(PATIENT.fullmatch, names)):
        return
    first = shown(names[0])
    told = (
        f"the {len(names)} class folders are called as patients are, as {first}: write a labels.csv that says what "
        f"each shows (path,label,group: {first},LABEL,{first})"
    )
    _say(found, "warning", told)
    found.trouble = "; ".join(filter(None, (told, found.trouble)))
    found.offers["group"] = (r"^([^/]+)/", "all files in a folder of the first level are one patient")


def _patterns(taken: list[str]) -> list[tuple[str, str]]:
    """Regular expressions that may find a group in a path, and what each takes together."""
    deep = [path for path in taken if path.count("/") > 1]
    found = [(r"^(?:[^/]+/)*([^/]+)/[^/]+$", f"all files in {shown(deep[0].rpartition('/')[0])}")] if deep else []
    stems = [path.rpartition("/")[2].rpartition(".")[0] for path in taken]
    serial = Counter(match["who"] for stem in stems if (match := SERIAL.match(stem)))
    if serial:
        who = serial.most_common(1)[0][0]
        found.append(
            (r"([^/]*[^\W_][^/]*?)[ ._-](?:[A-Za-z]{0,8}[ ._-]?)?\d{1,4}\.[^./]+$", f"{shown(who)}_1, _2, ...")
        )
    return found
