"""Labels: from labels.csv, from files beside the pictures, or from the folder of the first level that a file lies in.

labels.csv has the columns `label`; `path` (a file or folder below data/raw/<dataset>, a pattern of files, or a part of
a file, as file.npz::name[3]), `series`
(a DICOM SeriesInstanceUID), `study` (a StudyInstanceUID; with `series_number` one series of it) or `instance` (a
SOPInstanceUID); and, if wanted, `group` and `split`. A table of `path` has to name all files; the others select.
Other columns are kept where `ingest.columns` names them; `ingest.target` reads others in place of `label`.
A sole column that is called as a path is (file, filename, image) is taken for it, and that is said.
Commas, semicolons or tabs; UTF-8 with or without a byte order mark.
"""

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.lib.core.errors import UserError
from stages.lib.core.nearest import closest, hint
from stages.lib.core.progress import say
from stages.lib.core.terminal import shortened, shown
from stages.lib.ingest import patterns
from stages.lib.ingest.archives import places
from stages.lib.ingest.archives.members import NONE, Members
from stages.lib.ingest.identifiers import identify
from stages.lib.ingest.labels import beside, class_names, layout, own_columns, targets
from stages.lib.ingest.raw_files import LABELS_CSV
from stages.lib.ingest.readers.contract import PART_SIGN, Identity, Options, Part
from stages.lib.params.ingest import IngestParams
from stages.lib.targets import Target

SIMILAR = re.compile(r"(?:labels?|classes)\.(?:csv|tsv|tab|txt|xlsx?|ods|parquet)", re.IGNORECASE)
EXCEL_SEPARATOR = re.compile(r"\"?sep=([,;\t])\"?", re.IGNORECASE)  # the line that tells Excel how columns are parted
NAMING = ("path", "series", "study", "instance")  # one of them says what a row is about
COLUMNS = (*NAMING, "series_number", "label", "group", "split")
# What other tools and people call a column, without case, blanks, hyphens and underscores.
_CALLED = {
    "path": "file files filename filenames filepath image images imagepath imagename imageid imagefile imgpath img id",
    "series": "seriesinstanceuid seriesuid seriesid",
    "study": "studyinstanceuid studyuid studyid",
    "instance": "sopinstanceuid sopuid instanceuid",
    "series_number": "seriesnumber seriesno",
    "label": "labels class classes classname category target diagnosis groundtruth dx y finding findings result",
    "group": "groups patient patientid subject subjectid participantid lesionid case caseid",
    "split": "set subset partition datasplit",
}
SYNONYMS = {column: {column, *names.split()} for column, names in _CALLED.items()}
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
GLOB = re.compile(r"[*?\[]")
WORTH = {"group": "says what must stay together (a patient)", "split": "says train, validation or test"}
BY_UID = {("group", name) for name in ("series", "study", "instance")}
MOST_COMPARED = 5000  # paths that a misspelt one is compared with
MAX_CHARACTERS = 4096  # of a value: no path is longer


@dataclass(frozen=True)
class Row:
    """A row of labels.csv, or a class folder."""

    label: str
    group: str | None
    number: int  # line of labels.csv; 0 for a class folder
    name: str  # the path or series as written
    split: str = ""  # train, validation or test; "" where it is to be dealt
    columns: tuple[str, ...] = ()  # the cells of those that `ingest.columns` names, in its order
    answers: tuple[float | None, ...] = ()  # the numbers of a target that is no class alone; its weight is the last


