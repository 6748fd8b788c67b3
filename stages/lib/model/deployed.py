"""The model as it leaves the pipeline: integers in, probabilities out. Validation measures it, export writes it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.model.classifier import Classifier
from stages.lib.tensors import Asked

MEASURES = 4  # by which a sample may be unlike others, see `measures`


@dataclass(frozen=True)
class Settings:
    """What validation measured or was asked for and export needs too; `deployed` in validate.json."""

    temperature: float = 1.0
    """Divides the logits, which changes how sure the model is but never the order of the classes."""

    flips: str = ""
    """Axes of "DHW". The probabilities are averaged over the sample and its mirror image along each of these axes."""

    unlike_means: Sequence[float] = ()
    """Means over the validation split, one per measure of `measures`."""

    unlike_deviations: Sequence[float] = ()
    """Deviations over the validation split, one per measure."""

    unlike_threshold: float | None = None
    """The `strangeness` above which a sample counts as unlike the training data; None without a validation case to
    measure it on."""

    temperatures: Sequence[float] = ()
    """Where labels hold each by itself: what divides the logit of each, in place of `temperature`."""

    thresholds: Sequence[float] = ()
    """Where labels hold each by itself: the probability from which on each is taken to hold."""

    half_width: float = 0.0
    """Of a number, or of its logarithm where the model learns that: as far to both sides of the model's answer, 90 % of
    the validation split's numbers lie."""

    def plain(self) -> dict[str, Any]:
        """As a dictionary, without what is of another kind of answer."""
        return {name: value for name, value in asdict(self).items() if value or name not in _OF_OTHER_ANSWERS}


_OF_OTHER_ANSWERS = ("temperatures", "thresholds", "half_width")


