"""What the curves and the gradients say of a run, in a sentence, with the figures it rests on and what to try.

The notes' two rules: a training loss that does not fall means a model too simple; training and validation losses that
part mean overfitting. And gradients should be of one order of magnitude in every layer.
"""

import math
from collections.abc import Sequence
from typing import Any

from stages.lib.train.run import Row

FALLEN = 0.25  # a training loss that has fallen by less of its first value has not fallen
LEARNT = 0.95  # training accuracy of a model that can hold its training split, whatever its loss's floor
PARTED = 1.2  # validation loss over its own lowest value, while the training loss falls on
AHEAD = 0.1  # training accuracy above validation accuracy
ORDERS = 3.0  # powers of ten between the layers' gradients


def diagnose(history: Sequence[Row], shrunk: int = 0) -> dict[str, Any]:
    """The verdict on a history of rows as in history.csv.

    Args:
        shrunk: So many first epochs were of shrunk samples, whose validation is another's.

    Returns:
        verdict: too simple, overfitting, vanishing gradients, exploding gradients, too short or sound; sentence, for
        people; and the figures.
    """
    figures = measure(history, shrunk)
    sound = ("sound", True, "nothing: training and validation losses fell together")
    verdict, _, try_this = next((rule for rule in rules(figures) if rule[1]), sound)
    return {"verdict": verdict, "sentence": f"{verdict}: {said(figures)}; try {try_this}", **figures}


def measure(history: Sequence[Row], shrunk: int) -> dict[str, float]:
    """The figures that the rules look at; gradients are of the first epoch, where they tell of the network itself."""
    first, last = history[0], history[-1]
    whole = history[shrunk:]
    losses = [row["validation_loss"] for row in whole if not math.isnan(row["validation_loss"])]
    gradients = {name: size for name, size in first.items() if name.startswith("gradient ")}
    ends = list(gradients.values())
    positive = [math.log10(size) for size in ends if size > 0]
    return {
        "epochs": len(history),
        "first_train_loss": first["train_loss"],
        "last_train_loss": last["train_loss"],
        "fallen": 1 - last["train_loss"] / first["train_loss"] if first["train_loss"] > 0 else 1.0,
        "train_accuracy": max(row["train_accuracy"] for row in whole),
        "last_train_accuracy": last["train_accuracy"],
        "last_validation_accuracy": last["validation_accuracy"],
        "lowest_validation_loss": min(losses, default=math.nan),
        "last_validation_loss": last["validation_loss"],
        "gradient_orders": max(positive) - min(positive) if positive else 0.0,
        "first_layer_gradient": ends[0] if ends else math.nan,
        "last_layer_gradient": ends[-1] if ends else math.nan,
    }


def rules(figures: dict[str, float]) -> list[tuple[str, bool, str]]:
    """Verdict, whether it holds, and what to try; the first that holds is the one."""
    uneven = figures["gradient_orders"] > ORDERS
    forward = figures["first_layer_gradient"] < figures["last_layer_gradient"]
    parted = figures["last_validation_loss"] > PARTED * figures["lowest_validation_loss"]
    ahead = figures["last_train_accuracy"] - figures["last_validation_accuracy"] > AHEAD
    stuck = figures["fallen"] < FALLEN and figures["train_accuracy"] < LEARNT
    return [
        (
            "vanishing gradients",
            uneven and forward and stuck,
            "skip connections, batch norm, ReLU or a less deep network",
        ),
        ("exploding gradients", uneven and not forward and stuck, "train.clip_norm, a lower train.lr or batch norm"),
        ("too short", stuck and figures["epochs"] < 3, "more train.epochs: so few tell nothing"),
        ("too simple", stuck, "a wider or deeper network, a higher train.lr, more train.epochs or less augmentation"),
        ("overfitting", parted or ahead, "more data, augmentation, dropout, weight decay or a smaller network"),
    ]


def said(figures: dict[str, float]) -> str:
    """The figures as people say them."""
    return (
        f"training loss {figures['first_train_loss']:.3g} -> {figures['last_train_loss']:.3g} in {figures['epochs']:g} "
        f"epochs, validation loss at its lowest {figures['lowest_validation_loss']:.3g}, at last "
        f"{figures['last_validation_loss']:.3g}, accuracy {figures['last_train_accuracy']:.3f} in training and "
        f"{figures['last_validation_accuracy']:.3f} in validation, gradients within {figures['gradient_orders']:.1f} "
        f"powers of ten over the layers"
    )
