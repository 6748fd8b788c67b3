"""The gate: an exported file, loaded afresh in its own runtime, must say what the network says."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.export.formats.program import Runner
from stages.lib.inference import batches

FURTHER = 1e-3  # of a deviation: how far a further output may be off; dividing by deviations makes last bits large


class Question(NamedTuple):
    """One case as it was read, and what the network says of it."""

    name: str  # for messages
    x: np.ndarray  # (1, C, *its own size)
    spacing_mm: np.ndarray | None
    wanted: Sequence[np.ndarray]  # as `check`'s expected, of one sample


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
        cases = [f"test case {start + i}" for i in range(len(batch))]
        largest = max(largest, _difference(_answer(runner, name, cases[0], batch), wanted, cases, name))
        start += len(batch)
    return _within(largest, tolerance, name)


def check_native(runner: Runner, questions: Iterable[Question], tolerance: float, name: str) -> float:
    """As `check`, on cases of their own size and spacing, one by one."""
    largest = 0.0
    for asked in questions:
        got = _answer(runner, name, asked.name, asked.x, asked.spacing_mm)
        largest = max(largest, _difference(got, asked.wanted, [asked.name], name))
    return _within(largest, tolerance, name)


def _answer(runner: Runner, name: str, case: str, x: np.ndarray, *spacing_mm: Any) -> Sequence[np.ndarray]:
    try:
        return runner(x, *spacing_mm)
    except Exception as error:  # a class of its own in every runtime
        reason = str(error).strip().partition("\n")[0]
        shape = " x ".join(map(str, x.shape[1:]))
        raise UserError(f"{name} can't run on {case}, {shape}: {reason}: nothing was exported") from None


def _difference(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], cases: Sequence[str], name: str) -> float:
    """The largest of the probabilities; what can't be told by a number is refused."""
    got = [np.asarray(output, np.float64) for output in found]
    if [output.shape for output in got] != [output.shape for output in wanted]:
        raise UserError(f"{name} has outputs of another shape than the network: nothing was exported")
    if not all(np.isfinite(output).all() for output in got):
        raise UserError(f"{name} gives outputs that are no finite numbers: nothing was exported")
    flipped = np.flatnonzero(got[0].argmax(1) != wanted[0].argmax(1))
    if len(flipped):
        raise UserError(f"{name} has another top class for {cases[flipped[0]]}: nothing was exported")
    for one, other in zip(got[1:], wanted[1:], strict=True):
        if (np.abs(one - other) > FURTHER * np.maximum(1, np.abs(other))).any():
            raise UserError(f"{name} disagrees with the network about what is unlike: nothing was exported")
    return float(np.abs(got[0] - wanted[0]).max())


def _within(largest: float, tolerance: float, name: str) -> float:
    if largest > tolerance:
        raise UserError(
            f"{name} gives a probability that is {largest:.3g} off the network's; export.tolerance is {tolerance:g}: "
            "nothing was exported. If that is near enough for you, raise export.tolerance in params.yaml"
        )
    return largest


def rounded_up(difference: float) -> float:
    """The power of ten that a difference does not exceed: its last bits are the machine's, and would make a diff."""
    return 10.0 ** math.ceil(math.log10(difference)) if difference > 0 else 0.0
