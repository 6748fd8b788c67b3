"""One step of the optimizer: a batch forward, its loss backward, the weights moved."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.lib.core.errors import UserError
from stages.lib.params.train import TrainParams
from stages.lib.tensors import Split
from stages.lib.train import augment, batch_parts, batches, devices, losses, random_by_case
from stages.lib.train.batch_parts import RunningStatistics
from stages.lib.train.batches import Piece
from stages.lib.train.distributed import World
from stages.lib.train.run import Row, Run, update_average
from stages.lib.train.synchronised_layers import Place


@dataclass(frozen=True)
class Task:
    """What stays as it is while a model is trained."""

    name: str  # of the dataset, for messages
    params: TrainParams
    classes: Sequence[str]
    train: Split
    validation: Split
    class_weights: Tensor  # (classes,)
    device: torch.device
    world: World
    place: Place  # of this process's samples in the batch

    def laid_out(self, x: Tensor, epoch: int) -> Tensor:
        """Samples (n, C, ...) as the network gets them: shrunk in the first epochs, if so wanted, and in memory as its
        weights are, for a convolution would turn them again and again."""
        if epoch <= self.params.progressive.epochs:
            x = functional.interpolate(x, shrunk(x.shape[2:], self.params.progressive.scale), mode="area")
        return x.contiguous(memory_format=devices.layout(self.params.channels_last, x.ndim))


def shrunk(size: Sequence[int], scale: float) -> list[int]:
    """The shape of a sample in the epochs of `train.progressive`."""
    return [max(1, round(length * scale)) for length in size]


def train_batch(run: Run, task: Task, rows: np.ndarray, stopping: bool) -> Row:
    """Moves the weights by one batch, of which each process computes its share.

    Returns:
        Sums over the batch: loss (weighted), weight, correct, samples; and stops, above 0 if any process is asked to.

    Raises:
        UserError: The loss is no number any more.
    """
    figures: Row = {}

    def closure() -> float:
        figures.update(forward_backward(run, task, rows, stopping))
        if not math.isfinite(figures["loss"]):
            raise UserError(
                f"the loss became {figures['loss']} in epoch {run.epoch}, batch {run.batch + 1}: try a lower train.lr, "
                "train.schedule.warmup_epochs or train.clip_norm"
            )
        return figures["loss"] / figures["weight"]

    def penalised() -> float:
        extra = losses.penalty(run.model.parameters(), task.params.loss.l1, task.params.loss.l2)
        return closure() + float(extra)

    if isinstance(run.optimizer, torch.optim.LBFGS):  # looks several times a step, at the loss too
        run.optimizer.step(penalised)
    else:
        closure()
        move(run, task.params)
    run.schedule.after_batch()
    if run.averaged is not None and task.params.average is not None:
        update_average(run.averaged, run.model, task.params.average, run.schedule.batches)
    return figures


def move(run: Run, params: TrainParams) -> None:
    """Clips the gradients and lets the optimizer step."""
    if params.clip_norm is not None:
        run.scaler.unscale_(run.optimizer)
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), params.clip_norm)
    run.scaler.step(run.optimizer)
    run.scaler.update()


def forward_backward(run: Run, task: Task, rows: np.ndarray, stopping: bool = False) -> Row:
    """Sets the gradients to those of the batch's weighted mean loss plus the penalties, over all processes."""
    params, world = task.params, task.world
    drawn = draw(run, task, rows)
    total_weight = float((drawn.shares @ task.class_weights).sum())
    learning = [p for group in run.optimizer.param_groups for p in group["params"]]
    parted = params.accumulate > 1 and batch_parts.whole(params.accumulate, world)
    remembered = batch_parts.RunningStatistics(run.model.network) if parted else None

    def compute(piece: Piece) -> list[Tensor]:
        for p in learning:
            p.grad = None
        figures = backward(run, task, drawn, piece, total_weight, remembered)
        figures = torch.cat([figures, figures.new_tensor([float(stopping)])])
        return [*(p.grad for p in learning if p.grad is not None), figures]

    mine = batch_parts.pairwise(batches.pieces(len(rows), params.accumulate, world), compute)
    *gradients, figures = batch_parts.add_up(world, mine, params.accumulate)
    for p, gradient in zip([p for p in learning if p.grad is not None], gradients, strict=True):
        p.grad = gradient
    if remembered is not None:
        remembered.move(world)
    if params.loss.l1 or params.loss.l2:  # the same in every process
        run.scaler.scale(losses.penalty(learning, params.loss.l1, params.loss.l2)).backward()
    loss, correct, stops = figures.tolist()
    return {"loss": loss, "weight": total_weight, "correct": correct, "samples": len(rows), "stops": stops}


