"""What every format is written from: the module behind its geometry, for any number of samples of any size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.export.end_to_end import Branching, Native
from stages.lib.export.formats.runner import INPUTS, Model, Unsupported, feeds, reason, takes_any_colour
from stages.lib.geometry import Geometry
from stages.lib.model.deployed import outputs

EXAMPLE_BATCH = 2  # torch.export would make a batch of one a constant


@dataclass(frozen=True)
class Program:
    """A module to export, and its metadata."""

    module: nn.Module  # in eval mode; a `Native` takes any size
    shape: tuple[int, ...]  # of one of the dataset's samples, (C, H, W) or (C, D, H, W)
    dtype: str  # of the input
    metadata: dict[str, Any]  # written into every file as JSON
    opset: int = 20  # ONNX alone
    outputs: int = 1  # what is asked; with 2, also the score of unlike samples

    @property
    def geometry(self) -> Geometry | None:
        """The geometry that fits samples of any size; None if samples must have the shape, or the network takes any."""
        first = self.module.first if isinstance(self.module, Native) else None
        return first if isinstance(first, Geometry) else None

    @property
    def example(self) -> tuple[Tensor, ...]:
        """An input of the module, of another shape than the dataset's: tracing must not make that one a constant."""
        channels, *size = self.shape
        if self.colours:
            channels = 3
        if isinstance(self.module, Native):
            size = [n + 1 for n in size]
        x = torch.zeros(EXAMPLE_BATCH, channels, *size, dtype=getattr(torch, self.dtype))
        spaced = self.geometry is not None and self.geometry.spaced
        return (x, torch.ones(len(size), dtype=torch.float64)) if spaced else (x,)

    @property
    def inputs(self) -> list[str]:
        return list(INPUTS[: len(self.example)])

    @property
    def colours(self) -> bool:
        """Whether inputs may have one or three channels, not the dataset's number alone."""
        return isinstance(self.module, Native) and takes_any_colour(self.metadata)

    def with_first(self, first: nn.Module) -> Native:
        """The module with something else in its geometry's place."""
        assert isinstance(self.module, Native)
        return Native(first, self.module.deployed).eval()

    @property
    def one_size(self) -> bool:
        """Whether the network sees samples of one size alone, whatever the input's."""
        return self.geometry is not None or not isinstance(self.module, Native)

    @cached_property
    def exported(self) -> torch.export.ExportedProgram:
        module = self.with_first(Branching(self.geometry)) if self.geometry else self.module
        with torch.inference_mode(False), torch.no_grad():
            try:
                sizes = (self._dynamic(), *[None] * (len(self.example) - 1))
                program = torch.export.export(module, self.example, dynamic_shapes=sizes)
            except Exception as error:  # one of many classes, with pages of text
                raise Unsupported(
                    f"torch.export can't export this network for any batch size: {reason(error)}"
                ) from error
        self._refuse_fixed(program)
        for graph in program.graph_module.modules():
            for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else []:
                node.meta.pop("stack_trace", None)  # absolute paths of the sources
        return program

    def _dynamic(self) -> dict[int, Any]:
        """The axes of the input that may have any size."""
        axes: dict[int, Any] = {0: torch.export.Dim("N", min=1)}
        if self.colours:
            axes[1] = torch.export.Dim("C", min=1, max=3)
        if isinstance(self.module, Native):
            for axis, name in enumerate("DHW"[-len(self.shape) + 1 :], start=2):
                # Without a geometry the network's poolings decide how small a sample may be.
                axes[axis] = torch.export.Dim(name, min=1) if self.geometry else torch.export.Dim.AUTO
        return axes

    def _refuse_fixed(self, program: torch.export.ExportedProgram) -> None:
        x = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
        fixed = [axis for axis in self._dynamic() if isinstance(x.meta["val"].shape[axis], int)]
        if fixed:
            raise UserError(f"torch.export fixed axes {fixed} for this network: take export.size: fitted")


def torch_model(module: Callable[..., Any], metadata: dict[str, Any]) -> Model:
    """A module that torch has loaded.

    Args:
        metadata: The file's.
    """

    @torch.inference_mode()
    def run(x: np.ndarray, spacing_mm: Any = None) -> tuple[np.ndarray, ...]:
        inputs = [torch.from_numpy(np.require(array, requirements="W")) for array in feeds(metadata, x, spacing_mm)]
        return tuple(output.numpy() for output in outputs(module(*inputs)))

    return Model(run, metadata)
