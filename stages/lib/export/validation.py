"""validate.json: the settings that the model is deployed with, and the scores for its card."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from stages.lib.core.reading import parsed, reading
from stages.lib.model.deployed import MEASURES, Settings

Scores = dict[str, FiniteFloat | None]


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


def _check(settings: Settings) -> None:
    means, deviations = settings.unlike_means, settings.unlike_deviations
    numbers = [settings.temperature, *means, *deviations, settings.unlike_threshold or 0.0]
    if not all(map(math.isfinite, numbers)) or settings.temperature <= 0 or not all(d > 0 for d in deviations):
        raise ValueError("deployed: a number is impossible")
    if len(means) != len(deviations) or len(means) != (0 if settings.unlike_threshold is None else MEASURES):
        raise ValueError(f"deployed: unlike has not {MEASURES} means, deviations and a threshold")
    if not set(settings.flips) <= set("DHW"):
        raise ValueError(f"deployed.flips is {settings.flips!r}: expected axes of DHW")