@dataclass
class Labels:
    """Which label a file, or a series, has."""

    source: str  # for messages
    by_path: dict[str, Row] = field(default_factory=dict)
    by_series: dict[str, Row] = field(default_factory=dict)  # keyed by hashed UID
    by_study: dict[tuple[str, str], Row] = field(default_factory=dict)  # by hashed UID and SeriesNumber, "" for any
    by_instance: dict[str, Row] = field(default_factory=dict)  # by hashed UID
    listed: bool = False  # whether there is a labels.csv
    grouped: bool = False  # whether labels.csv has a column group
    split: bool = False  # whether it has a column split
    parts: dict[str, dict[Part, str]] = field(default_factory=dict)  # by path, named in parts: where each is named
    columns: tuple[str, ...] = ()  # of those that ingest does not know, the ones that are kept
    target: Target | None = None  # None: the class alone
    weighted: bool = False  # whether each row has a weight
    agreement: dict[str, float] = field(default_factory=dict)  # of several readers
    spellings: set[str] = field(default_factory=set)  # of the labels, as the raw data have them
    fitted: set[str] = field(default_factory=set)  # files that patterns fit
    beside: frozenset[str] = frozenset()  # files of labels and texts, each beside its picture, which are no cases
    of_studies: set[str] = field(default_factory=set)  # series whose row is about their study as a whole
    _folders: dict[str, Row | None] = field(default_factory=dict)  # what `_of_folder` has found before

    def of(self, path: str, series: str | None) -> Row | None:
        """The row for a file: its own, its series', or that of the nearest folder above it."""
        row = self.by_path.get(path) or (self.by_series.get(series) if series else None)
        return row or self._of_folder(path.rpartition("/")[0])

    def names(self, path: str, series: str) -> bool:
        """Whether a row is about this file, or this series, alone: not about its folder or study, nor a pattern."""
        by_itself = path in self.by_path and path not in self.fitted
        return by_itself or (series in self.by_series and series not in self.of_studies)

    @property
    def selects(self) -> bool:
        """Whether the table says which series or instances are meant: what it does not name is left out."""
        return bool(self.by_series or self.by_study or self.by_instance)

    def resolve(self, identities: Iterable[Identity]) -> None:
        """Finds the series and files that rows about studies and instances mean.

        Raises:
            UserError: A row means none.
        """
        used: set[int] = set()
        numbers: dict[str, set[str]] = defaultdict(set)  # of the series of each study
        for one in identities if self.by_study or self.by_instance else ():
            numbers[one.study].add(one.series_number)
            by_number = self.by_study.get((one.study, one.series_number)) if one.series_number else None
            if row := by_number or self.by_study.get((one.study, "")):
                self.by_series.setdefault(one.series, row)
                used.add(row.number)
                if not by_number:
                    self.of_studies.add(one.series)
            if named := self.by_instance.get(one.instance):
                self.by_path.setdefault(one.path, named)
                used.add(named.number)
        for row in self.by_instance.values():
            if row.number not in used:
                raise self.not_read(row, f"no instance '{row.name}'")
        for (study, number), row in self.by_study.items():
            if row.number not in used and number and numbers[study]:
                there = ", ".join(sorted(numbers[study], key=lambda text: (len(text), text)))
                there = shortened(there) or "none"
                raise UserError(
                    f"{self.source}, row {row.number}: {row.name}: the study has the series numbers {there}"
                )
            if row.number not in used:
                raise self.not_read(row, f"no file of the study '{row.name}'")

    def not_read(self, row: Row, what: str) -> UserError:
        """The error of a row that nothing was found of."""
        return UserError(
            f"{self.source}, row {row.number}: {what} was read: mend or remove the row, or the files, if rejected.csv "
            "names them"
        )

    def _of_folder(self, folder: str) -> Row | None:
        unknown = []
        while folder not in self._folders:
            unknown.append(folder)
            if not folder:
                break
            folder = folder.rpartition("/")[0]
        found = self._folders.get(folder)
        for folder in reversed(unknown):  # from the outermost to the innermost
            found = self._folders[folder] = self.by_path.get(folder) or found
        return found


def read_labels(
    raw: Path, files: Sequence[str], folders: list[str], options: Options, members: Members = NONE
) -> Labels:
    """Reads labels.csv; where there is none, what lies beside the pictures; where that is none either, folders are the
    classes. Prints what a person should know about them.

    Args:
        files: Below `raw`, those that `ingest.exclude` leaves out not among them.
        folders: Of the first level, with at least one such file or none at all.
        members: Of archives, that stand for some of the files, labels.csv perhaps.

    Raises:
        UserError: Whatever leaves a file's label in doubt; the message names the row and value, or the folder.
    """
    table, params = raw / LABELS_CSV, options.params
    aliases = {class_names.spelling(alias): class_names.spelling(name) for alias, name in params.aliases.items()}
    found = beside.find(files)
    if table.exists() or LABELS_CSV in members:
        text = members.read_text(LABELS_CSV, table)
        labels = _Table(table, text, set(files), options.key, aliases, params, members.archives).labels
        _note_split_folders(labels, folders)
        if found.cls:
            say(f"{labels.source}: {len(found.cls)} .cls files beside pictures are not used")
            labels.beside = frozenset(found.files)
    else:
        if params.columns:
            raise UserError(f"ingest.columns is {', '.join(params.columns)}, and there is no {table}: write one")
        if targets.needs_table(params.target):
            raise UserError(
                f"ingest.target reads {', '.join(params.target.all_columns)} of labels.csv, and there is no {table}: "
                "write one"
            )
        top = layout.around(files, folders)
        _check_name(raw, files, folders)
        as_classes = params.split_folders == "classes"
        by_record = {} if found.cls else beside.records(raw, files, found, members)
        if found.cls or by_record and (not folders or beside.in_shards(by_record)):
            by_file = by_record or beside.classes(raw, found, members)
            labels = _labels_beside(raw, by_file, folders, as_classes, aliases)
        else:
            labels = _class_folders(raw, files, folders, top, as_classes, aliases)
            _check_records(raw, by_record, labels, aliases)
        labels.beside = frozenset(found.files if found.cls or by_record else ())
    targets.resolve(labels, params.target, aliases)
    class_names.check_aliases(aliases, labels.spellings)
    for note in class_names.notes(labels.spellings, aliases):
        say(f"{labels.source}: {note}")
    return labels


