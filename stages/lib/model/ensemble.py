"""Several deployed models side by side in one module: what they give is the mean of what each gives."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.lib.model.deployed import Deployed, outputs


class Ensemble(nn.Module):
    """Each member has a first layer of its own, as it was trained on other cases; all get the same samples."""

    def __init__(self, members: Sequence[Deployed]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:  # as of `Deployed`
        given = [outputs(member(x)) for member in self.members]
        means = [torch.stack(of).mean(0) for of in zip(*given, strict=True)]
        return means[0] if len(means) == 1 else tuple(means)
