"""Whether a network could have learnt: a copy of it at its start is to fit a few training cases, at several rates.

It costs time, so only a run is asked that has learnt little: is the network too simple, or the learning rate wrong, or
is there nothing to be learnt?
"""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.modules.dropout import _DropoutNd

from stages.lib.model import checkpoint
from stages.lib.model.checkpoint import Recipe
from stages.lib.model.classifier import Classifier
from stages.lib.train import batches, loop, optimizers, setup
from stages.lib.train.diagnosis import evidence
from stages.lib.train.parallel.distributed import World
from stages.lib.train.task import Task

CASES = 32
STEPS = 100  # over all of them, at one rate
FITTED = 0.8  # of the way from chance to the floor
LOWER, HIGHER = (0.1, 0.01, 0.001), (10.0, 100.0, 1000.0)  # times train.lr, in the order in which they are tried


@dataclass(frozen=True)
class Capacity:
    """What a copy of a network at its start came to on a few cases."""

    fitted: float  # part of the way from chance to the floor, at train.lr
    fitting_rate: float  # times train.lr, at which it fits them; 0 if it does at none that was tried


def capacity(task: Task, recipe: Recipe) -> Capacity:
    """Lets copies of the network at its start fit `CASES` training cases, without augmentation and dropout.

    The rate is constant, and the first at which they fit is looked for: train.lr, then higher ones if that one moved
    the loss down by less, then lower ones; or the other way round. The random state is as before, and so is the run.
    """
    alone = replace(task, world=World(), params=replace(task.params, compile=False))
    rows = np.sort(np.random.default_rng(task.params.seed).permutation(len(task.train.y))[:CASES])
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        start = setup.begin(alone, recipe).model

        def at(rate: float) -> float:
            return _fitted(copy.deepcopy(start), alone, recipe, rows, rate)

        fitted = at(1.0)
        if fitted >= FITTED:
            return Capacity(fitted, 1.0)
        others = HIGHER + LOWER if fitted > 0 else LOWER + HIGHER
        return Capacity(fitted, next((rate for rate in others if at(rate) >= FITTED), 0.0))


def _fitted(model: Classifier, task: Task, recipe: Recipe, rows: np.ndarray, rate: float) -> float:
    """How far from chance to the floor a fresh model comes on the samples at these positions; -1 where its loss ends.

    Args:
        rate: Times train.lr.
    """
    params, objective = task.params, task.objective
    optimizer = optimizers.make(replace(params, lr=params.lr * rate), model.network, checkpoint.outputs(recipe))
    targets, weights = evidence.asked(task, task.train, rows)
    total = objective.weight(targets, weights)
    chance, floor = (evidence.lowest_loss(objective, targets, weights, alike) for alike in (True, False))
    if not chance > floor:
        return 0.0  # they are all alike
    loop.set_to_train(model, params)
    for layer in model.modules():
        if isinstance(layer, _DropoutNd):
            layer.eval()
    # As many at once as in training, since memory may not hold more; batch norm needs two.
    parts = batches.epoch_batches(len(rows), max(2, task.batch_size // params.accumulate), params.seed, 1)
    fitted = 0.0
    for _ in range(STEPS):
        loss = sum(_step(model, optimizer, task, rows[part]) for part in parts)
        if not math.isfinite(loss):
            return -1.0
        fitted = (chance - loss / total) / (chance - floor)
        if fitted >= FITTED:
            break
    return fitted


def _step(model: Classifier, optimizer: torch.optim.Optimizer, task: Task, rows: np.ndarray) -> float:
    """Moves the weights by one batch; returns the sum of its losses before."""
    targets, weights = evidence.asked(task, task.train, rows)
    x = task.network_input(
        model.normalise(batches.gather(task.train, rows, task.device)), task.params.progressive.epochs + 1
    )
    weight = task.objective.weight(targets, weights) or 1.0
    on_device = targets.to(task.device), None if weights is None else weights.to(task.device)
    found: list[float] = []

    def closure() -> float:
        optimizer.zero_grad()
        loss = task.objective.sums(model.answer(x).float(), *on_device)[0]
        (loss / weight).backward()
        found.append(float(loss.detach()))
        return found[-1] / weight

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(closure)
    else:
        closure()
        if task.params.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), task.params.clip_norm)
        optimizer.step()
    return found[0]
