"""Other runtimes of the deployed network on the CPU, for the group `export`: each answers the same batch.

Each `make` compiles outside the measured time, and returns what answers a batch of the given size.
"""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from stages.lib.export.formats import file_format
from stages.lib.export.formats.program import feeds
from stages.lib.model.deployed import outputs

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]


class Given(NamedTuple):
    """What a runtime is made from."""

    network: nn.Module  # Deployed
    onnx: Path  # the exported file
    x: np.ndarray  # a batch
    folder: Path  # for what is compiled


class Peer(NamedTuple):
    name: str
    needs: str  # a package, or a program
    make: Callable[[Given], Run]
    why: str


def made(peer: Peer, given: Given) -> Run | str:
    """The runtime; or why there is none."""
    if not (find_spec(peer.needs) or shutil.which(peer.needs)):
        return f"not installed: {peer.needs}"
    try:
        return peer.make(given)
    except Exception as error:  # one of many classes: an operator that it lacks, a compiler that fails
        return f"failed: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"[:200]


def _tensors(model: Callable[..., Any]) -> Run:
    @torch.inference_mode()
    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(output.numpy() for output in outputs(model(torch.from_numpy(x))))

    return run


def eager(given: Given) -> Run:
    return _tensors(given.network)


def compiled(given: Given) -> Run:
    run = _tensors(torch.compile(given.network, dynamic=False))
    run(given.x)  # it compiles at its first call
    return run


def aot_inductor(given: Given) -> Run:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    path = given.folder / f"{len(given.x)}.pt2"
    with torch.inference_mode():
        aoti_compile_and_package(_exported(given), package_path=str(path))
    model = aoti_load_package(str(path))
    return _tensors(lambda x: model(x))


def executorch(given: Given) -> Run:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(torch.get_num_threads())  # its only way to set their number, while nothing runs
    lowered = to_edge_transform_and_lower(_exported(given), partitioner=[XnnpackPartitioner()])
    content = lowered.to_executorch().buffer
    program = Runtime.get().load_program(content)
    method = program.load_method("forward")
    assert method is not None

    def run(x: np.ndarray, kept: object = (content, program)) -> tuple[np.ndarray, ...]:  # which the method points into
        return tuple(output.numpy() for output in method.execute([torch.from_numpy(x)]))

    return run


def _exported(given: Given) -> torch.export.ExportedProgram:
    return torch.export.export(given.network, (torch.from_numpy(given.x),))


def openvino(given: Given) -> Run:
    import openvino

    metadata = file_format(given.onnx.suffix).read_metadata(given.onnx)
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    described = openvino.Core().read_model(str(given.onnx))
    # OpenVINO 2026.4.1's first answer about a shape that it was not compiled for is another one than all later ones.
    described.reshape({described.inputs[0]: list(given.x.shape)})
    model = openvino.Core().compile_model(described, "CPU", options)

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        answers = model(feeds(metadata, x, None))
        return tuple(np.array(answers[i]) for i in range(len(model.outputs)))

    return run


ONE_SHAPE = "It is compiled for this shape alone."
OF_NETWORK = "It is compiled for this shape alone, without the geometry that the file has before the network."
PEERS = [
    Peer("OpenVINO, the same file", "openvino", openvino, ONE_SHAPE),
    Peer("ExecuTorch, XNNPACK", "executorch", executorch, OF_NETWORK),
    Peer("AOTInductor", "g++", aot_inductor, OF_NETWORK),
    Peer("torch.compile", "g++", compiled, OF_NETWORK),
]
