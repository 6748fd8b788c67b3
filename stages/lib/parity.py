"""The gate: an exported file, loaded afresh in its own runtime, must say what the network says."""

import numpy as np

from stages.lib.errors import UserError
from stages.lib.exported.program import Runner
from stages.lib.inference import batches


def largest_difference(runner: Runner, x: np.ndarray, expected: np.ndarray, batch_size: int, name: str) -> float:
    """How far a file's probabilities are from the network's, at most.

    Args:
        x: (N, C, *size) the dataset's own integers.
        expected: (N, classes) the network's probabilities.
        name: Of the file, for messages.

    Raises:
        UserError: A probability is no number, a shape differs, or a top class flips.
    """
    largest, start = 0.0, 0
    for batch in batches(x, batch_size, f"check {name}"):
        wanted = expected[start : start + len(batch)]
        got = np.asarray(runner(batch), np.float64)
        if got.shape != wanted.shape:
            raise UserError(f"{name} gives {got.shape} for a batch where the network gives {wanted.shape}")
        flipped = np.flatnonzero(got.argmax(1) != wanted.argmax(1))
        if not np.isfinite(got).all() or len(flipped):
            case = start + (int(flipped[0]) if len(flipped) else 0)
            raise UserError(f"{name} disagrees with the network about test case {case}: nothing was exported")
        largest = max(largest, float(np.abs(got - wanted).max()))
        start += len(batch)
    return largest


def check(runner: Runner, x: np.ndarray, expected: np.ndarray, batch_size: int, tolerance: float, name: str) -> float:
    """The largest difference, which is within the tolerance.

    Raises:
        UserError: It is not, or as `largest_difference`.
    """
    largest = largest_difference(runner, x, expected, batch_size, name)
    if largest > tolerance:
        raise UserError(
            f"{name} gives a probability that is {largest:.3g} off the network's; export.tolerance is {tolerance:g}: "
            "nothing was exported. If that is near enough for you, raise export.tolerance in params.yaml"
        )
    return largest
