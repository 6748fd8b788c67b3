"""What validation settles and reports, from the model's answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from stages.lib.core.errors import UserError
from stages.lib.inference import predict
from stages.lib.model.classifier import Classifier
from stages.lib.model.deployed import Settings
from stages.lib.params.validate import OperatingPoint, ValidateParams
from stages.lib.tensors import Description, Split
from stages.lib.validate import bootstrap, calibration, operating_point, out_of_distribution, scores

Answers = Mapping[str, np.ndarray]  # (N, K) probabilities by split


def choose_settings(classifier: Classifier, validation: Split, params: ValidateParams) -> Settings:
    """Fits the temperature and the unlike threshold on the validation split, the only one they may see."""
    if "D" in params.flips and validation.x.ndim == 4:
        raise UserError("validate.flips has D, the axis of slices, but the dataset is one of images: take H or W")
    logits = predict_finite(classifier, validation, params.batch_size, "calibrate")
    settings = Settings(
        temperature=calibration.temperature(logits, validation.y, validation.groups, params.seed)
        if params.calibrate
        else 1.0,
        flips="".join(params.flips),
    )
    return out_of_distribution.with_threshold(classifier, validation.x, settings, params.batch_size)


def predict_finite(model: nn.Module, split: Split, batch_size: int, doing: str) -> np.ndarray:
    """What a model says of each case of a split, (N, K) float64.

    Raises:
        UserError: An answer is no finite number.
    """
    said = predict(model, split.x, batch_size, doing)
    lost = np.flatnonzero(~np.isfinite(said).all(1))
    if len(lost):
        raise UserError(
            f"the model's answer to case {split.cases[lost[0]]} is no finite number, and so are {len(lost)} of "
            f"{len(said)}: the training diverged (try a smaller train.lr), or the case's own pixels are no numbers"
        )
    return said


def score_table(
    splits: Mapping[str, Split], said: Answers, classes: Sequence[str], params: ValidateParams
) -> pd.DataFrame:
    """Every score with its interval: split, class (empty: all), score, value, low, high."""
    rows: list[tuple[str, str, str, float, float, float]] = []
    for name, split in splits.items():
        y, p = split.y, said[name]
        overall, per_class = scores.overall(y, p), scores.per_class(y, p)
        some = params.resamples if len(y) else 0
        bounds, class_bounds = bootstrap.intervals(y, p, split.groups, some, params.seed) if some else ({}, {})
        none = np.full((2, len(classes)), np.nan)
        rows += [(name, "", score, value, *bounds.get(score, none[:, 0])) for score, value in overall.items()]
        for k, label in enumerate(classes):
            rows += [
                (name, label, score, values[k], *class_bounds.get(score, none)[:, k])
                for score, values in per_class.items()
            ]
    return pd.DataFrame(rows, columns=["split", "class", "score", "value", "low", "high"])


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """The scores of whole splits by split, and the test split's intervals as [low, high]."""
    whole = table[table["class"] == ""]
    report: dict[str, dict[str, Any]] = {"validation": {}, "test": {}, "test_interval": {}}
    for row in whole.to_dict("records"):
        report[row["split"]][row["score"]] = row["value"]
        if row["split"] == "test":
            report["test_interval"][row["score"]] = [row["low"], row["high"]]
    return report


def operate(
    point: OperatingPoint, splits: Mapping[str, Split], said: Answers, classes: Sequence[str]
) -> dict[str, Any]:
    """The operating point: its threshold, and what it finds in each split.

    Raises:
        UserError: There is no such class.
    """
    if point.positive not in classes:
        raise UserError(
            f"validate.operating_point.positive is '{point.positive}': the classes are {', '.join(classes)}"
        )
    k = list(classes).index(point.positive)
    fixed = operating_point.threshold(splits["validation"].y == k, said["validation"][:, k], point.sensitivity)
    found = {name: operating_point.report(split.y == k, said[name][:, k], fixed) for name, split in splits.items()}
    return {"positive": point.positive, "threshold": fixed, **found}


def intensity_range(about: Description) -> out_of_distribution.Range:
    """The lowest and highest number of each channel of the training split, (C, 1, ...) each."""
    shape = (-1, *[1] * (len(about.shape) - 1))
    return np.reshape(about.moments["minimum"], shape), np.reshape(about.moments["maximum"], shape)
