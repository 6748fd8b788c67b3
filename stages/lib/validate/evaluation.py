"""What validation chooses for the deployed model, and what it reports of the predicted probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.model.deployed import Settings
from stages.lib.params.validate import OperatingPoint, ValidateParams
from stages.lib.tensors import Description, Split
from stages.lib.validate import calibration, operating_point, out_of_distribution, scores
from stages.lib.validate.answers import Answers
from stages.lib.validate.intervals import intervals

MAIN_SCORES = ("accuracy", "balanced_accuracy", "auroc")
WIDEST_INTERVAL = 0.2

Probabilities = Mapping[str, np.ndarray]  # by split, (N, K)


def choose_settings(answers: Answers, validation: Split, params: ValidateParams) -> Settings:
    """Fits the temperature and the threshold of unlike samples, both on the validation split alone.

    Args:
        answers: To the validation split.
    """
    settings = Settings(
        temperature=calibration.temperature(answers.logits[0], validation.y, validation.groups, params.seed)
        if params.calibrate
        else 1.0,
        flips="".join(params.flips),
    )
    return out_of_distribution.with_threshold(answers.measures, settings)


def check_flips(params: ValidateParams, validation: Split) -> None:
    """Raises:
    UserError: The samples have not the axis along which they are to be mirrored.
    """
    if "D" in params.flips and validation.x.ndim == 4:
        raise UserError("validate.flips has D, the axis of slices, but the dataset is one of images: take H or W")


def score_table(
    splits: Mapping[str, Split], probabilities: Probabilities, classes: Sequence[str], params: ValidateParams
) -> pd.DataFrame:
    """Every score with its interval: split, class (empty: all), score, value, low, high."""
    rows: list[tuple[str, str, str, float, float, float]] = []
    for name, split in splits.items():
        y, p = split.y, probabilities[name]
        overall, per_class = scores.overall(y, p), scores.per_class(y, p)
        resamples = params.resamples if len(y) else 0
        bounds, class_bounds = intervals(y, p, split.groups, resamples, params.seed) if resamples else ({}, {})
        none = np.full((2, len(classes)), np.nan)
        rows += [(name, "", score, value, *bounds.get(score, none[:, 0])) for score, value in overall.items()]
        for k, label in enumerate(classes):
            rows += [
                (name, label, score, values[k], *class_bounds.get(score, none)[:, k])
                for score, values in per_class.items()
            ]
    return pd.DataFrame(rows, columns=["split", "class", "score", "value", "low", "high"])


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """The overall scores of each split, and the test split's intervals as [low, high]."""
    whole = table[table["class"] == ""]
    report: dict[str, dict[str, Any]] = {"validation": {}, "test": {}, "test_interval": {}}
    for row in whole.to_dict("records"):
        report[row["split"]][row["score"]] = row["value"]
        if row["split"] == "test":
            report["test_interval"][row["score"]] = [row["low"], row["high"]]
    return report


def wide_intervals(bounds: Mapping[str, Sequence[float]]) -> list[str]:
    """A warning, if the interval of a main score is too wide to say much; else none.

    Args:
        bounds: [low, high] by score; nan where the score has none.
    """
    widths = {name: bounds[name][1] - bounds[name][0] for name in MAIN_SCORES}
    listed = ", ".join(f"{name} {width:.2f}" for name, width in widths.items() if width > WIDEST_INTERVAL)
    return [f"warning: intervals are wide ({listed}): the test cases are too few to say more"] if listed else []


def operate(
    point: OperatingPoint, splits: Mapping[str, Split], probabilities: Probabilities, classes: Sequence[str]
) -> dict[str, Any]:
    """The operating point: the class, its threshold, and the rates in each split.

    Raises:
        UserError: There is no such class.
    """
    if point.positive not in classes:
        raise UserError(
            f"validate.operating_point.positive is '{point.positive}': the classes are {', '.join(classes)}"
        )
    k = list(classes).index(point.positive)
    fixed = operating_point.threshold(splits["validation"].y == k, probabilities["validation"][:, k], point.sensitivity)
    rates = {
        name: operating_point.rates(split.y == k, probabilities[name][:, k], fixed) for name, split in splits.items()
    }
    return {"positive": point.positive, "threshold": fixed, **rates}


def intensity_range(about: Description) -> out_of_distribution.IntensityRange:
    """Minimum and maximum of each channel of the training split, (C, 1, ...) each."""
    shape = (-1, *[1] * (len(about.shape) - 1))
    return np.reshape(about.moments["minimum"], shape), np.reshape(about.moments["maximum"], shape)
