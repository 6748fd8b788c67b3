"""TorchScript: one file that libtorch runs without Python, for C++ and phones."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from stages.lib.core.errors import UserError
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import Program, torch_model
from stages.lib.export.formats.runner import Model, target
from stages.lib.model import archive, script_check


def write(path: Path, program: Program) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated for torch.export; phones and C++ still take it
        frozen = torch.jit.freeze(_scripted(program))
        torch.jit.save(frozen, content, _extra_files=_extra_files(program))
    path.write_bytes(archive.normalised(content.getvalue()))


def _extra_files(program: Program) -> dict[str, str]:
    """The metadata, and what a C++ program without a JSON reader needs of it."""
    axes = "CDHW" if len(program.shape) == 4 else "CHW"
    asked = target(program.metadata)
    return {
        archive.METADATA: json.dumps(program.metadata),
        "classes.txt": "".join(f"{name}\n" for name in asked.outputs_with_unit),  # a line a column of the output
        "input.txt": " ".join([program.dtype, axes, *program.inputs[1:]]) + "\n",
        **({"target.txt": f"{asked.kind}\n"} if "target" in program.metadata else {}),
    }


def _scripted(program: Program) -> torch.jit.ScriptModule:
    """The module traced, or scripted where tracing would fix a branch that depends on the input, as geometry's."""
    module = program.module
    if isinstance(module, Native):
        module = program.with_first(torch.jit.script(module.first))
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        try:
            with torch.no_grad():
                return torch.jit.trace(module, program.example)
        except (torch.jit.TracerWarning, SystemError):  # SystemError: the warning was raised inside torch
            return torch.jit.script(module)


def load(path: Path, content: bytes | None = None, any_operator: bool = False) -> Model:
    members = script_check.read(path, archive.read_file(path) if content is None else content, any_operator)
    metadata = archive.metadata_of(members)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            module = torch.jit.load(io.BytesIO(archive.packed(members)), map_location="cpu").eval()
        except Exception as error:  # RuntimeError, but of what is not UTF-8
            reason = str(error).strip()[:500]
            raise UserError(f"{path} is no TorchScript file that this torch reads: {reason}") from None
    return torch_model(module, metadata)


def read_metadata(path: Path) -> dict[str, Any]:
    return archive.metadata_of(script_check.read(path, archive.read_file(path), any_operator=True))
