"""validate.json: the settings that the model is deployed with, and the scores for its card."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import FiniteFloat

from stages.lib.core import tables
from stages.lib.core.reading import parsed, reading
from stages.lib.model.deployed import MEASURES, Settings

Scores = dict[str, FiniteFloat | None]
SCORE_COLUMNS = ("class", "score", "value")


@dataclass(frozen=True)
class OperatingPoint:
    positive: str
    threshold: FiniteFloat
    validation: Scores
    test: Scores


@dataclass(frozen=True)
class Validation:
    """validate.json."""

    validation: Scores
    test: Scores
    test_interval: dict[str, tuple[FiniteFloat | None, FiniteFloat | None]]
    deployed: Settings
    unlike: dict[str, dict[str, FiniteFloat]]
    uncalibrated: dict[str, Scores] | None = None
    operating_point: OperatingPoint | None = None


def read(validate_json: Path) -> dict[str, Any]:
    """validate.json.

    Raises:
        DamagedOut: It is missing, or is none that validate could have written.
    """
    with reading(validate_json):
        content = validate_json.read_bytes()
        found = parsed(content, Validation)
        _check(found.deployed)
        if (found.unlike and "flagged" not in found.unlike.get("none", {})) or any(
            "flagged" not in rates for rates in found.unlike.values()
        ):
            raise ValueError("unlike: a fraction flagged is missing")
        if found.uncalibrated is not None:
            for name, on_test in (("uncalibrated.test", found.uncalibrated.get("test", {})), ("test", found.test)):
                if "calibration_error" not in on_test:
                    raise ValueError(f"{name}.calibration_error is missing")
        return json.loads(content)


def read_by_class(scores_csv: Path) -> pd.DataFrame:
    """Scores of each class on the test split, a row a class, as text: class, cases, then a column a score.

    Raises:
        DamagedOut: scores.csv is missing, or is none that validate could have written.
    """
    with reading(scores_csv):
        table = pd.concat(tables.read_blocks(scores_csv, ("split",), more=True, optional=SCORE_COLUMNS))
        if lacking := [name for name in SCORE_COLUMNS if name not in table]:
            raise ValueError(f"it has no column {lacking[0]}")
        of_class = table[(table["split"] == "test") & (table["class"] != "")]
        if of_class.duplicated(["class", "score"]).any():
            raise ValueError("a class has a score twice")
        found = of_class.pivot(index="class", columns="score", values="value").fillna("")
        if "cases" not in found:
            raise ValueError("it has no number of cases of a class of the test split")
        scores = [name for name in dict.fromkeys(of_class["score"]) if name != "cases"]
        return found.loc[list(dict.fromkeys(of_class["class"])), ["cases", *scores]]


def _check(settings: Settings) -> None:
    means, deviations = settings.unlike_means, settings.unlike_deviations
    numbers = [settings.temperature, *means, *deviations, settings.unlike_threshold or 0.0]
    if not all(map(math.isfinite, numbers)) or settings.temperature <= 0 or not all(d > 0 for d in deviations):
        raise ValueError("deployed: a number is impossible")
    if len(means) != len(deviations) or len(means) != (0 if settings.unlike_threshold is None else MEASURES):
        raise ValueError(f"deployed: unlike has not {MEASURES} means, deviations and a threshold")
    if not set(settings.flips) <= set("DHW"):
        raise ValueError(f"deployed.flips is {settings.flips!r}: expected axes of DHW")
