"""What series an archive of DICOM files holds, a row each, and what ingest would make of them, without ingesting.

    python -m tools.survey data/raw/mine
    python -m tools.survey data/raw/mine --csv survey.csv

The columns have the names of the keys of `ingest.select`. Headers are read as ingest reads them; no pixel is decoded.
Where params.yaml has a block for the folder's name, its section `ingest` counts; a `select` shows what it would take.
The table quotes what headers say, SeriesDescription and UIDs too: it is for this machine alone.
"""

import argparse
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.lib import params
from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError
from stages.lib.core.terminal import shown
from stages.lib.ingest import in_place, inspection, raw_files, readers, selection
from stages.lib.ingest.archives.members import Members, read_stamped
from stages.lib.ingest.assembly import none_named
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Case, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.readers.scans import dicom_tags
from stages.lib.ingest.readers.scans.dicom_header import Header
from stages.lib.ingest.store import Store
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import Workers, count

PARAMS_YAML = Path("params.yaml")
OF_SERIES = ("modality", "sop_class", "series_description", "body_part", "image_type", "slice_thickness")
SELECTED_BY = (*OF_SERIES, "view", "laterality")
COLUMNS = ("folder", "files", *SELECTED_BY, "size", "result")
CSV_COLUMNS = (*COLUMNS, "detail", "series_number", "series", "study")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")  # and no archive that is read in place
SIZES = re.compile(r" of \d.*| \(\d+\)$|^\d+ (?=pictures)")  # what tells one volume or number from another
HEADER = ("SeriesDescription", "SeriesNumber", "SeriesInstanceUID", "StudyInstanceUID")
NAMES = dict(zip(HEADER, ("series_description", "series_number", "series", "study"), strict=True))


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.survey", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="such as data/raw/mine")
    parser.add_argument("--csv", type=Path, help="write the table there, with UIDs and why a series is refused")
    arguments = parser.parse_args(argv)
    table, others = survey(arguments.folder, section_of(arguments.folder.name))
    if len(table):
        told = [name for name in COLUMNS if (table[name] != "").any()]
        print(table[told].map(shown).to_string(index=False))
    for line in totals(table):
        print(line)
    if arguments.csv:
        try:
            outs.write_csv(arguments.csv, table.map(shown))
        except OSError as error:
            raise UserError(f"{arguments.csv} can't be written: {error.strerror}") from None
        print(f"{arguments.csv}: {len(table)} series, with UIDs and details")
    if others:
        print("other files: " + ", ".join(f"{number} {what}" for what, number in sorted(others.items())))


def section_of(dataset: str) -> IngestParams:
    """`datasets.<dataset>.ingest`; the defaults where params.yaml has no such dataset."""
    if not PARAMS_YAML.exists():
        return IngestParams()
    given = params.load(PARAMS_YAML)
    return given.section(dataset, "ingest") if dataset in given.datasets else IngestParams()


def survey(folder: Path, section: IngestParams) -> tuple[pd.DataFrame, Counter[str]]:
    """A row a series, with the `CSV_COLUMNS`; and what else there is: how many files of what.

    Raises:
        UserError: There is no such folder, or no file in it.
    """
    options = Options(section, OPEN)
    scan = in_place.with_stores(folder, raw_files.scan(folder, exclude=section.exclude))
    paths, _ = selection.select(scan.paths, section)
    with TemporaryDirectory() as place, Workers(count(0)) as workers, closing(Store(Path(place), "survey")) as store:
        files = inspection.inspect_all(folder, paths, store, options, workers, scan.members)
    others: Counter[str] = Counter()
    for name, of in files.accepted.items():
        if name != "dicom":
            others["pictures"] += len(of)
    inspected = [files.file(i) for i in files.accepted.get("dicom", ())]
    if not inspected:
        packed = [path for path in paths if path.lower().endswith(PACKED)]
        way = f"; unpack what is packed so, as {packed[0]}, first" if packed else ""
        raise UserError(f"{folder}: none of {len(paths)} files is a DICOM file that can be read{way}")
    reader = readers.reader("dicom")
    chosen, aside = reader.choose(inspected, none_named, options)
    assembly = reader.assemble(chosen, files.refused, options)
    series = _Series(inspected)
    for case in assembly.cases:
        series.add_case(case)
    for refusal in (*assembly.refused, *aside, *files.refused):
        if not series.add_refusal(refusal):
            others[refusal.reason] += len(refusal.paths)
    rows = [series.row(folder, key, scan.members) for key in series.in_order()]
    return pd.DataFrame(rows, columns=CSV_COLUMNS).fillna(""), others


