"""The gate: an exported file, loaded afresh in its own runtime, must say what the network says."""

import math
from collections.abc import Sequence

import numpy as np

from stages.lib.errors import UserError
from stages.lib.exported.program import Runner
from stages.lib.inference import batches

FURTHER = 1e-3  # of a deviation: how far a further output may be off; dividing by deviations makes last bits large


def check(
    runner: Runner, x: np.ndarray, expected: Sequence[np.ndarray], batch_size: int, tolerance: float, name: str
) -> float:
    """The largest difference between a file's probabilities and the network's, which is within the tolerance.

    Args:
        x: (N, C, *size) the dataset's own integers.
        expected: The network's outputs: probabilities (N, classes), and (N,) each of further ones.
        name: Of the file, for messages.

    Raises:
        UserError: A difference is beyond the tolerance, an output is no number, or a top class flips.
    """
    largest, start = 0.0, 0
    for batch in batches(x, batch_size, f"check {name}"):
        wanted = [output[start : start + len(batch)] for output in expected]
        got = [np.asarray(output, np.float64) for output in runner(batch)]
        if [output.shape for output in got] != [output.shape for output in wanted]:
            raise UserError(f"{name} has outputs of another shape than the network: nothing was exported")
        if not all(np.isfinite(output).all() for output in got):
            raise UserError(f"{name} gives outputs that are no finite numbers: nothing was exported")
        flipped = np.flatnonzero(got[0].argmax(1) != wanted[0].argmax(1))
        if len(flipped):
            raise UserError(f"{name} has another top class for test case {start + flipped[0]}: nothing was exported")
        for one, other in zip(got[1:], wanted[1:], strict=True):
            if (np.abs(one - other) > FURTHER * np.maximum(1, np.abs(other))).any():
                raise UserError(f"{name} disagrees with the network about what is unlike: nothing was exported")
        largest = max(largest, float(np.abs(got[0] - wanted[0]).max()))
        start += len(batch)
    if largest > tolerance:
        raise UserError(
            f"{name} gives a probability that is {largest:.3g} off the network's; export.tolerance is {tolerance:g}: "
            "nothing was exported. If that is near enough for you, raise export.tolerance in params.yaml"
        )
    return largest


def rounded_up(difference: float) -> float:
    """The power of ten that a difference does not exceed: its last bits are the machine's, and would make a diff."""
    return 10.0 ** math.ceil(math.log10(difference)) if difference > 0 else 0.0
