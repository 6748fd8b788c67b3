"""Muon (Jordan 2024) for networks as they are: matrices and kernels by torch's Muon, everything else by another."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

Groups = Sequence[dict[str, Any]]  # of parameters, as torch.optim takes them
Make = Callable[[Groups], Optimizer]


class Muon(Optimizer):
    """Two optimizers as one; torch's Muon takes matrices alone, so it moves copies of the weights with a row an output.

    Schedules move `param_groups`, whose rates and momenta the two optimizers take over at each step.
    """

    def __init__(self, weights: Groups, others: Groups, make_muon: Make, make_other: Make) -> None:
        """Args: weights: Of two axes or more, the outputs first, that Muon moves; others: What the other one moves;
        make_muon, make_other: The two optimizers, from groups of parameters."""
        self._copies = {
            weight: nn.Parameter(weight.detach().flatten(1)) for group in weights for weight in group["params"]
        }
        matrices = [group | {"params": [self._copies[weight] for weight in group["params"]]} for group in weights]
        self._two = [make_other(others), make_muon(matrices)]
        real = [group["params"] for group in (*others, *weights)]
        groups = [group | {"params": params} for group, params in zip(self._inner_groups(), real, strict=True)]
        super().__init__(groups, {"momentum": groups[-1]["momentum"]})  # which says that there is one to cycle

    def _inner_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._two for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for inner, group in zip(self._inner_groups(), self.param_groups, strict=True):
            inner.update((name, value) for name, value in group.items() if name != "params")
        for weight, matrix in self._copies.items():
            matrix.copy_(weight.flatten(1))
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in self._two:
            optimizer.step()
        for weight, matrix in self._copies.items():
            weight.copy_(matrix.view_as(weight))
        return loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"two": [optimizer.state_dict() for optimizer in self._two]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for optimizer, state in zip(self._two, state_dict["two"], strict=True):
            optimizer.load_state_dict(state)