class Deployed(nn.Module):
    """The classifier with its settings applied, and softmax.

    With `unlike` there is a second output, (N,): `strangeness` minus its threshold. Where it is positive, the sample is
    unlike the training data and the probabilities mean nothing.
    """

    def __init__(self, classifier: Classifier, settings: Settings, unlike: bool = False) -> None:
        super().__init__()
        self.classifier = classifier
        self.temperature = settings.temperature
        self.settings = settings
        self.views = views_of(settings.flips)
        self.unlike = unlike
        if unlike and settings.unlike_threshold is None:
            raise UserError(
                "export.unlike needs what validate measures on the validation split, and that has no case: take false, "
                "or a larger split.validation"
            )
        self.threshold = settings.unlike_threshold or 0.0

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # (N, C, *size) -> (N, K)[, (N,)]
        x = self.classifier.normalise(x)
        logits = [self.classifier.answer(torch.flip(x, view) if view else x) for view in self.views]
        said = self.said(logits)
        if not self.unlike:
            return said
        away = strangeness(self.measured(logits[0], x), self.settings)
        return said, away - self.threshold

    def said(self, logits: list[Tensor]) -> Tensor:  # (N, K) of each view -> (N, K)
        """What the network's answers come to."""
        return averaged(logits, self.temperature)

    def measured(self, logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
        """By what a sample may be unlike others; see `measures`."""
        return measures(logits, x)


class DeployedGrades(Deployed):
    """Classes in order."""

    def measured(self, logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
        return grade_measures(logits, x)


class DeployedLabels(Deployed):
    """Labels that hold each by itself: the probability of each."""

    temperatures: Tensor

    def __init__(self, classifier: Classifier, settings: Settings, unlike: bool = False) -> None:
        super().__init__(classifier, settings, unlike)
        self.register_buffer("temperatures", temperatures_of(settings), persistent=False)

    def said(self, logits: list[Tensor]) -> Tensor:  # (N, K) of each view -> (N, K)
        return averaged_labels(logits, self.temperatures)

    def measured(self, logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
        return label_measures(logits, x)


class DeployedNumber(Deployed):
    """A number, and the bounds between which 90 % of such numbers lie: (N, 3)."""

    def __init__(self, classifier: Classifier, asked: Asked, settings: Settings, unlike: bool = False) -> None:
        super().__init__(classifier, settings, unlike)
        self.mean, self.deviation = asked.mean, asked.deviation
        self.half_width = settings.half_width
        self.is_logarithm = asked.kind == "log_regression"

    def said(self, logits: list[Tensor]) -> Tensor:  # (N, 1) of each view -> (N, 3)
        return averaged_numbers(logits, self.mean, self.deviation, self.half_width, self.is_logarithm)

    def measured(self, logits: Tensor, x: Tensor) -> Tensor:  # (N, 1), (N, C, *size) -> (N, 4)
        return number_measures(logits, x)


def deployed(classifier: Classifier, asked: Asked, settings: Settings, unlike: bool = False) -> Deployed:
    """The model as it leaves the pipeline, for what it was asked.

    Raises:
        UserError: As `Deployed`.
    """
    if asked.target.of_number:
        return DeployedNumber(classifier, asked, settings, unlike)
    kinds = {"multilabel": DeployedLabels, "ordinal": DeployedGrades}
    return kinds.get(asked.kind, Deployed)(classifier, settings, unlike)


def temperatures_of(settings: Settings) -> Tensor:
    """What divides each label's logit, (K,), or (1,) of ones where nothing does."""
    return torch.tensor(list(settings.temperatures) or [1.0], dtype=torch.float32)


def averaged_labels(logits: Sequence[Tensor], temperatures: Tensor) -> Tensor:  # (N, K) of each view -> (N, K)
    """The probability that each label holds, averaged over the views."""
    return torch.stack([torch.sigmoid(one / temperatures) for one in logits]).mean(0)


def averaged_numbers(
    answers: Sequence[Tensor], mean: float, deviation: float, half_width: float, is_logarithm: bool
) -> Tensor:  # (N, 1) of each view -> (N, 3)
    """The number, averaged over the views, and its bounds, from how many deviations it is from the mean."""
    learnt = torch.stack([one for one in answers]).mean(0) * deviation + mean
    numbers = torch.cat([learnt, learnt - half_width, learnt + half_width], 1)
    return torch.exp(numbers) if is_logarithm else numbers


def label_measures(logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
    """As `measures`; the energy is that of all labels together (Wang et al. 2021, arXiv:2109.14162)."""
    pixels = x.flatten(1)
    claimed = torch.nn.functional.softplus(logits).sum(1)
    return torch.stack([-claimed, roughness(x), pixels.mean(1), pixels.std(1, correction=0)], dim=1)


def grade_measures(logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
    """As `measures`, with 0 in place of the energy: logarithms of probabilities that add up to 1 have none."""
    pixels = x.flatten(1)
    return torch.stack([torch.zeros_like(logits[:, 0]), roughness(x), pixels.mean(1), pixels.std(1, correction=0)], 1)


def number_measures(answers: Tensor, x: Tensor) -> Tensor:  # (N, 1), (N, C, *size) -> (N, 4)
    """As `measures`; in place of the energy, how far the answer is from the mean of those in training."""
    pixels = x.flatten(1)
    return torch.stack([answers[:, 0].abs(), roughness(x), pixels.mean(1), pixels.std(1, correction=0)], dim=1)


def views_of(flips: str) -> list[list[int]]:
    """The axes that each view is mirrored along, counted from the end, so that they are those of images and volumes.

    [], which comes first, is the sample itself.
    """
    return [[], *([-("WHD".index(axis) + 1)] for axis in flips)]


def averaged(logits: Sequence[Tensor], temperature: float) -> Tensor:  # (N, K) of each view -> (N, K)
    """The probabilities, averaged over the views."""
    return torch.stack([torch.softmax(one / temperature, dim=1) for one in logits]).mean(0)


def measures(logits: Tensor, x: Tensor) -> Tensor:  # (N, K), (N, C, *size) -> (N, 4)
    """Four measures by which a sample may be unlike others: energy, and its pixels' roughness, mean and deviation.

    Energy is high where no class claims the sample. But a network may be sure of pure noise or of a negative, whose
    energy is then low; such a sample stands out by its pixels, which are too rough or smooth, too bright, dark or flat.

    Args:
        x: Normalised samples.
    """
    pixels = x.flatten(1)
    return torch.stack([energy(logits), roughness(x), pixels.mean(1), pixels.std(1, correction=0)], dim=1)


def strangeness(measured: Tensor, settings: Settings) -> Tensor:  # (N, 4) -> (N,)
    """How many deviations a sample is from the validation split's mean, in the measure where it is farthest."""
    columns = zip(measured.unbind(1), settings.unlike_means, settings.unlike_deviations, strict=True)
    high, *others = [(column - mean) / deviation for column, mean, deviation in columns]
    return torch.stack([high, *(other.abs() for other in others)]).amax(0)  # only a high energy is odd


def energy(logits: Tensor) -> Tensor:  # (N, K) -> (N,)
    """High where no class claims the sample (Liu et al. 2020, arXiv:2010.03759)."""
    return -torch.logsumexp(logits, dim=1)


def roughness(x: Tensor) -> Tensor:  # (N, C, *size) -> (N,)
    """Differences of neighbouring pixels over differences from the mean: 0 in a blank sample, above 1 in noise."""
    # Not flattened first: an axis of a single slice has no neighbours, and ONNX can't flatten an empty tensor.
    steps = torch.stack([x.diff(dim=axis).abs().sum(list(range(1, x.ndim))) for axis in range(2, x.ndim)]).mean(0)
    flat = x.flatten(1)
    spread = (flat - flat.mean(1, keepdim=True)).abs().sum(1)
    return steps / (spread + 1e-6)


def outputs(result: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The outputs of a model as a tuple, also where there is only one."""
    return (result,) if isinstance(result, Tensor) else tuple(result)
