"""What else than one class labels.csv may ask for: a number, labels in columns of their own or several in one cell,
several readers, a probability or votes a class.

Proposed is what a table without a column `label` can mean alone; the proposal stands in the block, with its reason.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.terminal import shortened, shown
from stages.lib.ingest.archives.members import Members
from stages.lib.ingest.labels.table import COLUMNS, EXCEL_SEPARATOR, NAMING, SYNONYMS, delimiter_of
from stages.lib.ingest.labels.targets import MISSING, NO, NUMBER, YES
from stages.lib.ingest.raw_files import LABELS_CSV

SEPARATORS = ("|", ";")
DISTINCT = 10  # numbers: fewer may be grades
FEWEST_ROWS = 4  # from which on sums that are equal are no chance
SUMS = 0.01  # how far sums may differ by rounding, as a fraction
FACTORS = 100  # between the least and the largest number, from which on a logarithm may be meant
UNITS = {
    unit.lower(): unit
    for unit in (
        *("mm", "cm", "um", "nm", "m", "mm2", "cm2", "mm3", "cm3", "ml", "l", "ul", "g", "kg", "mg", "HU", "%"),
        *("s", "ms", "min", "h", "days", "weeks", "months", "years", "N", "kPa", "MPa", "mmHg", "bpm", "K", "C", "V"),
    )
}
WITH_UNIT = re.compile(r".*(?:_| ?\(| ?\[|\s)([^\s_()\[\]]+)[)\]]?")

Proposal = tuple[dict[str, Any], str]
"""An `ingest.target`, and why."""


def propose(folder: Path, members: Members) -> Proposal | None:
    """What labels.csv asks for; None where that is the class of each case, or it can't be read, which ingest says.

    Raises:
        UserError: It has no column label, and several that may be meant.
    """
    table = folder / LABELS_CSV
    if LABELS_CSV not in members and not table.exists():
        return None
    cells = _columns(members.read_text(LABELS_CSV, table))
    if "label" in cells:
        listed = _listed("label", cells["label"])
        return listed[0] if listed else None
    cells = {name: of for name, of in cells.items() if name not in COLUMNS and not _names_else(name)}
    found = _shares(cells) or _readers(cells)
    used = {name for target, _ in found for name in (*target.get("columns", ()), *target.get("readers", ()))}
    cells = {name: of for name, of in cells.items() if name not in used}
    found += [proposal for name, of in cells.items() for proposal in (*_listed(name, of), *_number(name, of))]
    found += _labels(cells)
    if len(found) > 1:
        several = "; ".join(f"{_text(target)} ({why})" for target, why in found)
        raise UserError(
            f"{table} has no column label, and may ask for one of several: {several}. Call the column that is meant "
            "label where it is a class, or leave the others out; or write the block yourself, with the columns that "
            "are meant as ingest.target (docs/studies.md)"
        )
    return found[0] if found else None


def _text(target: dict[str, Any]) -> str:
    names = target.get("columns") or target.get("readers") or [target["column"]]
    return f"{target.get('kind', 'classes')} of {shown(shortened(', '.join(names)))}"


def _columns(text: str) -> dict[str, list[str]]:
    """The cells of each column; {} of a table that is not whole."""
    first, _, rest = text.partition("\n")
    separator = EXCEL_SEPARATOR.fullmatch(first.strip())
    delimiter = separator[1] if separator else delimiter_of(first)
    reader = csv.reader(
        io.StringIO(rest if separator else text, newline=""), delimiter=delimiter, skipinitialspace=True
    )
    try:
        header, *rows = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except (ValueError, csv.Error):
        return {}
    names = [name.lower() for name in header]
    if len(set(names)) < len(names) or not all(names) or any(len(row) != len(names) for row in rows) or not rows:
        return {}
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _names_else(name: str) -> bool:
    """Whether a column is called as one that says which file or group a row is about, or its split."""
    plain = re.sub(r"[\s_-]", "", name)
    return any(plain in SYNONYMS[column] for column in (*NAMING, "series_number", "group", "split"))


def _listed(name: str, cells: Sequence[str]) -> list[Proposal]:
    """Labels in one cell: the parts come back, in other combinations, too, which those of free text do not."""
    for separator in SEPARATORS:
        several = [cell for cell in cells if separator in cell]
        of_cell = {cell: {part.strip() for part in cell.split(separator)} - {""} for cell in set(cells)}
        parts = Counter(part for cell in cells for part in of_cell[cell])
        recurs = Counter(part for of in of_cell.values() for part in of).most_common(1)[0][1] > 1 if parts else False
        if several and recurs and parts.total() >= 2 * len(parts):
            why = f"{len(parts)} labels in {name}, several in {len(several)} of {len(cells)} cells, as {several[0]}"
            target = {"kind": "multilabel", "column": name}
            return [(target | ({"separator": separator} if separator != "|" else {}), shown(shortened(why)))]
    return []


def _labels(cells: dict[str, list[str]]) -> list[Proposal]:
    """Labels in columns of their own: two or more that say yes and no."""
    names = []
    for name, of in cells.items():
        said = {cell.lower() for cell in of}
        if said <= YES | NO | MISSING and said & YES and said & NO:
            names.append(name)
    if len(names) < 2:
        return []
    why = f"no column label, and {len(names)} columns that say yes or no: {', '.join(names)}"
    return [({"kind": "multilabel", "columns": names}, shown(shortened(why)))]


def _shares(cells: dict[str, list[str]]) -> list[Proposal]:
    """A probability a class, or its votes: columns of numbers that add up to the same in every row. Of yes and no, too,
    where each row says yes once: its classes exclude each other.
    """
    known = {name: of for name, of in cells.items() if all(NUMBER.fullmatch(cell) for cell in of)}
    values = {name: np.array([float(cell) for cell in of]) for name, of in known.items()}
    values = {name: of for name, of in values.items() if of.min() >= 0 and len(np.unique(of)) > 1}
    fractions = {name: of for name, of in values.items() if of.max() <= 1}
    for columns in (fractions, values):
        sums = np.sum(list(columns.values()), axis=0)
        if len(columns) < 2 or len(sums) < FEWEST_ROWS or np.ptp(sums) > SUMS * sums.max():
            continue
        names = list(columns)
        why = f"no column label, and {len(names)} columns that add up to {np.median(sums):g} in each row"
        return [({"columns": names}, shown(shortened(f"{why}: {', '.join(names)}")))]
    return []


def _readers(cells: dict[str, list[str]]) -> list[Proposal]:
    """Several readers: columns of the same few words, or grades, which say more than yes and no."""
    said = {name: {cell for cell in of if cell.lower() not in MISSING} for name, of in cells.items()}
    for first, words in said.items():
        names = [name for name, of in said.items() if len(of & words) >= 2 and 2 * len(of & words) >= len(of | words)]
        classes = sorted(set().union(*(said[name] for name in names)))
        plain = {word.lower() for word in classes}
        if len(names) < 2 or first not in names or len(classes) >= DISTINCT or plain <= YES | NO:
            continue
        listed = f"{', '.join(names)}, which say {', '.join(classes)}"
        why = f"no column label, and {len(names)} columns as of several readers: {listed}"
        order = "; if these are in order: kind: ordinal, and order: [the lowest first, ...]"
        return [({"readers": names}, shown(shortened(why)) + order)]
    return []


def _number(name: str, cells: Sequence[str]) -> list[Proposal]:
    """A number: many different ones, which do not just count the rows."""
    known = [cell for cell in cells if cell.lower() not in MISSING]
    if not known or not all(NUMBER.fullmatch(cell) for cell in known):
        return []
    values = [float(cell) for cell in known]
    counts_rows = all(b - a == 1 for a, b in zip(values, values[1:], strict=False))
    if counts_rows or len(set(values)) < min(DISTINCT, len(cells)):
        return []
    unit = (match := WITH_UNIT.fullmatch(name)) and UNITS.get(match[1])
    why = f"no column label, and {len(set(values))} numbers from {min(values):g} to {max(values):g} in {name}"
    target = {"kind": "regression", "column": name} | ({"unit": unit} if unit else {})
    factors = min(values) > 0 and max(values) >= FACTORS * min(values)
    log = "; log: true learns what differs by factors, as these may" if factors else ""
    return [(target, shown(why) + ("; unit by its name" if unit else "; add their unit") + log)]
