"""What curves and gradients say about a run: a verdict in one sentence, with the numbers behind it and what to try.

Two rules of thumb: a training loss that does not fall means that the model is too simple (or trained too briefly), and
training and validation losses that diverge mean overfitting. Besides, the gradients of all layers should be of one
order of magnitude.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stages.lib.train.run import Row

MIN_LOSS_FALL = 0.25  # fraction of the first training loss; one that falls by less counts as not falling
LEARNT_ACCURACY = 0.95  # training accuracy of a model that fits its training split, however high its loss's floor
MAX_LOSS_RISE = 1.2  # last validation loss over the lowest one
MAX_ACCURACY_GAP = 0.1  # training accuracy above validation accuracy
MAX_GRADIENT_ORDERS = 3.0  # powers of ten between the layers' gradients


def gradient_norms(network: nn.Module) -> dict[str, float]:
    """The root mean square of each layer's weight gradient, by "gradient <layer>".

    The mean of squares, not the sum, makes layers with many and with few weights comparable. Biases and the weights of
    norms are left out.
    """
    gradients = {
        f"gradient {name.removesuffix('.weight')}": weight.grad
        for name, weight in network.named_parameters()
        if weight.grad is not None and weight.ndim > 1
    }
    if not gradients:
        return {}
    lengths = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist()
    return {
        name: length / gradient.numel() ** 0.5
        for (name, gradient), length in zip(gradients.items(), lengths, strict=True)
    }


def diagnose(history: Sequence[Row], shrunk_epochs: int = 0, quality: str = "accuracy") -> dict[str, Any]:
    """The verdict on a run.

    Args:
        history: Rows as in history.csv.
        quality: `losses.Objective.quality`: accuracy, or what is as good of other answers.
        shrunk_epochs: How many first epochs had shrunk samples; their validation loss does not compare with later ones.

    Returns:
        verdict: too simple, overfitting, vanishing gradients, exploding gradients, too short or sound; sentence, for
        people; and the numbers that both rest on.
    """
    numbers = measure(history, shrunk_epochs, quality)
    sound = ("sound", True, "nothing: training and validation losses fell together")
    verdict, _, remedy = next((rule for rule in rules(numbers, quality) if rule[1]), sound)
    return {"verdict": verdict, "sentence": f"{verdict}: {in_words(numbers, quality)}; try {remedy}", **numbers}


def measure(history: Sequence[Row], shrunk_epochs: int, quality: str = "accuracy") -> dict[str, float]:
    """The numbers that the rules compare; gradients are the first epoch's, which tell most about the network itself."""
    first, last = history[0], history[-1]
    full_size = history[shrunk_epochs:]
    losses = [row["validation_loss"] for row in full_size if not math.isnan(row["validation_loss"])]
    gradients = [size for name, size in first.items() if name.startswith("gradient ")]
    positive = [math.log10(size) for size in gradients if size > 0]
    return {
        "epochs": len(history),
        "first_train_loss": first["train_loss"],
        "last_train_loss": last["train_loss"],
        "fallen": 1 - last["train_loss"] / first["train_loss"] if first["train_loss"] > 0 else 1.0,
        f"train_{quality}": max(row[f"train_{quality}"] for row in full_size),
        f"last_train_{quality}": last[f"train_{quality}"],
        f"last_validation_{quality}": last[f"validation_{quality}"],
        "lowest_validation_loss": min(losses, default=math.nan),
        "last_validation_loss": last["validation_loss"],
        "gradient_orders": max(positive) - min(positive) if positive else 0.0,
        "first_layer_gradient": gradients[0] if gradients else math.nan,
        "last_layer_gradient": gradients[-1] if gradients else math.nan,
    }


def rules(numbers: dict[str, float], quality: str = "accuracy") -> list[tuple[str, bool, str]]:
    """Each verdict, whether it holds, and what to try; the first that holds counts."""
    uneven = numbers["gradient_orders"] > MAX_GRADIENT_ORDERS
    vanishing = numbers["first_layer_gradient"] < numbers["last_layer_gradient"]
    diverged = numbers["last_validation_loss"] > MAX_LOSS_RISE * numbers["lowest_validation_loss"]
    gap = numbers[f"last_train_{quality}"] - numbers[f"last_validation_{quality}"] > MAX_ACCURACY_GAP
    stuck = numbers["fallen"] < MIN_LOSS_FALL and numbers[f"train_{quality}"] < LEARNT_ACCURACY
    return [
        (
            "vanishing gradients",
            uneven and vanishing and stuck,
            "skip connections, batch norm, ReLU or a less deep network",
        ),
        ("exploding gradients", uneven and not vanishing and stuck, "train.clip_norm, a lower train.lr or batch norm"),
        ("too short", stuck and numbers["epochs"] < 3, "more train.epochs: so few tell nothing"),
        ("too simple", stuck, "a wider or deeper network, a higher train.lr, more train.epochs or less augmentation"),
        ("overfitting", diverged or gap, "more data, augmentation, dropout, weight decay or a smaller network"),
    ]


def in_words(numbers: dict[str, float], quality: str = "accuracy") -> str:
    """The numbers as part of a sentence."""
    return (
        f"training loss {numbers['first_train_loss']:.3g} -> {numbers['last_train_loss']:.3g} in {numbers['epochs']:g} "
        f"epochs, validation loss at its lowest {numbers['lowest_validation_loss']:.3g}, at last "
        f"{numbers['last_validation_loss']:.3g}, {quality} {numbers[f'last_train_{quality}']:.3f} in training and "
        f"{numbers[f'last_validation_{quality}']:.3f} in validation, gradients within {numbers['gradient_orders']:.1f} "
        f"powers of ten over the layers"
    )
