"""Smaller variants of an ONNX file: half precision, and 8-bit integers calibrated on training cases.

A variant is another model, near the original but not equal to it; so a score of it is reported beside the original's,
which stays. Scaling and what follows the network stay in float32: Hounsfield units need more than half precision's
eleven bits.
"""

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd

from stages.lib.core.errors import UserError
from stages.lib.export.formats.onnx import load, read_metadata
from stages.lib.export.formats.runner import INPUTS, feeds
from stages.lib.export.parity import CLASSES, off, rounded_up
from stages.lib.model.inference import batches
from stages.lib.tensors import Asked, Split

HEAVY = {"Conv", "Gemm", "MatMul"}  # the layers worth making smaller
CALIBRATION_CASES = 256  # of the training split
HALF = 0.5


def half(original: Path, target: Path, training: np.ndarray) -> None:
    """Weights and activations of the network in float16."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(original)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that float16 rounds to zero
        small = convert_float_to_float16(model, keep_io_types=True, node_block_list=_outside(model))
    target.write_bytes(small.SerializeToString(deterministic=True))


def int8(original: Path, target: Path, training: np.ndarray) -> None:
    """Static quantisation: the range of every activation is measured on training cases."""
    from onnxruntime import quantization

    reader = _Reader(training, read_metadata(original))
    types = quantization.QuantType
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # always recommends its own preprocessing
    try:
        with tempfile.TemporaryDirectory() as folder:  # it reads and writes files only
            written = Path(folder) / "int8.onnx"
            quantization.quantize_static(
                original,
                written,
                reader,
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=types.QUInt8,
                weight_type=types.QInt8,
                per_channel=True,
                op_types_to_quantize=sorted(HEAVY),
            )
            target.write_bytes(onnx.load(written).SerializeToString(deterministic=True))
    finally:
        root.setLevel(level)


VARIANTS: dict[str, Callable[[Path, Path, np.ndarray], None]] = {"half": half, "int8": int8}


class _Reader:
    """Training cases spread over the split, a batch at a time, by the interface of ONNX Runtime's calibration."""

    def __init__(self, training: np.ndarray, metadata: Mapping[str, Any]) -> None:
        chosen = np.unique(np.linspace(0, len(training) - 1, CALIBRATION_CASES).astype(int))
        self._batches: Iterator[np.ndarray] = batches(training[chosen], 32, "calibrate int8")
        self._metadata = metadata

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else dict(zip(INPUTS, feeds(self._metadata, batch), strict=False))


def _outside(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes before the first heavy layer and after the last."""
    nodes = model.graph.node
    heavy = [i for i, node in enumerate(nodes) if node.op_type in HEAVY]
    if not heavy:
        return [node.name for node in nodes]
    return [node.name for i, node in enumerate(nodes) if not heavy[0] <= i <= heavy[-1]]


def compare(
    original: Path,
    folder: Path,
    names: Sequence[str],
    training: np.ndarray,
    test: Split,
    batch_size: int,
    asked: Asked = CLASSES,
    thresholds: Sequence[float] = (),
) -> pd.DataFrame:
    """Writes variants into a folder, and measures the original and each of them on the test split.

    Args:
        asked: What the model is to answer.
        thresholds: As of `Settings`.

    Returns:
        file, bytes, what `measured` says, difference_below (from the original's answers, as of `parity.off`): the
        original first.

    Raises:
        UserError: A variant's answer is no finite number, as of one beyond what half precision holds.
    """
    files = {name: folder / f"model.{name}.onnx" for name in names}
    for name, file in files.items():
        VARIANTS[name](original, file, training)
    rows = []
    expected = _answers(original, test.x, batch_size)
    for name, file in {"model.onnx": original, **{file.name: file for file in files.values()}}.items():
        answers = expected if file == original else _answers(file, test.x, batch_size)
        if not np.isfinite(answers).all():
            raise UserError(
                f"{name} gives outputs that are no finite numbers on the test split: leave that one out of "
                "export.variants"
            )
        score, value = measured(answers, test, asked, thresholds)
        difference = off(answers, expected, asked).largest
        rows.append((name, file.stat().st_size, value, rounded_up(difference)))
    return pd.DataFrame(rows, columns=["file", "bytes", score, "difference_below"])


def measured(answers: np.ndarray, test: Split, asked: Asked, thresholds: Sequence[float] = ()) -> tuple[str, float]:
    """One score of a split's answers, and its name: enough to see whether a variant is as good as its original.

    - accuracy: the fraction of cases whose most probable class is theirs;
    - label_accuracy: the fraction of the known labels that are right, of all cases and labels together;
    - mae: the mean absolute error of a number, in its unit.

    A case counts as much as its weight. Nan where nothing is known.

    Args:
        answers: (N, K): the model's first output.
        asked, thresholds: As of `compare`; a label holds from one half on where it has no threshold.
    """
    if asked.target.of_one_class:
        name, values = "accuracy", (answers.argmax(1) == test.y).astype(np.float64)[:, None]
    elif asked.kind == "multilabel":
        holds = answers >= np.array(thresholds or [HALF] * len(asked.names), answers.dtype)
        known = np.isfinite(_target(test))
        name, values = "label_accuracy", np.where(known, holds == (_target(test) == 1), np.nan)
    else:
        name, values = "mae", np.abs(answers[:, :1] - _target(test))
    weights = np.ones(len(values)) if test.weight is None else np.asarray(test.weight, np.float64)
    weights = np.where(np.isfinite(values), weights[:, None], 0)
    total = float(weights.sum())
    return name, float((np.nan_to_num(values) * weights).sum() / total) if total else math.nan


def _target(test: Split) -> np.ndarray:
    assert test.target is not None
    return np.asarray(test.target, np.float64)


def _answers(model: Path, x: np.ndarray, batch_size: int) -> np.ndarray:
    """The first output, (N, K) float64."""
    run = load(model)
    outputs = [run(batch)[0] for batch in batches(x, batch_size, f"check {model.name}")]
    return np.concatenate(outputs).astype(np.float64) if outputs else np.empty((0, 1))
