"""What all formats are written from: the deployed module, traced once by torch.export for any batch size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.lib.errors import UserError

EXAMPLES = 2  # torch.export takes a batch of one for a constant
Runner = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""Maps (N, C, *size) of the dataset's own integers to probabilities (N, classes) and further outputs, if it has any."""


@dataclass(frozen=True)
class Program:
    """A module to export and what its files say of it."""

    module: nn.Module  # in eval mode
    shape: tuple[int, ...]  # of one sample, (C, H, W) or (C, D, H, W)
    dtype: str  # the dataset's own integers
    metadata: dict[str, Any]  # plain values; every file carries them as JSON
    opset: int = 20  # ONNX alone
    outputs: int = 1  # probabilities, and where they mean nothing

    @property
    def example(self) -> Tensor:
        return torch.zeros(EXAMPLES, *self.shape, dtype=getattr(torch, self.dtype))

    @cached_property
    def exported(self) -> torch.export.ExportedProgram:
        batch = torch.export.Dim("N", min=1)
        with torch.inference_mode(False), torch.no_grad():
            try:
                program = torch.export.export(self.module, (self.example,), dynamic_shapes=({0: batch},))
            except Exception as error:  # torch has many, each of pages
                reason = str(error).strip().partition("\n")[0]
                raise UserError(f"torch.export can't export this network for any batch size: {reason}") from error
        for graph in program.graph_module.modules():
            for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else []:
                node.meta.pop("stack_trace", None)  # absolute paths of the sources
        return program
