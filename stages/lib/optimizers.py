"""Any optimizer of torch.optim by name."""

from collections.abc import Iterable

import torch
from torch import nn

from stages.lib import named
from stages.lib.params.train import TrainParams

NEEDS_SPARSE_GRADIENTS = ("SparseAdam",)  # no network here has any


def make(params: TrainParams, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
    """The optimizer of the params over groups of parameters.

    Raises:
        UserError: torch.optim has no such class, or it refuses an argument.
    """
    key = "train.optimizer"
    kind = named.find(f"{key}.name", params.optimizer.name, torch.optim, torch.optim.Optimizer, NEEDS_SPARSE_GRADIENTS)
    supplied = {"params": list(groups), "lr": params.lr}
    return named.make(f"{key}.arguments", kind, params.optimizer.arguments, supplied)


def groups(network: nn.Module, lr: float) -> list[dict[str, object]]:
    """The parameters that learn."""
    return [{"params": [p for p in network.parameters() if p.requires_grad], "lr": lr}]