def _labels_beside(
    raw: Path, by_file: dict[str, tuple[str, str]], folders: Sequence[str], as_classes: bool, aliases: dict[str, str]
) -> Labels:
    """Args: by_file: The label of each picture, and the file that says it."""
    ending = next(iter(by_file.values()))[1].rpartition(".")[2]
    labels = Labels(f"{raw}'s .{ending} files", listed=True)
    splits = {} if as_classes else beside.splits(by_file)
    for picture, (given, path) in by_file.items():
        _check_label(given, f"{raw / path}")
        labels.spellings.add(given)
        label = class_names.spelling(given)
        labels.by_path[picture] = Row(aliases.get(label, label), None, 0, path, splits.get(picture, ""))
    no_classes = f": the folders {shortened(', '.join(folders))} are no classes" if folders and not splits else ""
    say(f"labels are those of {labels.source}{no_classes}")
    return labels


def _check_records(raw: Path, by_record: dict[str, tuple[str, str]], labels: Labels, aliases: dict[str, str]) -> None:
    """Raises:
    UserError: Folders and .json files say different labels.
    """
    for picture, (given, path) in by_record.items():
        row, label = labels.of(picture, None), class_names.spelling(given)
        if row is not None and row.label != aliases.get(label, label):
            raise UserError(
                f"{raw / path} says the label '{shown(shortened(label))}', and the folder '{row.label}': write a "
                f"labels.csv, or leave the files out ({patterns.excluding(['*.json'])}) to take the folders"
            )


def _check_name(raw: Path, files: Sequence[str], folders: Sequence[str]) -> None:
    """Raises:
    UserError: There is a table that is called or lies nearly as labels.csv should, and that nobody would read.
    """
    tops = {"", *layout.alone(files, folders)}
    named = ((path, path.rpartition("/")) for path in files)
    similar = [path for path, (top, sign, name) in named if top + sign in tops and SIMILAR.fullmatch(name)]
    if similar:
        raise UserError(
            f"{raw / similar[0]} is not read: expected {raw / LABELS_CSV} (text with commas, semicolons or tabs; move "
            f"what lies beside it, too), or leave it out ({patterns.excluding([patterns.of_path(similar[0])])})"
        )


def _class_folders(
    raw: Path, paths: Sequence[str], folders: list[str], top: str, as_classes: bool, aliases: dict[str, str]
) -> Labels:
    loose = [path for path in paths if "/" not in path]
    if store := next((path for path in loose if (raw / path).is_dir()), ""):
        raise UserError(
            f"{raw / store} is a Zarr store and no class folder: write a {raw / LABELS_CSV} with the columns path and "
            f"label that names what is a case ({store}, or {store}{PART_SIGN}name[3]), or put the store into a folder "
            "of its class"
        )
    if not folders:
        of_arrays = next((path for path in loose if path.lower().endswith(ARRAYS)), "")
        as_in = f" (of a file of arrays as in {of_arrays}{PART_SIGN}name[3])" if of_arrays else ""
        raise UserError(
            f"{raw / LABELS_CSV} not found, and {raw} has no class folders: write a labels.csv with the columns path "
            f"and label{as_in}, or put the files into one folder a class"
        )
    filled = {path.partition("/")[0] for path in paths if "/" in path}
    for folder in folders:
        if folder not in filled:
            raise UserError(f"class folder {raw / folder} holds no files: fill it or remove it")
    labels = Labels(f"{raw}'s class folders")
    found = layout.class_folders(raw, paths, folders, top, as_classes)
    names = dict.fromkeys(name for _, name, _ in found)
    if names and all(map(beside.SERIAL.search, names)):
        raise UserError(
            f"{raw}: the folders {shortened(', '.join(names))} are called as shards are, "
            'not as classes: put the label of each picture beside it (x.cls, or "label" in x.json), or write a '
            "labels.csv with the columns path and label"
        )
    for folder, name, split in found:
        _check_label(name, labels.source)
        labels.spellings.add(name)
        label = class_names.spelling(name)
        if not label:
            raise UserError(f"class folder {raw / folder} is called by blanks alone: rename it")
        labels.by_path[folder] = Row(aliases.get(label, label), None, 0, folder, split)
    return labels


