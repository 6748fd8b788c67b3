"""Any optimizer of torch.optim by name."""

from typing import Any

import torch
from torch import nn

from stages.lib.core.errors import UserError
from stages.lib.model.networks.adapting import WEIGHTED, head_parameters
from stages.lib.params.train import OptimizerParams, OthersParams, TrainParams
from stages.lib.train import torch_classes
from stages.lib.train.muon import Groups, MuonAndOther

KEY = "train.optimizer"


def make(params: TrainParams, network: nn.Module, classes: int) -> torch.optim.Optimizer:
    """The optimizer that `train.optimizer` names, over the parameters that learn.

    Raises:
        UserError: The class refuses an argument, or does not go together with another param or with the network.
    """
    chosen = params.optimizer
    if chosen.name == "LBFGS" and (params.clip_norm is not None or params.precision == "float16"):
        raise UserError(f"{KEY}.name LBFGS looks several times a step, so it goes with neither clip_norm nor float16")
    of_all = groups(network, classes, params.lr, params.body_lr)
    if chosen.name != "Muon":
        return _of_torch(KEY, "train", chosen, params.lr, of_all)
    hidden = hidden_weights(network, classes)
    weights, rest = (_only(of_all, hidden, inside) for inside in (True, False))
    if not weights:
        raise UserError(f"{KEY}.name Muon moves weights of hidden layers, and none learns here: take another optimizer")
    other = chosen.others or OthersParams()
    return MuonAndOther(
        weights,
        rest,
        lambda groups: _of_torch(KEY, "train", chosen, params.lr, groups),
        lambda groups: _of_torch(f"{KEY}.others", f"{KEY}.others", other, other.lr, groups),
        other.lr / params.lr,
    )


def _of_torch(
    key: str, owner: str, chosen: OptimizerParams | OthersParams, lr: float, groups: Groups
) -> torch.optim.Optimizer:
    """An optimizer of torch.optim, tried out on a small parameter first.

    Args:
        key: Of its section in params.yaml.
        owner: The section that holds its lr.
    """
    key, cls = f"{key}.arguments", getattr(torch.optim, chosen.name)
    supplied = {"params": list(groups), "lr": lr}
    optimizer: torch.optim.Optimizer = torch_classes.make(key, cls, chosen.arguments, supplied, owner)
    if chosen.name != "LBFGS":
        small = nn.Parameter(torch.zeros(2, 2, device=optimizer.param_groups[0]["params"][0].device))
        small.grad = torch.zeros_like(small)
        trial = torch_classes.make(key, cls, chosen.arguments, supplied | {"params": [small]}, owner)
        with torch_classes.refusals(key, cls):  # some arguments are refused only once it steps
            trial.step()
            trial.step()
    return optimizer


def groups(network: nn.Module, classes: int, lr: float, body_lr: float) -> list[dict[str, Any]]:
    """Two groups, the body's parameters and the last layer's, where their rates differ; one where they don't.

    A body whose rate is 0 is frozen and left out.
    """
    head = head_parameters(network, classes)
    in_head = {id(parameter) for parameter in head}
    body = [parameter for parameter in network.parameters() if id(parameter) not in in_head]
    if body_lr == 0:
        for parameter in body:
            parameter.requires_grad_(False)
    parts = [(body, lr * body_lr), (head, lr)] if body_lr != 1 else [(list(network.parameters()), lr)]
    learning = [([p for p in part if p.requires_grad], rate) for part, rate in parts]
    return [{"params": part, "lr": rate} for part, rate in learning if part]


def hidden_weights(network: nn.Module, classes: int) -> set[torch.Tensor]:
    """The weights of all linear and convolutional layers but the last."""
    layers = [layer for layer in network.modules() if isinstance(layer, WEIGHTED)]
    return {layer.weight for layer in layers} - set(head_parameters(network, classes))


def _only(groups: Groups, some: set[torch.Tensor], inside: bool) -> list[dict[str, Any]]:
    """The groups with only those of their parameters that are among `some` (or, not `inside`, that are not)."""
    kept = [group | {"params": [p for p in group["params"] if (p in some) == inside]} for group in groups]
    return [group for group in kept if group["params"]]
