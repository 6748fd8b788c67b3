"""TorchScript: one file that libtorch runs without Python, for C++ and phones."""

import copy
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from stages.lib.core.errors import UserError
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats.program import Program, torch_model
from stages.lib.export.formats.runner import Model, Unsupported, reason, target
from stages.lib.model import archive, script_check
from stages.lib.model.classifier import Classifier
from stages.lib.model.deployed import outputs

BATCHES = (1, 2, 3, 5)  # a trace whose branches were fixed is compared on; torch.export takes 0 and 1 for special
RELATIVE, ABSOLUTE = 1e-4, 1e-5
READING = {torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default}  # numbers from tensors


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
    """The module traced behind its geometry, which is scripted, as tracing would fix branches that depend on the input.

    A network that has branches of its own is traced, too, where they are known to depend on the shape of its samples
    alone, as a transformer's do, and is scripted otherwise.

    Raises:
        Unsupported: It can be neither.
    """
    module = program.module
    if isinstance(module, Native):
        module = program.with_first(torch.jit.script(module.first))
    with torch.no_grad():
        try:
            return _traced(module, program, "error")
        except (torch.jit.TracerWarning, SystemError):  # SystemError: the warning was raised inside torch
            pass
        why = _why_not_traced(program)
        if not why:
            try:
                traced = _traced(module, program, "ignore")
                _compare(traced, module, program)
                return traced
            except Unsupported as error:
                why = str(error)
            except Exception as error:  # of any layer
                why = reason(error)
        try:
            scripted = _with_scripted_networks(module)
            return scripted if isinstance(scripted, torch.jit.ScriptModule) else _traced(scripted, program, "error")
        except Exception as error:
            raise Unsupported(f"it can't be traced ({why}), nor scripted ({reason(error)})") from error


def _traced(module: nn.Module, program: Program, about_branches: Literal["error", "ignore"]) -> torch.jit.ScriptModule:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator trusts the sizes that it is given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(about_branches, torch.jit.TracerWarning)
            return torch.jit.trace(module, program.example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _why_not_traced(program: Program) -> str:
    """Why branches that tracing would fix may go another way for another input; empty where they can't.

    torch.export follows what Python decides upon, and refuses what depends on numbers or on the size of a batch.
    """
    if not program.one_size:
        return "it has branches that may depend on the size of the input"
    try:
        graphs = program.exported.graph_module.modules()
    except Unsupported as error:
        return str(error)
    targets = {node.target for graph in graphs if isinstance(graph, torch.fx.GraphModule) for node in graph.graph.nodes}
    return "it computes with numbers that it reads from its samples" if targets & READING else ""


def _compare(traced: Callable[..., Any], module: nn.Module, program: Program) -> None:
    """Raises Unsupported where a trace says something else than the module, in batches of any size."""
    generator = torch.Generator().manual_seed(0)
    example, *others = program.example
    for batch in BATCHES:
        for high in (2, 256):  # nearly blank, and full of noise
            x = torch.randint(0, high, (batch, *example.shape[1:]), generator=generator).to(example.dtype)
            try:
                found, wanted = outputs(traced(x, *others)), outputs(module(x, *others))
            except Exception as error:
                raise Unsupported(f"a trace of it fails on a batch of {batch}: {reason(error)}") from error
            for one, other in zip(found, wanted, strict=True):
                if one.shape != other.shape or not torch.allclose(one, other, RELATIVE, ABSOLUTE, equal_nan=True):
                    raise Unsupported(f"a trace of it gives other answers for a batch of {batch}")


def _with_scripted_networks(module: nn.Module) -> nn.Module:
    """A copy of the module whose networks are scripted, or the whole module where it has none."""
    copied = copy.deepcopy(module)
    classifiers = [part for part in copied.modules() if isinstance(part, Classifier)]
    for classifier in classifiers:
        classifier.network = torch.jit.script(classifier.network)
    return copied if classifiers else torch.jit.script(module)


def load(path: Path, content: bytes | None = None, any_operator: bool = False) -> Model:
    members = script_check.read(path, archive.read_file(path) if content is None else content, any_operator)
    metadata = archive.metadata_of(members)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            module = torch.jit.load(io.BytesIO(archive.packed(members)), map_location="cpu").eval()
        except Exception as error:  # RuntimeError, but of what is not UTF-8
            raise UserError(
                f"{path} is no TorchScript file that this torch reads: {str(error).strip()[:500]}"
            ) from None
    return torch_model(module, metadata)


def read_metadata(path: Path) -> dict[str, Any]:
    return archive.metadata_of(script_check.read(path, archive.read_file(path), any_operator=True))
