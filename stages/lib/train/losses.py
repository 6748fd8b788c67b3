"""Losses by name, what they ask of a split's samples (`Objective`), and the penalties added to them.

Of classes, a target is a fraction of each, (N, classes), not a class index, so that label smoothing and mixup work with
every loss. Losses are not reduced over the batch, so that a batch cut into parts has the loss of the whole.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.core.errors import UserError
from stages.lib.params.train import LossParams
from stages.lib.tensors import Asked, Split


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    return -(targets * functional.log_softmax(logits, 1)).sum(1)


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):  # torch refuses it in half precision
        return functional.binary_cross_entropy(logits.softmax(1), targets, reduction="none").mean(1)


def bce_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)


def mse(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(logits.softmax(1), targets, reduction="none").mean(1)


Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {  # (N, classes), (N, classes) -> (N,)
    "cross_entropy": cross_entropy,
    "nll": nll,
    "bce": bce,
    "bce_with_logits": bce_with_logits,
    "mse": mse,
}
ADDED_UP = (cross_entropy, nll)  # over the classes, each times its target
LABEL_LOSSES: dict[str, Loss] = {  # (N, labels), (N, labels) -> (N, labels)
    "bce_with_logits": partial(functional.binary_cross_entropy_with_logits, reduction="none"),
}
NUMBER_LOSSES: dict[str, Loss] = {  # (N, 1), (N, 1) -> (N, 1)
    "mse": partial(functional.mse_loss, reduction="none"),
    "l1": partial(functional.l1_loss, reduction="none"),
    "huber": partial(functional.huber_loss, reduction="none"),  # quadratic up to one deviation
}


class Objective:
    """What is asked of a sample of one class, and how far an answer is from it.

    The others below are asked in the same words. An answer is right or wrong here; `quality` is the mean of that.
    """

    quality = "accuracy"  # what `sums` counts beside the loss: 1 at best

    def __init__(self, params: LossParams, train: Split, names: Sequence[str]) -> None:
        """Args:
            names: Of the classes.

        Raises:
            UserError: A param does not fit the data.
        """
        self.params, self.names = params, names
        self.loss = self._loss()
        self.class_weights = self._class_weights(train)

    def _loss(self) -> Loss:
        return _chosen(LOSSES, self.params.name, "cross_entropy", "classes")

    def _class_weights(self, train: Split) -> Tensor:
        try:
            return class_weights(self.params, train.y, self.names)
        except ValueError as error:
            raise UserError(f"train.loss.class_weights: {error}") from None

    def targets(self, split: Split, rows: np.ndarray) -> Tensor:
        """What is asked of the samples at these positions, (n, K): how much of each class each is."""
        if split.target is not None:
            return torch.from_numpy(split.target[rows])
        return targets(torch.from_numpy(split.y[rows]), len(self.names))

    def weight(self, targets: Tensor, weights: Tensor | None) -> float:
        """By what the sum of the samples' losses is divided.

        Args:
            targets: (n, K).
            weights: (n,) of the samples; None: all count alike.
        """
        return float(self.weight_of_each(targets, weights).sum())

    def weight_of_each(self, targets: Tensor, weights: Tensor | None) -> Tensor:
        """How much each sample's loss counts, (n,), or each of its answers', (n, K)."""
        of_samples = targets @ self.class_weights
        return of_samples if weights is None else of_samples * weights

    def count(self, targets: Tensor, weights: Tensor | None) -> float:
        """By what the sum of their qualities is divided."""
        return len(targets) if weights is None else float(weights.sum())

    def sums(self, answers: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sums of `each`."""
        found, quality = self.each(answers, targets, weights)
        return found.sum(), quality.sum().float()

    def each(self, answers: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """The samples' losses, each times its class's weight and its own; and which answers are right, likewise.

        Args:
            answers: (n, K) logits.
            targets: (n, K), before label smoothing.

        Returns:
            Both (n,); (n, K) where each answer counts by itself.
        """
        smoothed = targets
        if self.params.label_smoothing:
            smoothed = targets * (1 - self.params.label_smoothing) + self.params.label_smoothing / len(self.names)
        factors = self.class_weights.to(targets.device)
        if self.params.class_weights is not None and self.loss in ADDED_UP:
            found = self.loss(answers, smoothed * factors)  # as torch's own: what is spread has its class's weight, too
        else:
            found = self.loss(answers, smoothed) * (targets @ factors)
        right = answers.argmax(1) == targets.argmax(1)
        return (found, right) if weights is None else (found * weights, right * weights)

    def of_split(self, split: Split) -> tuple[float, float]:
        """`weight` and `count` of a whole split."""
        if split.target is None and split.weight is None:
            counts = np.bincount(split.y, minlength=len(self.names))
            return float(counts @ self.class_weights.numpy()), len(split.y)
        rows = np.arange(len(split.y))
        found, weights = self.targets(split, rows), weights_of(split, rows)
        return self.weight(found, weights), self.count(found, weights)

    def in_unit(self, loss: float) -> float:
        """A loss in the unit in which people know what is asked."""
        return loss


class LabelsObjective(Objective):
    """Labels that hold or not, each by itself: 1 or 0, and nan where nobody knows, which counts nowhere."""

    def _loss(self) -> Loss:
        return _chosen(LABEL_LOSSES, self.params.name, "bce_with_logits", "labels")

    def _class_weights(self, train: Split) -> Tensor:
        """Of each label: how much a case with it counts beside one without ("balanced"), else how much it counts."""
        assert train.target is not None
        chosen = self.params.class_weights
        if chosen is None:
            return torch.ones(len(self.names))
        if chosen == "balanced":
            there, absent = ((train.target == answer).sum(axis=0) for answer in (1, 0))
            if not (there.all() and absent.all()):
                lost = self.names[int(np.minimum(there, absent).argmin())]
                raise UserError(f"train.loss.class_weights: balanced: all training cases answer {lost} alike")
            return torch.tensor(absent / there, dtype=torch.float32)
        if len(chosen) != len(self.names):
            raise UserError(f"train.loss.class_weights: {len(chosen)} weights for {len(self.names)} labels")
        return torch.tensor(chosen, dtype=torch.float32)

    def _of_answers(self, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Whether each answer is known, the targets with 0 where not, and how much each counts, (n, K) each."""
        known = ~torch.isnan(targets)
        filled = torch.where(known, targets, 0.0)
        factors = self.class_weights.to(targets.device)
        if self.params.class_weights == "balanced":
            factors = filled * factors + (1 - filled)
        counts = known * factors
        return known, filled, counts if weights is None else counts * weights[:, None]

    def weight_of_each(self, targets: Tensor, weights: Tensor | None) -> Tensor:
        return self._of_answers(targets, weights)[2]

    def count(self, targets: Tensor, weights: Tensor | None) -> float:
        known = ~torch.isnan(targets)
        return float(known.sum() if weights is None else (known * weights[:, None]).sum())

    def each(self, answers: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        known, filled, counts = self._of_answers(targets, weights)
        smoothed = filled * (1 - self.params.label_smoothing) + self.params.label_smoothing / 2
        right = known * ((answers > 0) == (filled > 0.5))
        right = right if weights is None else right * weights[:, None]
        return self.loss(answers, smoothed) * counts, right


class NumberObjective(Objective):
    """A number, of which the network learns how many deviations of the training split it is from its mean.

    `quality` is the fraction of the training split's variance that the answers explain: 1 at best, 0 where the mean
    would be as good an answer.
    """

    quality = "r2"

    def __init__(self, params: LossParams, train: Split, asked: Asked) -> None:
        self.asked = asked
        if params.label_smoothing or params.class_weights:
            raise UserError(
                "train.loss.label_smoothing and class_weights are of classes: leave them out, as the target is a number"
            )
        super().__init__(params, train, asked.names)

    def _loss(self) -> Loss:
        return _chosen(NUMBER_LOSSES, self.params.name, "mse", "numbers")

    def _class_weights(self, train: Split) -> Tensor:
        return torch.ones(1)

    def targets(self, split: Split, rows: np.ndarray) -> Tensor:
        assert split.target is not None
        values = torch.from_numpy(split.target[rows])
        values = values.log() if self.asked.kind == "log_regression" else values
        return (values - self.asked.mean) / self.asked.deviation

    def weight(self, targets: Tensor, weights: Tensor | None) -> float:
        return self.count(targets, weights)

    def weight_of_each(self, targets: Tensor, weights: Tensor | None) -> Tensor:
        return torch.ones(len(targets)) if weights is None else weights

    def each(self, answers: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        explained = 1 - (answers - targets).square().sum(1)
        losses = self.loss(answers, targets).sum(1)
        return (losses, explained) if weights is None else (losses * weights, explained * weights)

    def of_split(self, split: Split) -> tuple[float, float]:
        of_all = len(split.y) if split.weight is None else float(split.weight.astype(np.float64).sum())
        return of_all, of_all

    def in_unit(self, loss: float) -> float:
        """In the target's unit (l1), or its square (mse, huber); of a logarithm, which has none, likewise."""
        return loss * self.asked.deviation ** (1 if self.params.name == "l1" else 2)


def objective(params: LossParams, train: Split, asked: Asked) -> Objective:
    """What the training split asks of its samples.

    Raises:
        UserError: A param does not fit the data.
    """
    if asked.target.of_number:
        return NumberObjective(params, train, asked)
    kind = LabelsObjective if asked.kind == "multilabel" else Objective
    return kind(params, train, asked.names)


def weights_of(split: Split, rows: np.ndarray) -> Tensor | None:
    """How much the samples at these positions count, (n,); None: all alike."""
    return None if split.weight is None else torch.from_numpy(split.weight[rows])


def _chosen(losses: Mapping[str, Loss], name: str | None, usual: str, of: str) -> Loss:
    if (name or usual) not in losses:
        raise UserError(f"train.loss.name is {name}, which is no loss of {of}: expected one of {', '.join(losses)}")
    return losses[name or usual]


def targets(y: Tensor, classes: int) -> Tensor:
    """One-hot targets (N, classes) of class indices (N,)."""
    return torch.eye(classes, device=y.device)[y]  # one_hot would look for the largest y each time


def class_weights(params: LossParams, y: np.ndarray, classes: Sequence[str]) -> Tensor:
    """One weight per class (classes,); those of "balanced" average 1 over the training split.

    Raises:
        ValueError: The number of weights is not that of the classes, or a class has no case to balance.
    """
    if params.class_weights is None:
        return torch.ones(len(classes))
    if params.class_weights == "balanced":
        counts = np.bincount(y, minlength=len(classes))
        if not counts.all():
            raise ValueError(f"balanced: the training split has no case of {classes[int(counts.argmin())]}")
        return torch.tensor(len(y) / (len(classes) * counts), dtype=torch.float32)
    if len(params.class_weights) != len(classes):
        raise ValueError(f"{len(params.class_weights)} weights for {len(classes)} classes ({', '.join(classes)})")
    return torch.tensor(params.class_weights, dtype=torch.float32)


def penalty(parameters: Iterable[Tensor], l1: float, l2: float) -> Tensor:
    """l1 times the sum of magnitudes plus l2 times the sum of squares, over the parameters that learn."""
    learning = [p for p in parameters if p.requires_grad]
    total = torch.zeros((), device=learning[0].device)
    if l1:
        total = total + l1 * torch.stack([p.abs().sum() for p in learning]).sum()
    if l2:
        total = total + l2 * torch.stack([p.square().sum() for p in learning]).sum()
    return total
