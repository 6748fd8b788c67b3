"""What stays the same while a model is trained; what changes is in `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.params.train import TrainParams
from stages.lib.tensors import Split
from stages.lib.train import devices, random_by_case
from stages.lib.train.losses import Objective
from stages.lib.train.parallel.distributed import World
from stages.lib.train.parallel.synchronised_layers import Place


@dataclass(frozen=True)
class Task:
    """Data, params and device of one training."""

    name: str  # of the dataset, for messages
    params: TrainParams  # settled: see `setup`
    objective: Objective
    train: Split
    validation: Split
    device: torch.device
    world: World
    place: Place  # of this process's samples in the batch; the step sets it

    @property
    def epochs(self) -> int:
        assert self.params.epochs is not None
        return self.params.epochs

    @property
    def batch_size(self) -> int:
        assert self.params.batch_size is not None
        return self.params.batch_size

    @property
    def keep(self) -> str:
        assert self.params.keep is not None
        return self.params.keep

    @cached_property
    def case_keys(self) -> Tensor:
        """One number per training sample (N,), to draw its random numbers from: hashed once, not in every epoch."""
        return random_by_case.case_keys(self.train.case)

    def network_input(self, x: Tensor, epoch: int) -> Tensor:
        """Normalised samples (n, C, ...) as the network takes them in an epoch.

        In the first epochs of `train.progressive` they are shrunk. Their memory layout is that of the weights, since
        each convolution would convert another one again.
        """
        if epoch <= self.params.progressive.epochs:
            size = shrunk_size(x.shape[2:], self.params.progressive.scale)
            x = functional.interpolate(x, size, mode="area")
        return x.contiguous(memory_format=devices.layout(self.params.channels_last, x.ndim))


def shrunk_size(size: Sequence[int], scale: float) -> list[int]:
    """The spatial shape of a sample in the epochs of `train.progressive`."""
    return [max(1, round(length * scale)) for length in size]
