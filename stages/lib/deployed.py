"""The model as it leaves the pipeline: integers in, probabilities out. Validation measures it and export writes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib.classifier import Classifier


@dataclass(frozen=True)
class Settings:
    """What validation found out or was told, which export needs too; validate.json holds it as `deployed`."""

    temperature: float = 1.0
    """Divides the logits: changes no order, so no top class, only how sure the model says it is."""

    flips: str = ""
    """Axes of "DHW" along which a sample is also shown mirrored, one at a time; the probabilities are averaged."""

    unlike_threshold: float = 0.0
    """The energy beyond which a sample is unlike anything seen in training."""


class Deployed(nn.Module):
    """The classifier with what it was settled to, and softmax.

    With `unlike` there is a second output, (N,): the energy (Liu et al. 2020, arXiv:2010.03759) above its threshold.
    Where it is positive, the sample is unlike the training data and the probabilities mean nothing.
    """

    def __init__(self, classifier: Classifier, settings: Settings, unlike: bool = False) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = settings.temperature
        self.threshold = settings.unlike_threshold
        # From the end, so that it is the same axis of images and of volumes. No axes: as it is.
        self.views: list[list[int]] = [[], *([-("WHD".index(axis) + 1)] for axis in settings.flips)]
        self.unlike = unlike

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # (N, C, *size) -> (N, classes)[, (N,)]
        logits = [self.classifier(torch.flip(x, view) if view else x) for view in self.views]
        probabilities = torch.stack([torch.softmax(one / self.temperature, dim=1) for one in logits]).mean(0)
        if not self.unlike:
            return probabilities
        return probabilities, energy(logits[0]) - self.threshold


def energy(logits: Tensor) -> Tensor:  # (N, K) -> (N,)
    """High where no class claims the sample."""
    return -torch.logsumexp(logits, dim=1)


def outputs(result: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One output or several, always as several."""
    return (result,) if isinstance(result, Tensor) else tuple(result)
