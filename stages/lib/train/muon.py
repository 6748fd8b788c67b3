"""Muon (Jordan 2024) for whole networks: torch's Muon moves matrices and kernels, another optimizer the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

Groups = Sequence[dict[str, Any]]  # of parameters, each with its learning rate
Make = Callable[[Groups], Optimizer]


class MuonAndOther(Optimizer):
    """Two optimizers as one.

    torch's Muon takes matrices only, so it moves copies of the weights that are reshaped to one row per output.
    Schedules change `param_groups`; at each step both optimizers take their rates (and momenta, where there are any)
    from it. So one schedule is enough, and the other optimizer's rate stays in proportion.
    """

    def __init__(self, weights: Groups, others: Groups, make_muon: Make, make_other: Make, proportion: float) -> None:
        """
        Args:
            weights: Groups that Muon moves, of two axes or more, outputs first.
            others: Groups that the other optimizer moves.
            make_muon, make_other: Make the two optimizers from groups of parameters.
            proportion: The other optimizer's rates over those of `param_groups`.
        """
        moved = [weight for group in weights for weight in group["params"]]
        # Cloned, since flattening a channels-last kernel may give a view of its memory in another order.
        self._copies = {weight: nn.Parameter(weight.detach().flatten(1).clone()) for weight in moved}
        matrices = [group | {"params": [self._copies[weight] for weight in group["params"]]} for group in weights]
        self._two = [make_muon(matrices), make_other(others)]
        self._proportions = [1.0] * len(weights) + [proportion] * len(others)
        groups = [inner | given for inner, given in zip(self._inner_groups(), [*weights, *others], strict=True)]
        super().__init__(groups, {"momentum": groups[0]["momentum"]})  # where cyclic schedules look for it

    def _inner_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._two for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for inner, group, proportion in zip(self._inner_groups(), self.param_groups, self._proportions, strict=True):
            inner.update({name: group[name] for name in inner if name != "params"})
            inner["lr"] *= proportion
        for weight, matrix in self._copies.items():
            matrix.copy_(weight.flatten(1))
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        for optimizer in self._two:
            optimizer.step()
        for weight, matrix in self._copies.items():
            weight.copy_(matrix.view_as(weight))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"two": [optimizer.state_dict() for optimizer in self._two]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for optimizer, state in zip(self._two, state_dict["two"], strict=True):
            optimizer.load_state_dict(state)
