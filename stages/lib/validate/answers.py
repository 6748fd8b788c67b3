"""What the network says of each case, asked once: all that validation measures follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.model.classifier import Classifier
from stages.lib.model.deployed import (
    Settings,
    averaged,
    averaged_labels,
    averaged_numbers,
    grade_measures,
    label_measures,
    measures,
    number_measures,
    temperatures_of,
    views_of,
)
from stages.lib.model.inference import predict_all
from stages.lib.tensors import Asked, Split

CLASSES = Asked("classes", [])
COLUMNS = ("y", "case", "group", "target", "weight")  # of a split, beside its pixels


@dataclass(frozen=True)
class Answers:
    """Of the N cases of a split."""

    logits: Sequence[np.ndarray]  # of each view, (N, K) float64, first of the sample itself
    measures: np.ndarray  # (N, 4) float64: as of `deployed.measures`
    asked: Asked

    @staticmethod
    def joined(parts: Sequence["Answers"]) -> "Answers":
        """Those to the cases of all parts, one part after the other."""
        logits = [np.concatenate(views) for views in zip(*(one.logits for one in parts), strict=True)]
        return Answers(logits, np.concatenate([one.measures for one in parts]), parts[0].asked)

    def probabilities(self, temperature: float) -> np.ndarray:
        """(N, K) float64, of one class of several, as `Deployed` computes them."""
        return self.deployed(Settings(temperature))

    def deployed(self, settings: Settings) -> np.ndarray:
        """(N, K) float64, or (N, 3) of a number, as the deployed model computes them."""
        logits = [torch.from_numpy(view).float() for view in self.logits]  # they were float32
        if self.asked.target.of_one_class:
            found = averaged(logits, settings.temperature)
        elif self.asked.kind == "multilabel":
            found = averaged_labels(logits, temperatures_of(settings))
        else:
            is_logarithm = self.asked.kind == "log_regression"
            found = averaged_numbers(logits, self.asked.mean, self.asked.deviation, settings.half_width, is_logarithm)
        return found.double().numpy()


def some(split: Split, which: np.ndarray) -> Split:
    """Some of a split's cases, as (n,) positions or (N,) bool, without their pixels, which no score is of."""
    columns = {name: of[which] for name in COLUMNS if (of := getattr(split, name)) is not None}
    return Split(np.empty((len(columns["y"]), 0)), **columns)


def joined(splits: Sequence[Split]) -> Split:
    """The cases of all splits, one split after the other, without their pixels. A case may be in several."""
    present = [name for name in COLUMNS if getattr(splits[0], name) is not None]
    columns = {name: np.concatenate([getattr(split, name) for split in splits]) for name in present}
    return Split(np.empty((len(columns["y"]), 0)), **columns)


def once(split: Split, said: np.ndarray) -> tuple[Split, np.ndarray]:
    """Each case once, ascending by name, with the mean of what was said of it, (N, ...): several trainings of a study
    may have held it out, and an ensemble gives their mean.
    """
    _, first, place = np.unique(split.case, return_index=True, return_inverse=True)
    total = np.zeros((len(first), *said.shape[1:]))
    np.add.at(total, place, said)
    return some(split, first), total / np.bincount(place, minlength=len(first)).reshape(-1, *[1] * (said.ndim - 1))


class _Asking(nn.Module):
    def __init__(self, classifier: Classifier, flips: str, asked: Asked) -> None:
        super().__init__()
        self.classifier, self.views = classifier, views_of(flips)
        of_classes = {"multilabel": label_measures, "ordinal": grade_measures}.get(asked.kind, measures)
        self.measures = number_measures if asked.target.of_number else of_classes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # -> (N, K) of each view, and (N, 4)
        x = self.classifier.normalise(x)
        logits = [self.classifier.answer(torch.flip(x, view) if view else x) for view in self.views]
        return *logits, self.measures(logits[0], x)


def ask(
    classifier: Classifier, split: Split, flips: str, batch_size: int, name: str, asked: Asked = CLASSES
) -> Answers:
    """The network's answers to a split's cases and their mirror images.

    Args:
        flips: As of `Settings`.
        name: Of the split, for the progress.
        asked: What the model is to answer.

    Raises:
        UserError: An answer is no finite number.
    """
    *logits, measured = predict_all(_Asking(classifier, flips, asked).eval(), split.x, batch_size, name)
    finite = np.all([np.isfinite(view).all(1) for view in logits], axis=0)
    failed = np.flatnonzero(~finite)
    if len(failed):
        raise UserError(
            f"the model's answer to case {split.cases[failed[0]]} is no finite number, and so are {len(failed)} of "
            f"{len(finite)}: the training diverged (try a smaller train.lr), or the case's own pixels are no numbers"
        )
    return Answers(logits, measured, asked)


def measure(classifier: Classifier, x: np.ndarray, batch_size: int, doing: str, asked: Asked = CLASSES) -> np.ndarray:
    """(N, 4) measures of samples that are in no split."""
    return predict_all(_Asking(classifier, "", asked).eval(), x, batch_size, doing)[-1]
