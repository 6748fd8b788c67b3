"""The training loop: epochs of shuffled mini-batches with validation after each; one batch's step is in `step`."""

import math
import sys
import time

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stages.lib.core.progress import progress
from stages.lib.model.classifier import Classifier
from stages.lib.params.train import TrainParams
from stages.lib.train import batches, devices, losses
from stages.lib.train.batches import BatchPart
from stages.lib.train.diagnosis import gradients
from stages.lib.train.interruption import Checkpoints, Stop
from stages.lib.train.parallel import batch_parts, distributed
from stages.lib.train.run import Best, Row, Run
from stages.lib.train.step import train_batch
from stages.lib.train.task import Task

GRADIENT_MEASUREMENTS_PER_EPOCH = 8
EVALUATION_BATCH_FACTOR = 4  # batches this much larger than in training: nothing is kept for a backward pass


def fit(run: Run, task: Task, checkpoints: Checkpoints, stop: Stop) -> None:
    """Trains until the last epoch, or until patience ends; `run` then holds the history and the best weights."""
    while run.epoch <= task.epochs and not out_of_patience(run, task.params):
        started = time.perf_counter()
        stopped = train_epoch(run, task, checkpoints, stop)
        validation = None if stopped else evaluate(run.judged, task, run.epoch, stop)
        if validation is not None:
            finish_epoch(run, task, validation)
        with distributed.failing_together(task.world):  # a full disk
            checkpoints.save(run.state())
        if validation is None:
            stop.leave()
        print_epoch(run.history[-1], task, time.perf_counter() - started)


def train_epoch(run: Run, task: Task, checkpoints: Checkpoints, stop: Stop) -> bool:
    """Trains on the batches that are left of the current epoch.

    Returns:
        True if it ended early, between two batches, because a process was asked to stop.
    """
    params = task.params
    todo = batches.epoch_batches(len(task.train.y), task.batch_size, params.seed, run.epoch, params.accumulate)
    measure_every = math.ceil(len(todo) / GRADIENT_MEASUREMENTS_PER_EPOCH)
    set_to_train(run.model, params)
    for rows in progress(todo[run.batch :], f"train {task.name}, epoch {run.epoch} of {task.epochs}", "batch"):
        sums = train_batch(run, task, rows, bool(stop))
        stops = sums.pop("stops")
        if run.batch % measure_every == 0:
            norms = gradients.gradient_norms(run.model.network)
            if all(map(math.isfinite, norms.values())):  # float16's are not until the scaler has found its scale
                sums |= norms | {"measurements": 1}
        for name, value in sums.items():
            run.sums[name] = run.sums.get(name, 0.0) + value
        run.batch += 1
        if stops:
            return True
        if checkpoints.is_due():
            checkpoints.save(run.state())
    return False


def set_to_train(model: Classifier, params: TrainParams) -> None:
    """Training mode, in which a frozen body keeps its batch statistics too."""
    model.train()
    if params.body_lr == 0:
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()


@torch.no_grad()
def evaluate(model: Classifier, task: Task, epoch: int, stop: Stop) -> Row | None:
    """Loss and quality over the validation split; {} without validation cases, None if it was asked to stop."""
    samples = len(task.validation.y)
    if samples == 0:
        return {}
    model.eval()
    size = max(1, EVALUATION_BATCH_FACTOR * task.batch_size // task.params.accumulate)

    def compute(part: BatchPart) -> list[Tensor]:
        sums = torch.zeros(2, device=task.device)
        for start in range(0, len(part.rows), size):
            if stop:
                break
            rows = part.rows[start : start + size]
            x = batches.gather(task.validation, rows, task.device)
            with devices.autocast(task.device, task.params.precision):
                answers = model.answer(task.network_input(model.normalise(x), epoch))
            targets, weights = task.objective.targets(task.validation, rows), losses.weights_of(task.validation, rows)
            weights = None if weights is None else weights.to(task.device)
            sums += torch.stack(task.objective.sums(answers.float(), targets.to(task.device), weights))
        return [torch.cat([sums, sums.new_tensor([float(bool(stop))])])]

    own = batch_parts.pairwise(batches.own_parts(samples, task.params.accumulate, task.world), compute)
    (sums,) = batch_parts.add_up(task.world, own, task.params.accumulate)
    loss, quality, stops = sums.tolist()
    if stops:
        return None
    weight, count = task.objective.of_split(task.validation)
    return {"loss": _ratio(loss, weight), "quality": _ratio(quality, count)}


def _ratio(total: float, of: float) -> float:
    return total / of if of else math.nan  # no case counts, or none has an answer that is known


def finish_epoch(run: Run, task: Task, validation: Row) -> None:
    """Adds the epoch's row to the history, keeps its weights if they are the best so far, and begins the next epoch."""
    sums, quality, in_unit = run.sums, task.objective.quality, task.objective.in_unit
    row: Row = {
        "epoch": run.epoch,
        "train_loss": in_unit(_ratio(sums["loss"], sums["weight"])),
        f"train_{quality}": _ratio(sums["quality"], sums["count"]),
        "validation_loss": in_unit(validation.get("loss", math.nan)),
        f"validation_{quality}": validation.get("quality", math.nan),
        "lr": run.optimizer.param_groups[-1]["lr"],
    }
    row |= {name: total / sums["measurements"] for name, total in sums.items() if name.startswith("gradient")}
    run.history.append(row)
    values = {"best_loss": row["validation_loss"], "best_accuracy": -row[f"validation_{quality}"], "last": -run.epoch}
    value = values[task.keep]
    full_size = run.epoch > task.params.progressive.epochs  # weights of shrunk samples are not yet good for full size
    is_first = not run.best.epoch or math.isnan(run.best.value)  # nothing is less than nan, and anything better
    if full_size and (value < run.best.value or is_first):
        run.best = Best(run.epoch, value, run.weights())
    run.schedule.after_epoch(row["validation_loss"], comparable=full_size)
    run.epoch, run.batch, run.sums = run.epoch + 1, 0, {}


def out_of_patience(run: Run, params: TrainParams) -> bool:
    """Whether `train.patience` epochs of samples in full size have passed without a new lowest validation loss."""
    values = [row["validation_loss"] for row in run.history[params.progressive.epochs :]]
    values = [math.inf if math.isnan(value) else value for value in values]
    if params.patience is None or not values:
        return False
    return len(values) - 1 - values.index(min(values)) >= params.patience


def print_epoch(row: Row, task: Task, seconds: float) -> None:
    """A line on the terminal. The seconds go nowhere else, since they differ from run to run."""
    quality = task.objective.quality
    if task.world.rank == 0:
        print(
            f"{task.name} epoch {row['epoch']}/{task.epochs}: loss {row['train_loss']:.4f} "
            f"{quality} {row[f'train_{quality}']:.4f} | validation loss {row['validation_loss']:.4f} "
            f"{quality} {row[f'validation_{quality}']:.4f} | lr {row['lr']:.3g} | {seconds:.2f} s",
            file=sys.stderr,
        )
