"""The metadata of an exported file: its input, its classes, and what it was made from."""

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
from stages.lib.tensors import read_split

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
    return {
        "dataset": dataset,
        "classes": about["classes"],
        "input": contract(about, size, ingest),
        "geometry": about["geometry"],  # arguments of stages.lib.geometry.Geometry
        "cases": {name: _counts(dataset_h5, name, len(about["classes"])) for name in SPLITS},
        "deployed": settings.plain(),
        "network": recipe.network,
        "recipe_sha256": hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest(),
        "dataset_sha256": sha256(dataset_h5),
        "model_sha256": sha256(model_pt),
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


def _counts(dataset_h5: Path, split: str, classes: int) -> list[int]:
    return np.bincount(read_split(dataset_h5, split).y, minlength=classes).tolist()


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
