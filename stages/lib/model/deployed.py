"""The model as it leaves the pipeline: integers in, probabilities out. Validation measures it and export writes it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.model.classifier import Classifier


@dataclass(frozen=True)
class Settings:
    """What validation found out or was told, which export needs too; validate.json holds it as `deployed`."""

    temperature: float = 1.0
    """Divides the logits: changes no order, so no top class, only how sure the model says it is."""

    flips: str = ""
    """Axes of "DHW" along which a sample is also shown mirrored, one at a time; the probabilities are averaged."""

    unlike_means: Sequence[float] = ()
    """Of the validation split, a number a measure, see `measures`."""

    unlike_deviations: Sequence[float] = ()
    """As `unlike_means`."""

    unlike_threshold: float | None = None
    """How many deviations a sample may be away before it is unlike anything seen in training; None without a
    validation case to tell it from."""


class Deployed(nn.Module):
    """The classifier with what it was settled to, and softmax.

    With `unlike` there is a second output, (N,): how far beyond its threshold `strangeness` is. Where it is positive,
    the sample is unlike the training data and the probabilities mean nothing.
    """

    def __init__(self, classifier: Classifier, settings: Settings, unlike: bool = False) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = settings.temperature
        self.settings = settings
        # From the end, so that it is the same axis of images and of volumes. No axes: as it is.
        self.views: list[list[int]] = [[], *([-("WHD".index(axis) + 1)] for axis in settings.flips)]
        self.unlike = unlike
        if unlike and settings.unlike_threshold is None:
            raise UserError(
                "export.unlike needs what validate measures on the validation split, and that has no case: take false, "
                "or a larger split.validation"
            )
        self.threshold = settings.unlike_threshold or 0.0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # (N, C, *size) -> (N, classes)[, (N,)]
        x = self.classifier.normalise(x)
        logits = [self.classifier.network(torch.flip(x, view) if view else x) for view in self.views]
        probabilities = torch.stack([torch.softmax(one / self.temperature, dim=1) for one in logits]).mean(0)
        if not self.unlike:
            return probabilities
        away = strangeness(measures(logits[0], x), self.settings)
        return probabilities, away - self.threshold


def measures(logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
    """What tells that a sample is unlike others: energy; then the roughness, mean and deviation of its pixels.

    What no class claims has a high energy. But a network may be sure of pure noise or of a negative, which energy then
    takes for known; what is no picture of the kind at all is too rough or too smooth, too bright, dark or flat.

    Args:
        x: Normalised.
    """
    pixels = x.flatten(1)
    return torch.stack([energy(logits), roughness(x), pixels.mean(1), pixels.std(1, correction=0)], dim=1)


def strangeness(measured: Tensor, settings: Settings) -> Tensor:  # (N, 4) -> (N,)
    """How many deviations a sample is from those of the validation split, in the measure where it is farthest."""
    columns = zip(measured.unbind(1), settings.unlike_means, settings.unlike_deviations, strict=True)
    high, *others = [(column - mean) / deviation for column, mean, deviation in columns]
    return torch.stack([high, *(other.abs() for other in others)]).amax(0)  # a low energy is nothing odd


def energy(logits: Tensor) -> Tensor:  # (N, K) -> (N,)
    """High where no class claims the sample (Liu et al. 2020, arXiv:2010.03759)."""
    return -torch.logsumexp(logits, dim=1)


def roughness(x: Tensor) -> Tensor:  # (N, C, *size) -> (N,)
    """How much neighbours differ, over how much a pixel differs from the mean: 0 in a blank, beyond 1 in noise."""
    # Summed as it is: ONNX can't flatten what a single slice has of neighbours, which is nothing.
    steps = torch.stack([x.diff(dim=axis).abs().sum(list(range(1, x.ndim))) for axis in range(2, x.ndim)]).mean(0)
    flat = x.flatten(1)
    spread = (flat - flat.mean(1, keepdim=True)).abs().sum(1)
    return steps / (spread + 1e-6)


def outputs(result: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One output or several, always as several."""
    return (result,) if isinstance(result, Tensor) else tuple(result)