class _Series:
    """The files of each series, and what became of them."""

    def __init__(self, files: Sequence[Inspected]) -> None:
        self._headers: dict[str, Any] = {}
        self._paths: dict[str, list[str]] = defaultdict(list)
        self._first: dict[str, str] = {}  # a file that can be read
        self._series: dict[str, str] = {}  # by path
        self._results: dict[str, Counter[str]] = defaultdict(Counter)
        self._details: dict[str, str] = {}
        for file in files:
            header = Header(*file.common)
            self._headers.setdefault(header.series, header)
            self._paths[header.series].append(file.path)
            self._first.setdefault(header.series, file.path)
            self._series[file.path] = header.series

    def in_order(self) -> list[str]:
        return sorted(self._paths, key=lambda key: min(self._paths[key]))

    def add_case(self, case: Case) -> None:
        if len(case.shape) == 4:
            spacing = " x ".join(f"{mm:.4g}" for mm in case.spacing_mm or ())
            result = f"volume of {' x '.join(map(str, case.shape[1:]))} at {spacing} mm"
        else:
            result = "picture"
        self._results[case.series or ""][result] += 1

    def add_refusal(self, refusal: Refusal) -> bool:
        """False where the files belong to none of the series."""
        series = refusal.series or self._series.get(refusal.paths[0], "")
        if series not in self._paths:
            return False
        self._paths[series] += [path for path in refusal.paths if path not in self._series]  # those that can't be read
        self._series |= dict.fromkeys(refusal.paths, series)
        self._results[series][f"{refusal.outcome}: {refusal.reason}"] += len(refusal.paths)
        self._details.setdefault(series, refusal.detail)
        return True

    def row(self, folder: Path, series: str, members: Members) -> dict[str, Any]:
        """Raises:
        UserError: A file has gone, or can't be read any more.
        """
        header, paths = self._headers[series], sorted(self._paths[series])
        with warnings.catch_warnings():  # as of an unknown character set
            warnings.simplefilter("ignore")
            found, _ = dicom_tags.parse(_content(folder, self._first[series], members))
            texts = {name: dicom_tags.text(found, keyword) for keyword, name in NAMES.items()}
        known = dict(header.attributes())
        return (
            dict.fromkeys(CSV_COLUMNS, "")
            | texts
            | {
                "folder": paths[0].rpartition("/")[0] or ".",
                "files": len(paths),
                **{key: known[key] for key in SELECTED_BY if key in known},
                "size": f"{header.rows} x {header.columns}",
                "result": ", ".join(_counted(what, n) for what, n in self._results[series].most_common()),
                "detail": self._details.get(series, ""),
            }
        )


def _content(folder: Path, path: str, members: Members) -> bytes:
    """A file that was read before.

    Raises:
        UserError: It can't be read any more.
    """
    try:
        return read_stamped(f"{folder}/{path}", members.get(path), sys.maxsize)[0]
    except (OSError, Rejected) as error:
        why = error.detail if isinstance(error, Rejected) else error.strerror
        raise UserError(f"{folder / path} can't be read ({why}): run this again when nothing changes there") from None


def _counted(what: str, number: int) -> str:
    return what if number == 1 else f"{number} {what}" if what.startswith("picture") else f"{what} ({number})"


def totals(table: pd.DataFrame) -> list[str]:
    """How many series there are of each modality and SOP class, and what would become of how many."""
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for modality, sop_class, files in zip(table["modality"], table["sop_class"], table["files"], strict=True):
        numbers[modality, sop_class].append(files)
    outcomes = Counter(SIZES.sub("", text) for result in table["result"] for text in result.split(", ") if result)
    return [
        f"{len(of)} series of {modality or 'no modality'} ({sop_class}), {sum(of)} files"
        for (modality, sop_class), of in sorted(numbers.items())
    ] + [f"{what}: {number} series" for what, number in outcomes.most_common()]


if __name__ == "__main__":
    main()
