"""ONNX: for ONNX Runtime on servers and in browsers, and for whatever else reads the open format."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from stages.lib.core.errors import UserError
from stages.lib.export.formats.runner import INPUTS, Model, Unsupported, feeds, output_names, reason
from stages.lib.model import archive
from stages.lib.model.archive import METADATA

if TYPE_CHECKING:
    from stages.lib.export.formats.program import Program

LARGEST = 2**31 - 2**24  # bytes of weights: protobuf ends at 2 GiB, and the program is in there, too
STANDARD = ("", "ai.onnx")  # the two names of ONNX's own operators


def write(path: Path, program: "Program") -> None:
    import torch  # takes seconds, and loading does not need it

    exported = program.exported
    size = sum(tensor.numel() * tensor.element_size() for tensor in exported.state_dict.values())
    if size > LARGEST:
        raise Unsupported(f"its weights are {size / 2**30:.1f} GiB, and ONNX holds 2 GiB in one file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (FutureWarning, DeprecationWarning))  # onnxscript's own
        try:
            made = torch.onnx.export(
                exported,
                input_names=program.inputs,
                output_names=list(output_names(program.metadata)[: program.outputs]),
                opset_version=program.opset,
                external_data=False,
                verbose=False,
            )
            assert made is not None
            model = made.model_proto
        except Exception as error:  # one of many classes, with pages of text
            raise Unsupported(
                f"torch.onnx can't write this network in opset {program.opset}: {reason(error)}"
            ) from error
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


def load(path: Path, content: bytes | None = None, any_operator: bool = False) -> Model:
    import onnxruntime  # takes half a second, and writing does not need it

    model = _checked(path, archive.read_file(path) if content is None else content)
    metadata = _metadata(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    # Never its own format, which it would tell by some of the bytes: what was checked is ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4  # fatal errors: others are raised, too
    cpu = {"providers": ["CPUExecutionProvider"], "enable_fallback": False}  # which prints, and tries the same again
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, **cpu)
    except Exception as error:  # one of many classes
        raise UserError(f"{path} is no ONNX file that ONNX Runtime reads: {str(error)[:500]}") from None

    def run(x: np.ndarray, spacing_mm: Any = None) -> tuple[np.ndarray, ...]:
        return tuple(session.run(None, dict(zip(INPUTS, feeds(metadata, x, spacing_mm), strict=False))))

    return Model(run, metadata)


def _threads() -> int:
    """As many as torch was told to take; where it is not imported, one for each core that this process may use."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `write` wrote; {} of another file."""
    return _metadata(_checked(path, archive.read_file(path)))


def _metadata(model: onnx.ModelProto) -> dict[str, Any]:
    entries = {entry.key: entry.value for entry in model.metadata_props}
    return archive.parse_json(entries.get(METADATA, "{}"), METADATA)


def _checked(path: Path, content: bytes) -> onnx.ModelProto:
    """The model, which is complete in itself and calls the standard's operators alone.

    Raises:
        UserError: It is no ONNX, names another file (whose bytes would become weights), or operators of others, some
            of which load libraries or files.
    """
    try:
        model = onnx.ModelProto.FromString(content)
        model.DiscardUnknownFields()  # the runtime may know fields that are not checked here
    except Exception as error:  # protobuf's own
        raise UserError(f"{path} is no ONNX file: {error}") from None
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
            raise UserError(f"{path} keeps the tensor {message.name[:80]!r} in another file: refused")
        domain = message.domain if isinstance(message, (onnx.NodeProto, onnx.OperatorSetIdProto)) else ""
        if domain not in STANDARD or isinstance(message, onnx.FunctionProto):
            raise UserError(f"{path} has operators beside ONNX's own ({domain[:80] or message.name[:80]!r}): refused")
        for field, value in message.ListFields():
            if field.message_type:
                waiting += value if field.is_repeated else [value]
    return model
