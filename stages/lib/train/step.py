"""One step of the optimizer: a batch goes forward, its loss backward, and the weights are moved."""

import math

import numpy as np
import torch
from torch import Tensor

from stages.lib.core.errors import UserError
from stages.lib.params.train import TrainParams
from stages.lib.train import batches, devices, drawing, losses
from stages.lib.train.batches import BatchPart
from stages.lib.train.drawing import Drawn
from stages.lib.train.parallel import batch_parts
from stages.lib.train.parallel.batch_parts import RunningStatistics
from stages.lib.train.run import Row, Run, update_average
from stages.lib.train.task import Task


def train_batch(run: Run, task: Task, rows: np.ndarray, stopping: bool) -> Row:
    """Moves the weights by one batch, of which each process computes its parts.

    Args:
        rows: The batch's positions in the training split.
        stopping: Whether this process has been asked to stop.

    Returns:
        Sums over the batch: loss and weight, quality and count (see `losses.Objective`); and stops, the number of
        processes that have been asked to stop.

    Raises:
        UserError: The loss is not finite any more.
    """
    sums: Row = {}

    def closure() -> float:
        sums.update(forward_backward(run, task, rows, stopping))
        if not math.isfinite(sums["loss"]):
            raise UserError(
                f"the loss became {sums['loss']} in epoch {run.epoch}, batch {run.batch + 1}: try a lower train.lr, "
                "train.schedule.warmup_epochs or train.clip_norm"
            )
        return sums["loss"] / (sums["weight"] or 1.0)

    def penalised() -> float:
        extra = losses.penalty(run.model.parameters(), task.params.loss.l1, task.params.loss.l2)
        return closure() + float(extra)

    if isinstance(run.optimizer, torch.optim.LBFGS):  # evaluates several times per step, and uses the loss itself
        run.optimizer.step(penalised)
    else:
        closure()
        move_weights(run, task.params)
    run.schedule.after_batch()
    if run.averaged is not None and task.params.average is not None:
        update_average(run.averaged, run.model, task.params.average, run.schedule.batches)
    return sums


def move_weights(run: Run, params: TrainParams) -> None:
    """Clips the gradients and lets the optimizer step."""
    if params.clip_norm is not None:
        run.scaler.unscale_(run.optimizer)
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), params.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()


def forward_backward(run: Run, task: Task, rows: np.ndarray, stopping: bool = False) -> Row:
    """Sets the gradients to those of the batch's weighted mean loss plus the penalties, over all processes.

    Args, Returns: As in `train_batch`.
    """
    params, world = task.params, task.world
    drawn = drawing.draw(run, task, rows)
    total_weight = task.objective.weight(drawn.targets, drawn.weights)
    learning = [p for group in run.optimizer.param_groups for p in group["params"]]
    by_part = params.accumulate > 1 and batch_parts.dealt_whole(params.accumulate, world)
    statistics = RunningStatistics(run.model.network) if by_part else None

    def compute(part: BatchPart) -> list[Tensor]:
        for p in learning:
            p.grad = None
        sums = backward(run, task, drawn, part, total_weight, statistics)
        sums = torch.cat([sums, sums.new_tensor([float(stopping)])])
        return [*(p.grad for p in learning if p.grad is not None), sums]

    own = batch_parts.pairwise(batches.own_parts(len(rows), params.accumulate, world), compute)
    *gradients, sums = batch_parts.add_up(world, own, params.accumulate)
    for p, gradient in zip([p for p in learning if p.grad is not None], gradients, strict=True):
        p.grad = gradient
    if statistics is not None:
        statistics.update(world)
    if params.loss.l1 or params.loss.l2:  # after the sum over the processes, for it is the same in each
        run.scaler.scale(losses.penalty(learning, params.loss.l1, params.loss.l2)).backward()
    loss, quality, stops = sums.tolist()
    count = task.objective.count(drawn.targets, drawn.weights)
    return {"loss": loss, "weight": total_weight, "quality": quality, "count": count, "stops": stops}


def backward(
    run: Run, task: Task, drawn: Drawn, part: BatchPart, total_weight: float, statistics: RunningStatistics | None
) -> Tensor:
    """Sends a part of a batch forward and its loss backward.

    Args:
        total_weight: Of the whole batch, by which the sum of the losses is divided.
        statistics: Of the batch norms, where each part moves them by itself.

    Returns:
        The sums of the losses and of the answers' quality, (2,).
    """
    task.place.start, task.place.total = part.start, part.total
    if statistics is not None:
        batch_parts.seed(task.params.seed, run.epoch, run.batch, part.index)
    x = drawing.samples(run, task, drawn, part.rows)
    with devices.autocast(task.device, task.params.precision):
        try:
            answers = run.model.answer(x)
        except ValueError as error:  # batch norm of a single sample
            raise UserError(f"train.network can't learn from {len(x)} sample(s) at once: {error}") from None
    if statistics is not None:
        statistics.record()
    weights = None if drawn.weights is None else drawn.weights[part.rows].to(task.device)
    loss, quality = task.objective.sums(answers.float(), drawn.targets[part.rows].to(task.device), weights)
    run.scaler.scale(loss / (total_weight or 1.0)).backward()  # 0: no answer of the batch is known
    return torch.stack([loss.detach(), quality.detach()])
