"""What validation reports of the deployed model's answers, whatever their kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.params.validate import OperatingPoint, ValidateParams
from stages.lib.tensors import Asked, Description, Split
from stages.lib.validate import operating_point, out_of_distribution
from stages.lib.validate.intervals import Intervals, intervals
from stages.lib.validate.kinds.kind import Kind
from stages.lib.validate.predictions import COLUMNS

MAIN_SCORES = ("accuracy", "balanced_accuracy", "auroc", "r2")
WIDEST_INTERVAL = 0.2

Said = Mapping[str, np.ndarray]  # by split, (N, ...), as of `Kind`


def check_flips(params: ValidateParams, validation: Split) -> None:
    """Raises:
    UserError: The samples have not the axis along which they are to be mirrored.
    """
    if "D" in params.flips and validation.x.ndim == 4:
        raise UserError("validate.flips has D, the axis of slices, but the dataset is one of images: take H or W")


def score_table(kind: Kind, splits: Mapping[str, Split], said: Said, params: ValidateParams) -> pd.DataFrame:
    """Every score with its interval: split, class (empty: all), score, value, low, high."""
    rows: list[tuple[str, str, str, float, float, float]] = []
    for name, split in splits.items():
        overall, by_name = kind.overall(split, said[name]), kind.by_name(split, said[name])
        bounds: Intervals = {}
        own_bounds: Intervals = {}
        if params.resamples and len(split.y):
            bounds, own_bounds = intervals(kind, split, said[name], params.resamples, params.seed)
        none = np.full((2, len(kind.names) or 1), np.nan)
        rows += [(name, "", score, value, *bounds.get(score, none[:, 0])) for score, value in overall.items()]
        for k, label in enumerate(kind.names):
            rows += [
                (name, label, score, values[k], *own_bounds.get(score, none)[:, k]) for score, values in by_name.items()
            ]
    return pd.DataFrame(rows, columns=["split", "class", "score", "value", "low", "high"])


def prediction_table(name: str, kind: Kind, split: Split, said: np.ndarray) -> pd.DataFrame:
    """One split's part of predictions.csv: `COLUMNS`, the model's answers, what is true where a label does not say all
    of it, and the cases' weights where they have any.

    Args:
        name: The split's.
    """
    about = {
        "case": split.cases,
        "group": split.groups,
        "split": name,
        "label": kind.labels(split),
        "predicted": kind.predicted(said),
    }
    answers = pd.DataFrame(said.reshape(len(split.y), len(kind.outputs)), columns=list(kind.outputs))
    # Side by side, not by name: a class may be called "case", too. Readers take the columns after the first five.
    parts = [pd.DataFrame(about, columns=list(COLUMNS)), answers, kind.truth(split)]
    if split.weight is not None:
        parts.append(pd.DataFrame({"weight": np.asarray(split.weight)}))
    return pd.concat(parts, axis="columns")


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """The overall scores of each split, and the test split's intervals as [low, high]."""
    whole = table[table["class"] == ""]
    report: dict[str, dict[str, Any]] = {"validation": {}, "test": {}, "test_interval": {}}
    for row in whole.to_dict("records"):
        report[row["split"]][row["score"]] = row["value"]
        if row["split"] == "test":
            report["test_interval"][row["score"]] = [row["low"], row["high"]]
    return report


def of_split(table: pd.DataFrame, split: str) -> dict[str, Any]:
    """The overall scores of a split of `score_table`, and their intervals as [low, high]."""
    rows = table[(table["split"] == split) & (table["class"] == "")].to_dict("records")
    values = {str(row["score"]): row["value"] for row in rows}
    return {split: values, f"{split}_interval": {str(row["score"]): [row["low"], row["high"]] for row in rows}}


def asked_of(target: Mapping[str, Any] | None, classes: Sequence[str], weighted: bool) -> dict[str, Any]:
    """What was asked, as `target`, by which a report knows the columns of predictions.csv.

    Nothing where it is the class alone, and all cases count alike.

    Args:
        target: A `tensors.Asked` as a dictionary; None: one class of several, which are `classes`.
        weighted: Whether cases have weights.
    """
    if target is None and not weighted:
        return {}
    asked = Asked("classes", list(classes)) if target is None else Asked(**target)
    return {"target": {"kind": asked.kind, "names": asked.names, "unit": asked.unit, "weighted": weighted}}


def wide_intervals(bounds: Mapping[str, Sequence[float]]) -> list[str]:
    """A warning, if the interval of a main score is too wide to say much; else none.

    Args:
        bounds: [low, high] by score; nan where the score has none.
    """
    widths = {name: bounds[name][1] - bounds[name][0] for name in MAIN_SCORES if name in bounds}
    listed = ", ".join(f"{name} {width:.2f}" for name, width in widths.items() if width > WIDEST_INTERVAL)
    return [f"warning: intervals are wide ({listed}): the test cases are too few to say more"] if listed else []


def no_bounds(kind: Kind, validation: Split) -> list[str]:
    """A warning, if a number has no interval, as no validation case counts to measure it on; else none."""
    counts = len(validation.y) if validation.weight is None else np.count_nonzero(validation.weight)
    if not kind.asked.target.of_number or counts:
        return []
    name = kind.asked.names[0]
    return [
        f"warning: {name} has no interval: low and high are the answer itself, as no validation case says how far "
        "answers are off: raise split.validation"
    ]


def operate(point: OperatingPoint, kind: Kind, splits: Mapping[str, Split], said: Said) -> dict[str, Any]:
    """The operating point: the class or label, its threshold, and the rates in each split.

    Raises:
        UserError: There is no such class or label.
    """
    k = kind.found_by(point.positive)
    rankings = {name: kind.ranking(k, split, said[name]) for name, split in splits.items()}
    known = rankings["validation"]
    fixed = operating_point.threshold(known.positive, known.score, point.sensitivity, known.weight)
    rates = {name: operating_point.rates(one.positive, one.score, fixed, one.weight) for name, one in rankings.items()}
    return {"positive": point.positive, "threshold": fixed, **rates}


def intensity_range(about: Description) -> out_of_distribution.IntensityRange:
    """Minimum and maximum of each channel of the training split, (C, 1, ...) each."""
    shape = (-1, *[1] * (len(about.shape) - 1))
    return np.reshape(about.moments["minimum"], shape), np.reshape(about.moments["maximum"], shape)
