"""What is drawn for a batch: targets and random numbers first, for all its samples; then the pixels of some of them.

Random numbers belong to the case and the epoch (`random_by_case`), not to the batch or the process.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.lib.train import augment, batches, losses, random_by_case
from stages.lib.train.run import Run
from stages.lib.train.task import Task


@dataclass(frozen=True)
class Drawn:
    """A batch before its pixels are read."""

    rows: np.ndarray  # (n,) positions in the training split
    keys: Tensor | None  # (n,) from which this epoch's augmentation is drawn; None without augmentation
    targets: Tensor  # (n, K) what is asked of each sample
    weights: Tensor | None  # (n,) how much each counts; None: all alike
    partners: np.ndarray | None  # (n,) positions of the samples blended in by mixup
    own_fractions: np.ndarray | None  # (n,) how much of a blend is the sample itself


def draw(run: Run, task: Task, rows: np.ndarray) -> Drawn:
    """Targets and random numbers of a whole batch; every process draws all of them.

    What is unknown of one of two samples is unknown of their blend: the other's answer is no answer to such pixels.
    """
    params = task.params
    keys = keys_of(run, task, rows) if params.augment.draws else None
    targets, weights = task.objective.targets(task.train, rows), losses.weights_of(task.train, rows)
    if keys is None or not params.augment.mixup:
        return Drawn(rows, keys, targets, weights, None, None)
    partners, own_fractions = augment.mixing(keys, params.augment, len(task.train.y))
    others, fractions = task.objective.targets(task.train, partners), torch.from_numpy(own_fractions)
    blended = others.lerp(targets, fractions[:, None])
    if weights is not None and (of_others := losses.weights_of(task.train, partners)) is not None:
        weights = of_others.lerp(weights, fractions.to(weights.dtype))
    return Drawn(rows, keys, blended, weights, partners, own_fractions)


def keys_of(run: Run, task: Task, rows: np.ndarray) -> Tensor:
    """The keys (n,) from which the random numbers of these samples are drawn in the current epoch."""
    return random_by_case.epoch_keys(task.case_keys[torch.from_numpy(rows)], task.params.seed, run.epoch)


def samples(run: Run, task: Task, drawn: Drawn, rows: np.ndarray) -> Tensor:
    """Some samples of a drawn batch, normalised, augmented and blended: (n, C, ...) float32 on the device.

    Args:
        rows: Their positions in the batch.
    """
    x = _augmented(run, task, drawn.rows[rows], None if drawn.keys is None else drawn.keys[rows])
    if drawn.partners is not None and drawn.own_fractions is not None:
        partners = drawn.partners[rows]
        others = _augmented(run, task, partners, keys_of(run, task, partners))
        own_fractions = torch.from_numpy(drawn.own_fractions[rows]).to(task.device)
        x = others.lerp(x, own_fractions.view(-1, *[1] * (x.ndim - 1)))
    return task.network_input(x, run.epoch)


def _augmented(run: Run, task: Task, rows: np.ndarray, keys: Tensor | None) -> Tensor:
    """Samples at these positions of the training split."""
    x = batches.gather(task.train, rows, task.device)
    x = run.model.normalise(x)
    return x if keys is None else augment.augment(x, keys.to(task.device), task.params.augment)