def _note_split_folders(labels: Labels, folders: list[str]) -> None:
    named = [folder for folder in folders if layout.split_named(folder)]
    if len(named) > 1 and not labels.split:
        say(f"{labels.source}: the folders {', '.join(named)} are no split, as there is no column split")


def _check_label(label: str, where: str) -> None:
    """A label goes into tables, figures and files of other programs: it is one line of text.

    Raises:
        UserError: It holds ends of lines, other control characters, or bytes that are no UTF-8.
    """
    if not _is_line(label):
        raise UserError(f"{where}: the label '{shown(label)}' is no line of text in UTF-8: rename it")


def _is_line(text: str) -> bool:
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)


def delimiter_of(header: str) -> str:
    """What parts the columns of a table: the comma, semicolon or tab that its first line has most of."""
    return max(",;\t", key=header.count)


def _meant(header: Sequence[str]) -> dict[str, str]:
    """The columns that are not there, by what the first of the others that seems to be meant for each is called."""
    found: dict[str, str] = {}
    missing = SYNONYMS.keys() - set(header)
    for name in header:
        plain = re.sub(r"[\s_-]", "", name).lower()
        for column, synonyms in SYNONYMS.items():
            if column in missing and plain in synonyms:
                found[column] = name
                missing.discard(column)
                break
    return found


