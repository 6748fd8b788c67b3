"""Everything that changes while a model is trained; a checkpoint in `.resume/` holds this and nothing else."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stages.lib.model.classifier import Classifier
from stages.lib.train.schedules import Schedule

Row = dict[str, float]  # a line of history.csv, or sums over batches, by name


@dataclass
class Best:
    """The weights to keep, and the epoch that they come from; epoch 0 before there are any."""

    epoch: int = 0
    value: float = float("inf")  # lower is better
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Run:
    """The state of a training between two batches."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    averaged: Classifier | None  # a running average of the model
    epoch: int = 1  # the current epoch, from 1
    batch: int = 0  # the next batch in it, from 0
    sums: Row = field(default_factory=dict)  # over the epoch's batches so far
    history: list[Row] = field(default_factory=list)  # one row per finished epoch
    best: Best = field(default_factory=Best)

    @property
    def judged(self) -> Classifier:
        """The model that is validated and kept."""
        return self.model if self.averaged is None else self.averaged

    def weights(self) -> dict[str, Tensor]:
        """A copy of the judged model's weights, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.judged.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Plain values and tensors, torch's random generators among them."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": self.sums,
            "history": self.history,
            "best": vars(self.best),
            "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        }

    def result(self) -> dict[str, Any]:
        """The part of the state that a finished run's outs are made from."""
        return {name: self.state()[name] for name in ("epoch", "batch", "sums", "history", "best")}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues where `state` was taken, to the bit; from a `result` it only goes on to the outs."""
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.sums, self.history = state["sums"], state["history"]
        self.best = Best(**state["best"])
        if "model" not in state:
            return
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all([generator.cpu() for generator in state["random"]["cuda"]])


def average_of(model: Classifier) -> Classifier:
    """A copy that holds the running average of the weights; no optimizer moves it."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_average(averaged: Classifier, model: Classifier, decay: float, step: int) -> None:
    """average = decay * average + (1 - decay) * weights, in place; integers, such as counters, are copied.

    In the first steps the decay is step / (step + 9) where that is less, so that the random start is soon forgotten.

    Args:
        step: Steps of the optimizer so far, from 1.
    """
    decay = min(decay, step / (step + 9))
    former, current = averaged.state_dict(), model.state_dict()
    floats = [name for name in former if former[name].is_floating_point()]
    torch._foreach_lerp_([former[n] for n in floats], [current[n] for n in floats], 1 - decay)
    for name in former.keys() - set(floats):  # batch normalisation's counters of batches
        former[name].copy_(current[name])
