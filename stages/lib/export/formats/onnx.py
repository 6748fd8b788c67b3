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
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))  # of onnxscript, about itself
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
    _forget_sources(model)
    model.metadata_props.add(key=METADATA, value=json.dumps(program.metadata))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _forget_sources(message: Any) -> None:
    """Clears the notes about source files, which hold absolute paths, wherever they are in a message."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type:
            for part in value if field.is_repeated else [value]:
                _forget_sources(part)


def load(path: Path) -> Runner:
    import onnxruntime  # half a second that writing does not need

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class of its own for every kind of bad file
        raise UserError(f"{path} is no ONNX file that ONNX Runtime reads: {error}") from None

    about = read_metadata(path)

    def run(x: np.ndarray, spacing_mm: Any = None) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(INPUTS, feeds(about, x, spacing_mm), strict=False))))

    return run


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write` was given; {} in another's file."""
    notes = {note.key: note.value for note in onnx.load(path).metadata_props}
    return json.loads(notes.get(METADATA, "{}"))
