"""validate.json: the settings that the model is deployed with, and the scores for its card."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import FiniteFloat

from stages.lib.core import tables
from stages.lib.core.reading import parsed, reading
from stages.lib.model.deployed import MEASURES, Settings
from stages.lib.tensors import Asked

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
    target: dict[str, Any] | None = None  # what was asked, where that is not one class of several


def read(validate_json: Path, asked: Asked | None = None) -> dict[str, Any]:
    """validate.json.

    Args:
        asked: What the model is to answer; None: whatever it is.

    Raises:
        DamagedOut: It is missing, or is none that validate could have written.
    """
    with reading(validate_json):
        return _checked(validate_json.read_bytes(), asked)


def read_study(study_json: Path, model: Literal["ensemble", "best"], asked: Asked | None = None) -> dict[str, Any]:
    """Of study.json what validate.json has, for the ensemble of its trainings, or the best one, whose name is `member`
    then. The validation split's scores are those of the cases that were held out.

    Args:
        asked: As of `read`.

    Raises:
        DamagedOut: It is missing, or is none that study could have written.
    """
    with reading(study_json):
        found = json.loads(study_json.read_bytes())
        chosen = found if model == "ensemble" else found["best"]
        validation = chosen["out_of_fold" if model == "ensemble" else "validation"]
        taken = {name: chosen[name] for name in ("test", "test_interval", "deployed")}
        member = {"member": str(chosen["member"])} if model == "best" else {}
        return _checked(json.dumps({"validation": validation, **taken, "unlike": {}}).encode(), asked) | member


def _checked(content: bytes, asked: Asked | None) -> dict[str, Any]:
    """A validate.json's content; raises a ValueError if validate could not have written it."""
    found = parsed(content, Validation)
    _check(found.deployed)
    if asked is not None:
        _check_answer(found.deployed, asked)
    if (found.unlike and "flagged" not in found.unlike.get("none", {})) or any(
        "flagged" not in rates for rates in found.unlike.values()
    ):
        raise ValueError("unlike: a fraction flagged is missing")
    if found.uncalibrated is not None and (asked is None or asked.target.of_one_class):
        for name, on_test in (("uncalibrated.test", found.uncalibrated.get("test", {})), ("test", found.test)):
            if "calibration_error" not in on_test:
                raise ValueError(f"{name}.calibration_error is missing")
    return dict(json.loads(content))


def read_by_class(scores_csv: Path, asked: Asked | None = None, split: str = "test") -> pd.DataFrame:
    """Scores of each class, or label, on the test split, a row a class, as text: cases, then a column a score.

    Of a number there is no row.

    Args:
        asked: As of `read`; None: one class of several.
        split: What the test split is called in this file.

    Raises:
        DamagedOut: scores.csv is missing, or is none that validate could have written.
    """
    with reading(scores_csv):
        table = pd.concat(tables.read_blocks(scores_csv, ("split",), more=True, optional=SCORE_COLUMNS))
        if lacking := [name for name in SCORE_COLUMNS if name not in table]:
            raise ValueError(f"it has no column {lacking[0]}")
        of_class = table[(table["split"] == split) & (table["class"] != "")]
        if of_class.duplicated(["class", "score"]).any():
            raise ValueError("a class has a score twice")
        found = of_class.pivot(index="class", columns="score", values="value").fillna("")
        if "cases" not in found and (asked is None or asked.target.of_one_class):
            raise ValueError("it has no number of cases of a class of the test split")
        scores = sorted(dict.fromkeys(of_class["score"]), key=lambda name: name != "cases")  # first, the others as are
        return found.loc[list(dict.fromkeys(of_class["class"])), scores]


def _check(settings: Settings) -> None:
    means, deviations = settings.unlike_means, settings.unlike_deviations
    temperatures = [settings.temperature, *settings.temperatures]
    numbers = [*temperatures, *means, *deviations, settings.unlike_threshold or 0.0, settings.half_width]
    if not all(map(math.isfinite, numbers)) or not all(number > 0 for number in [*temperatures, *deviations]):
        raise ValueError("deployed: a number is impossible")
    if settings.half_width < 0 or not all(0 <= threshold <= 1 for threshold in settings.thresholds):
        raise ValueError("deployed: a number is impossible")
    if len(means) != len(deviations) or len(means) != (0 if settings.unlike_threshold is None else MEASURES):
        raise ValueError(f"deployed: unlike has not {MEASURES} means, deviations and a threshold")
    if not set(settings.flips) <= set("DHW"):
        raise ValueError(f"deployed.flips is {settings.flips!r}: expected axes of DHW")


def _check_answer(settings: Settings, asked: Asked) -> None:
    """That the settings are of this kind of answer."""
    labels = len(asked.names) if asked.kind == "multilabel" else 0
    for name in ("temperatures", "thresholds"):
        if len(getattr(settings, name)) not in (0, labels):
            raise ValueError(f"deployed.{name} is not a number for each of {labels} labels")
    if settings.half_width and not asked.target.of_number:
        raise ValueError("deployed.half_width is of a number, which the model does not answer")