def backward(
    run: Run, task: Task, drawn: "Drawn", piece: Piece, total_weight: float, remembered: RunningStatistics | None
) -> Tensor:
    """Sends a piece of a batch forward and its loss backward; the sums of loss and correct answers (2,)."""
    task.place.start, task.place.total = piece.start, piece.total
    if remembered is not None:
        batch_parts.seed(task.params.seed, run.epoch, run.batch, piece.part)
    x = samples(run, task, drawn, piece.rows)
    with devices.autocast(task.device, task.params.precision):
        try:
            logits = run.model.network(x)
        except ValueError as error:  # batch norm of a single sample
            raise UserError(f"train.network can't learn from {len(x)} sample(s) at once: {error}") from None
    if remembered is not None:
        remembered.note()
    loss, correct = weighted_sums(logits.float(), drawn.shares[piece.rows].to(task.device), task)
    run.scaler.scale(loss / total_weight).backward()
    return torch.stack([loss.detach(), correct])


@dataclass(frozen=True)
class Drawn:
    """A batch before its pixels are read."""

    rows: np.ndarray  # (n,) positions in the training split
    keys: Tensor | None  # (n,) for this epoch's augmentation, if there is any
    shares: Tensor  # (n, classes) of the targets
    partners: np.ndarray | None  # (n,) positions of what each is blended with
    own: np.ndarray | None  # (n,) the share of itself that stays


def draw(run: Run, task: Task, rows: np.ndarray) -> Drawn:
    """The batch's chances and targets; every process draws all of them."""
    params = task.params
    classes = len(task.classes)
    keys = keys_of(run, task, rows) if params.augment.draws else None
    shares = losses.targets(torch.from_numpy(task.train.y[rows]), classes)
    if keys is None or not params.augment.mixup:
        return Drawn(rows, keys, shares, None, None)
    partners, own = augment.mixing(keys, params.augment, len(task.train.y))
    others = losses.targets(torch.from_numpy(task.train.y[partners]), classes)
    return Drawn(rows, keys, others.lerp(shares, torch.from_numpy(own)[:, None]), partners, own)


def keys_of(run: Run, task: Task, rows: np.ndarray) -> Tensor:
    """What the chances of these samples (n,) in the epoch under way are drawn from."""
    return random_by_case.epoch_keys(random_by_case.case_keys(task.train.case[rows]), task.params.seed, run.epoch)


def samples(run: Run, task: Task, drawn: Drawn, mine: np.ndarray) -> Tensor:
    """The samples `mine` of a batch, normalised, augmented and blended: (n, C, ...) float32 on the device."""

    def changed(rows: np.ndarray, keys: Tensor | None) -> Tensor:
        x, _ = batches.gather(task.train, rows, task.device)
        x = run.model.normalise(x)
        return x if keys is None else augment.augment(x, keys.to(task.device), task.params.augment)

    x = changed(drawn.rows[mine], None if drawn.keys is None else drawn.keys[mine])
    if drawn.partners is not None and drawn.own is not None:
        partners = drawn.partners[mine]
        others = changed(partners, keys_of(run, task, partners))
        own = torch.from_numpy(drawn.own[mine]).to(task.device)
        x = others.lerp(x, own.view(-1, *[1] * (x.ndim - 1)))
    return task.laid_out(x, run.epoch)


def weighted_sums(logits: Tensor, shares: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """The sum of the samples' losses, each times its class's weight; and how many samples are right.

    Args:
        logits: (n, classes); shares: (n, classes) of the targets, not smoothed.
    """
    params = task.params.loss
    smooth = shares
    if params.label_smoothing:
        smooth = shares * (1 - params.label_smoothing) + params.label_smoothing / len(task.classes)
    weights = shares @ task.class_weights.to(shares.device)  # (n,)
    correct = (logits.argmax(1) == shares.argmax(1)).sum()
    return (losses.LOSSES[params.name](logits, smooth) * weights).sum(), correct.float()
