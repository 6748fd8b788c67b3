"""A model's answers, and the forms in which tools.predict writes them: a batch at a time, as they come."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.formulas import guarded
from stages.lib.core.terminal import shown
from stages.lib.export.formats.runner import target
from tools.raw_cases import RawCase

HOLDS = 0.5  # from this probability on a label holds that has no threshold
BETWEEN = " | "  # labels that hold, in one cell


class Answer(NamedTuple):
    """A model's output for a case, or why there is none."""

    case: RawCase
    values: np.ndarray | None = None  # (K,): probabilities, or a number and the bounds of its interval
    unlike: bool | None = None  # None: the model has no such output
    trouble: str = ""


Batches = Iterable[Sequence[Answer]]


def wording(metadata: Mapping[str, Any], top: int) -> "OfClasses":
    """How answers are written that are of the kind that a file's metadata say.

    Args:
        top: How many classes are named of each case; how many labels beside those that hold, in a table.
    """
    of = target(metadata)
    fitted = metadata.get("deployed", {})
    if of.of_number:
        return OfNumber(of.names[0], of.unit, of.outputs_with_unit, bool(fitted.get("half_width")))
    if of.kind == "multilabel":
        return OfLabels(of.names, top, fitted.get("thresholds") or [HOLDS] * len(of.names))
    return OfClasses(of.names, top)


class OfClasses:
    """Answers that are a probability a class; the others say the same of theirs."""

    columns: Sequence[str] = ("file", "rank", "class", "probability", "unlike", "error")

    def __init__(self, names: Sequence[str], top: int) -> None:
        self._names, self._top = names, top

    def sentence(self, values: np.ndarray) -> str:
        """For people, on a terminal."""
        return self._percentages(values)

    def caption(self, values: np.ndarray) -> tuple[str, str, int]:
        """For a picture: what, how much of it, and which of the network's outputs that is."""
        k = int(values.argmax())
        return self._names[k], f"{values[k]:.0%}", k

    def entries(self, values: np.ndarray) -> dict[str, Any]:
        """For JSON."""
        return {"probabilities": {self._names[k]: float(values[k]) for k in self._best(values)}}

    def rows(self, file: str, values: np.ndarray, unlike: str | bool) -> Iterator[list[Any]]:
        """For CSV, of `columns`."""
        for rank, k in enumerate(self._best(values), start=1):
            yield [file, rank, guarded(self._names[k]), f"{values[k]:.6g}", unlike, ""]

    def _best(self, values: np.ndarray) -> list[int]:
        return (-values).argsort(kind="stable")[: self._top].tolist()

    def _percentages(self, values: np.ndarray) -> str:
        return "   ".join(f"{shown(self._names[k])} {100 * values[k]:.2f} %" for k in self._best(values))


class OfLabels(OfClasses):
    """Of labels that hold each by itself."""

    def __init__(self, names: Sequence[str], top: int, thresholds: Sequence[float]) -> None:
        super().__init__(names, top)
        self._thresholds = np.array(thresholds)
        # What is called by others stands behind what is not: a label may be called "error", too.
        self.columns = ("file", "labels", "unlike", "error", *map(guarded, names))

    def holding(self, values: np.ndarray) -> list[str]:
        return [name for name, holds in zip(self._names, values >= self._thresholds, strict=True) if holds]

    def sentence(self, values: np.ndarray) -> str:
        return f"{shown(BETWEEN.join(self.holding(values))) or 'none'}   ({self._percentages(values)})"

    def entries(self, values: np.ndarray) -> dict[str, Any]:
        chances = dict(zip(self._names, map(float, values), strict=True))
        return {"labels": self.holding(values), "probabilities": chances}

    def rows(self, file: str, values: np.ndarray, unlike: str | bool) -> Iterator[list[Any]]:
        yield [file, guarded(BETWEEN.join(self.holding(values))), unlike, "", *(f"{one:.6g}" for one in values)]


class OfNumber(OfClasses):
    """Of one number and its interval."""

    def __init__(self, name: str, unit: str, outputs: Sequence[str], has_interval: bool) -> None:
        """Args: has_interval: Whether one was measured; else both bounds are the number itself, and are not told."""
        super().__init__([name], 1)
        self._name, self._unit, self._has_interval = name, unit, has_interval
        self.columns = ("file", "unlike", "error", *map(guarded, outputs))

    def sentence(self, values: np.ndarray) -> str:
        value, low, high = (f"{one:.4g}" for one in values)
        interval = f"   ({low} to {high})" if self._has_interval else ""
        return shown(f"{self._name} {value} {self._unit}".rstrip()) + interval

    def caption(self, values: np.ndarray) -> tuple[str, str, int]:
        return self._name, f"{values[0]:.4g} {self._unit}".rstrip(), 0

    def entries(self, values: np.ndarray) -> dict[str, Any]:
        value, low, high = (float(one) for one in values)
        bounds = {"low": low, "high": high} if self._has_interval else {"low": None, "high": None}
        return {"number": self._name, "unit": self._unit, "value": value, **bounds}

    def rows(self, file: str, values: np.ndarray, unlike: str | bool) -> Iterator[list[Any]]:
        value, *bounds = (f"{one:.6g}" for one in values)
        yield [file, unlike, "", value, *(bounds if self._has_interval else ["", ""])]


def as_table(batches: Batches, words: OfClasses) -> Iterator[str]:
    """A line for each case that has an answer; names are as wide as the widest up to then."""
    width = 0
    for batch in batches:
        told = [(one, one.values) for one in batch if one.values is not None]
        width = max([width, *(len(shown(one.case.name)) for one, _ in told)])
        for one, values in told:
            warning = "   (unlike the training data: do not trust this)" if one.unlike else ""
            yield f"{shown(one.case.name):{width}}   {words.sentence(values)}{warning}\n"


def as_json_lines(batches: Batches, words: OfClasses) -> Iterator[str]:
    """An object a line and case."""
    for batch in batches:
        for one in batch:
            yield json.dumps(_row(one, words), ensure_ascii=False) + "\n"


def as_json(batches: Batches, words: OfClasses) -> Iterator[str]:
    """One array of the same objects."""
    before = "[\n"
    for line in as_json_lines(batches, words):
        yield before + line.rstrip("\n")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _row(one: Answer, words: OfClasses) -> dict[str, Any]:
    if one.values is None:
        return {"file": one.case.name, "error": one.trouble}
    unlike = {} if one.unlike is None else {"unlike": one.unlike}
    return {"file": one.case.name} | words.entries(one.values) | unlike


def as_csv(batches: Batches, words: OfClasses) -> Iterator[str]:
    """Rows for each case that has an answer, and one row with `error` for each other."""
    yield _csv_line(words.columns)
    for batch in batches:
        for one in batch:
            name = guarded(one.case.name)
            if one.values is None:
                row = [""] * len(words.columns)
                row[0], row[words.columns.index("error")] = name, guarded(one.trouble)
                yield _csv_line(row)
            else:
                for cells in words.rows(name, one.values, "" if one.unlike is None else one.unlike):
                    yield _csv_line(cells)


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


FORMS = {"table": as_table, "csv": as_csv, "json": as_json, "jsonl": as_json_lines}
"""Each makes text of answers, in the words for their kind."""
