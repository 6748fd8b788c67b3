"""ONNX: for ONNX Runtime on servers and in browsers, and for whatever else reads the open format."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from stages.lib.core.errors import UserError
from stages.lib.export.formats.archive import METADATA
from stages.lib.export.formats.program import INPUTS, Program, Runner, feeds

OUTPUTS = ("probabilities", "unlike")


def write(path: Path, program: Program) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))  # onnxscript's own
        made = torch.onnx.export(
            program.exported,
            input_names=program.inputs,
            output_names=list(OUTPUTS[: program.outputs]),
            opset_version=program.opset,
            external_data=False,
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    _clear_sources(model)
    model.metadata_props.add(key=METADATA, value=json.dumps(program.metadata))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _clear_sources(message: Any) -> None:
    """Clears what names source files by absolute paths, in a protobuf message and in all that it contains."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type:
            for part in value if field.is_repeated else [value]:
                _clear_sources(part)


def load(path: Path) -> Runner:
    import onnxruntime  # takes half a second, and writing does not need it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # one of many classes
        raise UserError(f"{path} is no ONNX file that ONNX Runtime reads: {error}") from None

    metadata = read_metadata(path)

    def run(x: np.ndarray, spacing_mm: Any = None) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(INPUTS, feeds(metadata, x, spacing_mm), strict=False))))

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `write` wrote; {} of another file."""
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return json.loads(entries.get(METADATA, "{}"))
