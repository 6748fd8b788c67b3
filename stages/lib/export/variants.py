"""Smaller variants of an ONNX file: half precision, and 8-bit integers calibrated on training cases.

A variant is another model, near the original but not equal to it; so its accuracy is reported beside the original's,
which stays. Scaling and softmax stay in float32: Hounsfield units need more than half precision's eleven bits.
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

from stages.lib.export.formats.onnx import load, read_metadata
from stages.lib.export.formats.runner import INPUTS, feeds
from stages.lib.export.parity import rounded_up
from stages.lib.model.inference import batches
from stages.lib.tensors import Split

HEAVY = {"Conv", "Gemm", "MatMul"}  # the layers worth making smaller
CALIBRATION_CASES = 256  # of the training split


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
    original: Path, folder: Path, names: Sequence[str], training: np.ndarray, test: Split, batch_size: int
) -> pd.DataFrame:
    """Writes variants into a folder, and measures the original and each of them on the test split.

    Returns:
        file, bytes, accuracy, difference_below (of a probability from the original's): the original first.
    """
    files = {name: folder / f"model.{name}.onnx" for name in names}
    for name, file in files.items():
        VARIANTS[name](original, file, training)
    rows = []
    expected = _probabilities(original, test.x, batch_size)
    for name, file in {"model.onnx": original, **{file.name: file for file in files.values()}}.items():
        probabilities = expected if file == original else _probabilities(file, test.x, batch_size)
        accuracy = float((probabilities.argmax(1) == test.y).mean()) if len(test.y) else math.nan
        difference = float(np.abs(probabilities - expected).max(initial=0))
        rows.append((name, file.stat().st_size, accuracy, rounded_up(difference)))
    return pd.DataFrame(rows, columns=["file", "bytes", "accuracy", "difference_below"])


def _probabilities(model: Path, x: np.ndarray, batch_size: int) -> np.ndarray:
    run = load(model)
    outputs = [run(batch)[0] for batch in batches(x, batch_size, f"check {model.name}")]
    return np.concatenate(outputs) if outputs else np.empty((0, 1))