class _Table:
    """labels.csv, checked a row at a time."""

    def __init__(
        self,
        table: Path,
        text: str,
        paths: set[str],
        key: bytes,
        aliases: dict[str, str],
        params: IngestParams,
        archives: frozenset[str] = frozenset(),
    ) -> None:
        """Args: archives: Their paths, of those that are read."""
        self._archives = archives
        self._text, self._own, self._target = text, params.columns, params.target
        self._kept = (*params.columns, *params.target.all_columns)
        self._table, self._paths, self._key, self._aliases = table, paths, key, aliases
        self._folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
        self._normal = {unicodedata.normalize("NFC", path): path for path in (*paths, *self._folders)}
        self.labels = Labels(str(table), listed=True, columns=params.columns)
        self._globbed: dict[str, Row] = {}  # files that patterns fit
        for number, values in self._rows():
            self._add(number, values)
        self.labels.fitted = self._globbed.keys() - self.labels.by_path.keys()
        self.labels.by_path = self._globbed | self.labels.by_path  # a row about a file alone counts before a pattern
        if both := next((path for path in self.labels.parts if path in self.labels.by_path), None):
            raise UserError(
                f"{table}: rows are about '{both}' as a whole and about parts of it: leave the ones or others"
            )
        if not self.labels.by_path and not self.labels.selects:
            raise UserError(f"{table} has no rows below its header")

    def _rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Each row that is not empty: the line where it starts, and its values by column.

        Raises:
            UserError: The header or a row can't be read.
        """
        text = self._text
        first, _, rest = text.partition("\n")
        skipped = 0
        if separator := EXCEL_SEPARATOR.fullmatch(first.strip()):
            text, skipped = rest, 1
        delimiter = separator[1] if separator else delimiter_of(first)
        # Strict: a quote that is opened and never closed would swallow all rows behind it.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        lines = self._lines(reader, skipped)
        _, names = next(lines, (1, []))
        header = self._checked(self._with_path([name.strip().lower() for name in names]))
        for number, values in lines:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                raise UserError(f"{self._table}, row {number}: expected as many values as the header has columns")
            yield number, dict(zip(header, values, strict=True))

    def _lines(self, reader: Any, skipped: int) -> Iterator[tuple[int, list[str]]]:
        """What a csv.reader gives, and the line where each begins.

        Raises:
            UserError: One can't be read, as one with a cell of a hundred thousand characters.
        """
        number = skipped + 1
        try:
            for values in reader:
                yield number, values
                number = skipped + reader.line_num + 1
        except csv.Error as error:
            is_quote = "unexpected end" in str(error) or "expected after" in str(error)
            what = "a quotation mark is opened and not closed, or text follows it" if is_quote else str(error)
            raise UserError(f"{self._table}, row {number}: {what}: mend or remove it") from None

    def _with_path(self, header: list[str]) -> list[str]:
        """The header with `path` for the one column that is called as a path is, where nothing else names files."""
        plain = {name: re.sub(r"[\s_-]", "", name) for name in header if name not in self._kept}
        meant = [name for name, bare in plain.items() if bare in SYNONYMS["path"]]
        if set(header) & set(NAMING) or len(meant) != 1:
            return header
        say(f"{self._table}: its column {meant[0]} is taken for path, which file a row is about")
        return ["path" if name == meant[0] else name for name in header]

    def _checked(self, header: list[str]) -> list[str]:
        names = set(header)
        lacks_label = self._target.is_label and "label" not in names
        if lacks_label or not names & set(NAMING):
            missing = "label" if lacks_label else "path (or series, study, instance)"
            found = shortened(", ".join(header) or "nothing")
            wanted = (*(["label"] * lacks_label), *(() if names & set(NAMING) else (*NAMING, "series_number")))
            renamed = [f"{name} to {column}" for column, name in _meant(header).items() if column in wanted]
            way_out = f"; rename {' and '.join(renamed)}" if renamed else ""
            raise UserError(
                f"{self._table} has no column {missing}: expected path,label[,group,split], found {found}{way_out}"
            )
        if len(names - {""}) < len([name for name in header if name]):
            raise UserError(f"{self._table} has a column twice: {shortened(', '.join(header))}")
        self._name_column, *others = (column for column in NAMING if column in names)
        if others:
            say(f"{self._table}: rows are about {self._name_column}; not used: {', '.join(others)}")
        if "series_number" in names and self._name_column != "study":
            say(f"{self._table}: series_number is not used, as it goes with a column study")
        self.labels.grouped = "group" in names
        self.labels.split = "split" in names
        own_columns.check(str(self._table), self._own, header, COLUMNS)
        targets.check_columns(str(self._table), self._target, header, NAMING)
        known = COLUMNS if self._target.is_label else tuple(name for name in COLUMNS if name != "label")
        if unused := [name for name in header if name and name not in (*known, *self._kept)]:
            listed = shortened(", ".join(unused))
            say(f"{self._table}: not used: {listed} (ingest.columns keeps those that it names, in cases.csv)")
            for column, name in _meant(unused).items():
                # Scans, which UIDs name, say whose they are themselves.
                if column in WORTH and column not in names and (column, self._name_column) not in BY_UID:
                    say(f"{self._table}: if {shortened(name)} {WORTH[column]}, call it {column}")
        return header

    def _add(self, number: int, values: dict[str, str]) -> None:
        where = f"{self._table}, row {number}"
        name = values[self._name_column].strip()
        label = values["label"].strip() if self._target.is_label else ""
        group = values["group"].strip() if self.labels.grouped else None
        own = {column: values[column].strip() for column in self._kept}
        needed: dict[str, str | None] = {self._name_column: name, **({"label": label} if self._target.is_label else {})}
        needed |= {"group": group} if self.labels.grouped else {}
        for column, value in (own | needed).items():
            if not value and column in needed:
                raise UserError(f"{where}: {column} is empty")
            if len(value or "") > MAX_CHARACTERS:
                found = f"{column} has {len(value or '')} characters"
                raise UserError(f"{where}: {found}, expected {MAX_CHARACTERS} at most")
        _check_label(label, where)
        for column, value in own.items():
            if not _is_line(value):
                way_out = f"mend it, or take {column} out of params.yaml"
                raise UserError(f"{where}: {column} is no line of text in UTF-8: {way_out}")
        if self._target.is_label:
            self.labels.spellings.add(values["label"])
        label = class_names.spelling(label)
        label = self._aliases.get(label, label)
        row = Row(label, group, number, name, self._split_of(where, values), tuple(own[name] for name in self._kept))
        table: Any
        key: Any
        part = self._part(where, name) if self._name_column == "path" else None
        if part is None and self._name_column == "path" and GLOB.search(name) and name not in self._paths:
            self._add_pattern(where, name, row)
            return
        if part is not None:
            path, of_file = part
            table, key = self.labels.by_path, f"{path}{PART_SIGN}{of_file.text}"
            self.labels.parts.setdefault(path, {}).setdefault(of_file, f"{where}: path '{name}'")
        elif self._name_column == "path":
            table, key = self.labels.by_path, self._existing(where, name)
        elif self._name_column == "study":
            series_number = self._number(where, values)
            table, key = self.labels.by_study, (identify(self._key, "study", name), series_number)
            row = replace(row, name=f"series {series_number} of the study {name}" if series_number else name)
        elif self._name_column == "instance":
            table, key = self.labels.by_instance, identify(self._key, "instance", name)
        else:
            table, key = self.labels.by_series, identify(self._key, "series", name)
        before = table.get(key)
        if before is not None and before.label != label:
            raise UserError(f"{where}: '{name}' has the label '{label}', but '{before.label}' in row {before.number}")
        if before is not None:
            raise UserError(f"{where}: '{name}' was in row {before.number} already: remove one of the two")
        table[key] = row

    def _part(self, where: str, name: str) -> tuple[str, Part] | None:
        """The file and what of it is meant, of a path as file.npz::name[3]; None of any other.

        Raises:
            UserError: There is no such file.
        """
        path, sign, text = name.partition(PART_SIGN)
        if not sign or name in self._paths:
            return None
        part = Part.of(text)
        if part is None:
            raise UserError(
                f"{where}: path '{name}': expected an array's name behind {PART_SIGN}, as in name or name[3]"
            )
        return self._existing(where, path), part

    def _number(self, where: str, values: dict[str, str]) -> str:
        """SeriesNumber as headers have it; "" for any. A table that was a spreadsheet's may say 2.0."""
        given = values.get("series_number", "").strip()
        try:
            return f"{int(float(given))}" if given and float(given) == int(float(given)) else given
        except (ValueError, OverflowError):
            raise UserError(f"{where}: series_number is '{shortened(given)}', expected a whole number") from None

    def _add_pattern(self, where: str, pattern: str, row: Row) -> None:
        """A row about all files that a pattern fits, as patterns of ingest.include fit.

        Raises:
            UserError: It can't be read, or fits none, or one that another pattern fits, too, with another label, group,
                split or column.
        """
        try:
            fitting = patterns.fitting([f"/{pattern}"], sorted(self._paths))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if not fitting:
            raise UserError(f"{where}: no file fits the pattern '{pattern}'")
        for path in sorted(fitting):
            before = self._globbed.setdefault(path, row)
            if replace(before, number=0, name="") != replace(row, number=0, name=""):
                raise UserError(f"{where}: '{pattern}' fits {path}, and so does '{before.name}' in row {before.number}")

    def _split_of(self, where: str, values: dict[str, str]) -> str:
        value = values.get("split", "").strip()
        split = layout.split_named(value)
        if value and not split:
            raise UserError(f"{where}: split is '{value}', {hint(value, layout.SPLITS)} (empty: to be dealt)")
        return split

    def _existing(self, where: str, name: str) -> str:
        """The path as the file system spells it."""
        path = PurePosixPath(name if name in self._paths else name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (len(name) > 1 and name[1] == ":"):
            wanted = f"expected one relative to {self._table.parent}, without .."
            raise UserError(f"{where}: path '{name}' is absolute or leads elsewhere: {wanted}")
        found = self._normal.get(unicodedata.normalize("NFC", str(path)))
        folder = places.without_ending(str(path))
        if found is None and folder != str(path) and unicodedata.normalize("NFC", folder) in self._normal:
            raise UserError(
                f"{where}: path '{name}' is an archive, which stands for a folder: write {folder} in its place"
            )
        if found is None and str(self._table.parent / path) in self._archives:
            raise UserError(
                f"{where}: path '{name}' is the archive that {self._table.parent} is: write what lies in it, a file or "
                "a folder in each row"
            )
        if found is None and (self._table.parent / path).exists():
            raise UserError(f"{where}: path '{name}' is left out by ingest.include or ingest.exclude: remove the row")
        if found is None or found == ".":
            close = closest(path, list(self._normal)[:MOST_COMPARED])
            meant = f" (did you mean {close}?)" if close else ""
            raise UserError(f"{where}: path '{name}' is no file or folder in {self._table.parent}{meant}")
        return found
