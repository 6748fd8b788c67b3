"""TorchScript: one file that libtorch runs without Python, for C++ and phones."""

import io
import json
import warnings
from pathlib import Path

import torch

from stages.lib.core.errors import UserError
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats import archive
from stages.lib.export.formats.program import Program, Runner, torch_runner


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
    return {
        archive.METADATA: json.dumps(program.metadata),
        "classes.txt": "".join(f"{name}\n" for name in program.metadata["classes"]),
        "input.txt": " ".join([program.dtype, axes, *program.inputs[1:]]) + "\n",
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


read_metadata = archive.read_metadata


def load(path: Path) -> Runner:
    """Loads by libtorch's own reader, which makes tensors and numbers, never Python objects: it runs no code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            module = torch.jit.load(path, map_location="cpu").eval()
        except RuntimeError as error:
            raise UserError(f"{path} is no TorchScript file that this torch reads: {error}") from None

    return torch_runner(module, read_metadata(path))
