"""What every format is loaded as. Without torch, which takes seconds to import and an ONNX file does not need."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.targets import NUMBERS, Target

INPUTS = ("input", "spacing_mm")
UNLIKE = "unlike"  # the second output
Runner = Callable[..., tuple[np.ndarray, ...]]
"""Maps (N, C, *size) of the cases' own integers to what the model says, (N, K), and a second output, if there is one.

A file that takes a spacing has it as the second argument; left out, it is the dataset's."""


class Unsupported(UserError):
    """A format can't hold this network, whatever the params are; the message is the reason, in a line."""


def reason(error: BaseException) -> str:
    """What went wrong, in a line without addresses and paths, from errors that others made of it with pages of text."""
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(cause, UserError):
        error = cause
    text = str(error).strip()
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"0x[0-9a-f]+|(/[\w.-]+){2,}", "...", first)[:300]


def target(metadata: Mapping[str, Any]) -> Target:
    """What the first output is an answer to: its K columns are the target's `outputs`."""
    asked = metadata.get("target")
    if asked is None:
        return Target("classes", tuple(metadata["classes"]))
    return Target(asked["kind"], tuple(asked["names"]), asked["unit"])


def output_names(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """The names of a file's outputs, in order; the second is not in every file."""
    return ("number" if metadata.get("target", {}).get("kind") in NUMBERS else "probabilities"), UNLIKE


def takes_any_colour(metadata: Mapping[str, Any]) -> bool:
    return len(metadata.get("input", {}).get("channels", [])) > 1


def feeds(metadata: Mapping[str, Any], x: np.ndarray, spacing_mm: Any = None) -> tuple[np.ndarray, ...]:
    """The inputs of an exported file, of the dtypes that it takes.

    Args:
        metadata: The file's.
        spacing_mm: None for the dataset's.
    """
    contract = metadata.get("input", {})
    x = x.astype(contract.get("dtype", x.dtype), casting="safe", copy=False)
    if INPUTS[1] not in contract.get("inputs", []):
        return (x,)
    return x, np.asarray(contract["spacing_mm"] if spacing_mm is None else spacing_mm, np.float64)


@dataclass(frozen=True)
class Model:
    """A loaded file: a `Runner`, and its metadata."""

    run: Runner
    metadata: dict[str, Any]  # {} of a file that has none

    def __call__(self, x: np.ndarray, spacing_mm: Any = None) -> tuple[np.ndarray, ...]:
        return self.run(x, spacing_mm)
