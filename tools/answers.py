"""A model's answers, and the forms in which tools.predict writes them: a batch at a time, as they come."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.formulas import guarded
from stages.lib.core.terminal import shown
from tools.raw_cases import RawCase

COLUMNS = ("file", "rank", "class", "probability", "unlike", "error")


class Answer(NamedTuple):
    """A model's output for a case, or why there is none."""

    case: RawCase
    probabilities: np.ndarray | None = None  # (K,)
    unlike: bool | None = None  # None: the model has no such output
    trouble: str = ""


Batches = Iterable[Sequence[Answer]]


def _best(one: Answer, top: int) -> list[int]:
    return [] if one.probabilities is None else (-one.probabilities).argsort(kind="stable")[:top].tolist()


def as_table(batches: Batches, classes: Sequence[str], top: int) -> Iterator[str]:
    """A line for each case that has an answer; names are as wide as the widest up to then."""
    names = [shown(name) for name in classes]
    width = 0
    for batch in batches:
        told = [(one, one.probabilities) for one in batch if one.probabilities is not None]
        width = max([width, *(len(shown(one.case.name)) for one, _ in told)])
        for one, probabilities in told:
            percentages = "   ".join(f"{names[k]} {100 * probabilities[k]:.2f} %" for k in _best(one, top))
            warning = "   (unlike the training data: do not trust this)" if one.unlike else ""
            yield f"{shown(one.case.name):{width}}   {percentages}{warning}\n"


def as_json_lines(batches: Batches, classes: Sequence[str], top: int) -> Iterator[str]:
    """An object a line and case."""
    for batch in batches:
        for one in batch:
            yield json.dumps(_row(one, classes, top), ensure_ascii=False) + "\n"


def as_json(batches: Batches, classes: Sequence[str], top: int) -> Iterator[str]:
    """One array of the same objects."""
    before = "[\n"
    for line in as_json_lines(batches, classes, top):
        yield before + line.rstrip("\n")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _row(one: Answer, classes: Sequence[str], top: int) -> dict[str, Any]:
    if one.probabilities is None:
        return {"file": one.case.name, "error": one.trouble}
    probabilities = {classes[k]: float(one.probabilities[k]) for k in _best(one, top)}
    unlike = {} if one.unlike is None else {"unlike": one.unlike}
    return {"file": one.case.name, "probabilities": probabilities} | unlike


def as_csv(batches: Batches, classes: Sequence[str], top: int) -> Iterator[str]:
    """`top` rows for each case that has an answer, and one row with `error` for each other."""
    yield _csv_line(COLUMNS)
    for batch in batches:
        for one in batch:
            name = guarded(one.case.name)
            unlike = "" if one.unlike is None else one.unlike
            if one.probabilities is None:
                yield _csv_line([name, "", "", "", "", guarded(one.trouble)])
            else:
                for rank, k in enumerate(_best(one, top), start=1):
                    yield _csv_line([name, rank, guarded(classes[k]), f"{one.probabilities[k]:.6g}", unlike, ""])


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


FORMS = {"table": as_table, "csv": as_csv, "json": as_json, "jsonl": as_json_lines}
"""Each makes text of answers, of the classes' names and of the number of classes to name of each case."""
