"""Losses by name, each from logits and targets to one number per sample; and the penalties added to them.

A target is a fraction of each class, (N, classes), not a class index, so that label smoothing and mixup work with every
loss. Losses are not reduced over the batch, so that a batch cut into parts has the loss of the whole.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.params.train import LossParams


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


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # (N, classes), (N, classes) -> (N,)
    "cross_entropy": cross_entropy,
    "nll": nll,
    "bce": bce,
    "bce_with_logits": bce_with_logits,
    "mse": mse,
}


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
