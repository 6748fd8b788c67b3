"""Parity, which every exported file has to pass: loaded afresh in its own runtime, it says what the network says.

A file is asked about the test split's tensors, a batch at a time, and about cases as they were read, one by one.

How far a probability is off is a difference. How far a number is off is counted in deviations of the numbers that the
model was trained on, or of their logarithms where it learns those: a tenth of a millimetre is little of a lung, and
more than a cell.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.lib.cases import Cases
from stages.lib.core.errors import UserError
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.runner import Runner, feeds
from stages.lib.model.deployed import outputs
from stages.lib.model.inference import batches
from stages.lib.tensors import Asked, Split

NATIVE_CASES = 64  # at most, spread over the test split: each is asked alone, since each may have a size of its own
# The score of unlike data is in standard deviations: the division makes its last bits large.
SECOND_OUTPUT_TOLERANCE = 1e-3  # relative, and absolute below 1
FLOAT32 = 2.0**-22  # the last two bits, of 1: a number of 1,000,000 +- 1 has no more than those to be told by
TINY = float(np.finfo(np.float32).tiny)
CLASSES = Asked("classes", [])


class NativeCase(NamedTuple):
    """A case as it was read, and the network's outputs for it."""

    name: str  # for messages
    x: np.ndarray  # (1, C, *its own size)
    spacing_mm: np.ndarray | None
    expected: Sequence[np.ndarray]  # as of `check`, of one sample


def native_cases(
    cases: Cases, test: Split, facts: Mapping[str, Any], expected: Sequence[np.ndarray], model: Native
) -> Iterator[NativeCase]:
    """The test cases that the geometry changes, then a sample one pixel larger, for the geometry may change none.

    Args:
        facts: The file's metadata.
        expected: The network's outputs for the test split's tensors, which are these cases after the geometry.
        model: The module that was exported: gives the expected outputs for other sizes.
    """
    fitted, dtype = facts["input"]["size"] == "fitted", facts["input"]["dtype"]
    for i in np.unique(np.linspace(0, len(test.y) - 1, NATIVE_CASES).astype(int)) if len(test.y) else []:
        position = cases.index(test.cases[i])
        x, spacing = np.array(cases[position][None], dtype), cases.spacings_mm[position]
        if not np.array_equal(x[0], test.x[i]):
            wanted = [output[i : i + 1] for output in expected] if fitted else _run_module(model, facts, x, spacing)
            yield NativeCase(f"test case {i} as it was read", x, spacing, wanted)
    sample = np.array(test.x[:1]) if len(test.y) else np.zeros((1, *test.x.shape[1:]), dtype)
    x = np.pad(sample.astype(dtype), [(0, 0), (0, 0), *[(0, 1)] * (sample.ndim - 2)], "edge")
    yield NativeCase("a sample one pixel larger", x, None, _run_module(model, facts, x, None))


class Off(NamedTuple):
    """How far answers are from others."""

    largest: float = 0.0  # difference
    beyond: float = 0.0  # what is left of the largest without what the precision of the numbers allows

    def and_also(self, other: "Off") -> "Off":
        return Off(max(self.largest, other.largest), max(self.beyond, other.beyond))


def off(found: np.ndarray, wanted: np.ndarray, asked: Asked, precision: float = FLOAT32) -> Off:
    """How far the first output is from what is wanted.

    Args:
        found, wanted: (N, K) float64, finite.
        precision: Of the numbers, relative; probabilities are held to 0 of it.
    """
    if not asked.target.of_number:
        return Off(*[float(np.abs(found - wanted).max(initial=0))] * 2)
    size = np.abs(wanted)
    if asked.kind == "log_regression":
        found, wanted = (np.log(np.maximum(numbers, TINY)) for numbers in (found, wanted))
        size = np.maximum(1, np.abs(wanted))
    difference = np.abs(found - wanted) / asked.deviation
    beyond = difference - precision * size / asked.deviation
    return Off(float(difference.max(initial=0)), float(beyond.max(initial=0)))


