"""Any optimizer of torch.optim by name."""

from collections.abc import Iterable

import torch
from torch import nn

from stages.lib import named
from stages.lib.errors import UserError
from stages.lib.networks.adapting import head_parameters
from stages.lib.params.train import TrainParams


def make(params: TrainParams, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
    """The optimizer of the params over groups of parameters.

    Raises:
        UserError: The class refuses an argument, or goes not with another param.
    """
    key = "train.optimizer"
    if params.optimizer.name == "LBFGS" and (params.clip_norm is not None or params.precision == "float16"):
        raise UserError(f"{key}.name LBFGS looks several times a step, so it goes with neither clip_norm nor float16")
    kind, arguments = getattr(torch.optim, params.optimizer.name), params.optimizer.arguments
    optimizer = named.make(f"{key}.arguments", kind, arguments, {"params": list(groups), "lr": params.lr})
    if params.optimizer.name != "LBFGS":
        tried = nn.Parameter(torch.zeros(2, 2, device=optimizer.param_groups[0]["params"][0].device))
        tried.grad = torch.zeros_like(tried)
        trial = named.make(f"{key}.arguments", kind, arguments, {"params": [tried], "lr": params.lr})
        try:  # some arguments are refused by the first steps alone
            trial.step()
            trial.step()
        except named.REFUSALS as error:
            raise UserError(f"{key}.arguments: {params.optimizer.name} refused it: {error}") from None
    return optimizer


def groups(network: nn.Module, classes: int, lr: float, body_lr: float) -> list[dict[str, object]]:
    """The body's parameters, unless they are frozen, and the last layer's."""
    head = head_parameters(network, classes)
    in_head = {id(parameter) for parameter in head}
    body = [parameter for parameter in network.parameters() if id(parameter) not in in_head]
    if body_lr == 0:
        for parameter in body:
            parameter.requires_grad_(False)
    sections = [(body, lr * body_lr), (head, lr)] if body_lr != 1 else [(list(network.parameters()), lr)]
    learning = [([p for p in section if p.requires_grad], rate) for section, rate in sections]
    return [{"params": section, "lr": rate} for section, rate in learning if section]
