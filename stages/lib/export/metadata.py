"""The metadata of an exported file: its input, what it answers, and what it was made from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.export.formats.runner import INPUTS
from stages.lib.geometry import Geometry
from stages.lib.model.checkpoint import Recipe
from stages.lib.model.deployed import Settings
from stages.lib.params.ingest import IngestParams
from stages.lib.splits import SPLITS
from stages.lib.tensors import Asked, Description, Split, read_split

NO_CHOICE = IngestParams()


def collect(
    dataset: str,
    recipe: Recipe,
    settings: Settings,
    dataset_h5: Path,
    model_pt: Path,
    size: str = "fitted",
    ingest: IngestParams = NO_CHOICE,
) -> dict[str, Any]:
    """The metadata, as values that JSON has.

    Args:
        dataset: The name in params.yaml.
        size: As `ExportParams.size`.
        ingest: How the pictures in training were read.
    """
    about = recipe.description
    counted = {name: _counted(read_split(dataset_h5, name), Description(**about)) for name in SPLITS}
    return {
        "dataset": dataset,
        "classes": about["classes"],
        **answer(about),
        "input": contract(about, size, ingest),
        "geometry": about["geometry"],  # arguments of stages.lib.geometry.Geometry
        "cases": counted,
        "deployed": settings.plain(),
        "network": recipe.network,
        "recipe_sha256": hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest(),
        "dataset_sha256": sha256(dataset_h5),
        "model_sha256": sha256(model_pt),
    }


def answer(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a file's first output is, where that is not a probability of each of its classes, one of which is true.

    Args:
        about: A `tensors.Description` as a dictionary.
    """
    if (target := about.get("target")) is None:
        return {}
    return {
        "target": target,  # a tensors.Asked: kind, names, unit; mean and deviation of a number's values in training
        "outputs": Asked(**target).target.outputs,  # of the first output's columns, in order
    }


def contract(about: Mapping[str, Any], size: str, ingest: IngestParams = NO_CHOICE) -> dict[str, Any]:
    """What a file takes as input.

    Args:
        about: A `tensors.Description` as a dictionary.
        size, ingest: As of `collect`.
    """
    geometry = Geometry(**about["geometry"])
    integer = np.issubdtype(np.dtype(about["dtype"]), np.integer)
    reading = ingest.reading()
    pictures = {"transparency": ingest.transparency, "colour": ingest.colour} if len(about["shape"]) == 3 else {}
    return {
        "inputs": list(INPUTS if geometry.spaced else INPUTS[:1]),  # their names, in order
        "axes": about["axes"],  # N is the number of samples, any
        "channels": geometry.channels(about["shape"][0]),  # C is one of these
        "size": size,  # fitted: any H and W (and D) are brought to the shape; any: the network runs on them
        "shape": about["shape"],  # of a sample in training
        "dtype": about["dtype"] if integer else "float32",  # holds all integers of 8 and 16 bits
        "units": about["units"],
        "spacing_mm": about["spacing_mm"],  # of a sample in training; the input's own is the second input
        **({"reading": reading} if reading else {}),  # further params of ingest that say how to read
        **pictures,  # as of ingest: what a partly transparent picture is laid on, and how a coloured one becomes grey
    }


def _counted(split: Split, about: Description) -> list[int] | dict[str, Any]:
    """The number of cases of each class; of labels and numbers, what can be counted of those."""
    asked = about.asked
    if asked.target.of_one_class:
        return np.bincount(split.y, minlength=len(about.classes)).tolist()
    assert split.target is not None
    values = np.array(split.target, np.float64)
    if asked.kind == "multilabel":
        known = np.isfinite(values)
        return {"cases": len(values), "known": known.sum(0).tolist(), "positive": (values == 1).sum(0).tolist()}
    spread = {"mean": values.mean(), "minimum": values.min(), "maximum": values.max()} if len(values) else {}
    return {"cases": len(values)} | {name: float(f"{value:.6g}") for name, value in spread.items()}


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