def check(
    runner: Runner,
    x: np.ndarray,
    expected: Sequence[np.ndarray],
    batch_size: int,
    tolerance: float,
    name: str,
    asked: Asked = CLASSES,
) -> float:
    """The largest difference between a file's answers and the network's, which is within the tolerance.

    Args:
        x: (N, C, *size) the dataset's own integers.
        expected: The network's outputs: what is asked (N, K), then (N,) where it has a second one.
        name: Of the file, for messages.
        asked: What the model is to answer.

    Raises:
        UserError: A difference is beyond the tolerance, an output is no finite number, or a top class differs.
    """
    largest, start = Off(), 0
    for batch in batches(x, batch_size, f"check {name}"):
        wanted = [output[start : start + len(batch)] for output in expected]
        cases = [f"test case {start + i}" for i in range(len(batch))]
        found = _run_file(runner, name, cases[0], batch)
        largest = largest.and_also(_difference(found, wanted, cases, name, asked))
        start += len(batch)
    return _within(largest, tolerance, name, asked)


def check_native(
    runner: Runner, cases: Iterable[NativeCase], tolerance: float, name: str, asked: Asked = CLASSES
) -> float:
    """As `check`, on cases of their own size and spacing, one by one."""
    largest = Off()
    for case in cases:
        found = _run_file(runner, name, case.name, case.x, case.spacing_mm)
        largest = largest.and_also(_difference(found, case.expected, [case.name], name, asked))
    return _within(largest, tolerance, name, asked)


def rounded_up(difference: float) -> float:
    """The power of ten that a difference does not exceed: its digits depend on the machine, and would make a diff."""
    return 10.0 ** math.ceil(math.log10(difference)) if difference > 0 else 0.0


@torch.inference_mode()
def _run_module(model: Native, facts: Mapping[str, Any], x: np.ndarray, spacing_mm: Any) -> list[np.ndarray]:
    inputs = [torch.from_numpy(array) for array in feeds(facts, x, spacing_mm)]
    return [output.double().numpy() for output in outputs(model(*inputs))]


def _run_file(runner: Runner, name: str, case: str, x: np.ndarray, *spacing_mm: Any) -> Sequence[np.ndarray]:
    try:
        return runner(x, *spacing_mm)
    except Exception as error:  # every runtime has a class of its own
        reason = str(error).strip().partition("\n")[0]
        shape = " x ".join(map(str, x.shape[1:]))
        raise UserError(f"{name} can't run on {case}, {shape}: {reason}: nothing was exported") from None


def _difference(
    answers: Sequence[np.ndarray], wanted: Sequence[np.ndarray], cases: Sequence[str], name: str, asked: Asked
) -> Off:
    """How far the first output is off; whatever else differs is refused."""
    found = [np.asarray(output, np.float64) for output in answers]
    if [output.shape for output in found] != [output.shape for output in wanted]:
        raise UserError(f"{name} has outputs of another shape than the network: nothing was exported")
    if not all(np.isfinite(output).all() for output in found):
        raise UserError(f"{name} gives outputs that are no finite numbers: nothing was exported")
    flipped = np.flatnonzero(found[0].argmax(1) != wanted[0].argmax(1))
    if len(flipped) and asked.target.of_one_class:
        raise UserError(f"{name} has another top class for {cases[flipped[0]]}: nothing was exported")
    for one, other in zip(found[1:], wanted[1:], strict=True):
        if (np.abs(one - other) > SECOND_OUTPUT_TOLERANCE * np.maximum(1, np.abs(other))).any():
            raise UserError(f"{name} disagrees with the network about what is unlike: nothing was exported")
    return off(found[0], wanted[0], asked)


def in_words(difference: str, asked: Asked) -> str:
    """What an answer is that is so far off: "a probability that is 0.1 off"."""
    if not asked.target.of_number:
        return f"a probability that is {difference} off"
    of = "the logarithms of " if asked.kind == "log_regression" else ""
    return f"a number that is {difference} deviations of {of}those in training off"


def _within(found: Off, tolerance: float, name: str, asked: Asked) -> float:
    if found.beyond > tolerance:
        raise UserError(
            f"{name} gives {in_words(f'{found.largest:.3g}', asked)} the network's; export.tolerance is {tolerance:g}: "
            "nothing was exported. If that is near enough for you, raise export.tolerance in params.yaml"
        )
    return found.largest
