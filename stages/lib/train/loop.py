"""The plain loop: epochs over shuffled mini-batches, validation after each; the rest is in `step`."""

import math
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stages.lib.core.progress import progress
from stages.lib.model.classifier import Classifier
from stages.lib.params.train import TrainParams
from stages.lib.train import batch_parts, batches, devices, gradients, losses
from stages.lib.train.batches import Piece
from stages.lib.train.interruption import Stop
from stages.lib.train.resume import Resume
from stages.lib.train.run import Best, Row, Run
from stages.lib.train.step import Task, train_batch, weighted_sums

GRADIENT_LOOKS = 8  # times an epoch that the gradients' norms are taken
EVALUATION_BATCHES = 4  # times as many samples as in training: nothing is kept for a backward pass


def fit(run: Run, task: Task, resume: Resume, stop: Stop) -> None:
    """Trains until the last epoch, or until patience ends; `run` then holds the history and the best weights."""
    while run.epoch <= task.params.epochs and not out_of_patience(run, task.params):
        started = time.perf_counter()
        stopped = train_epoch(run, task, resume, stop)
        validation = None if stopped else evaluate(run.judged, task, run.epoch, stop)
        if validation is None:
            resume.save(run.state())
            stop.leave()
        finish_epoch(run, task, validation)
        resume.save(run.state())
        tell(run.history[-1], task, time.perf_counter() - started)


def train_epoch(run: Run, task: Task, resume: Resume, stop: Stop) -> bool:
    """Goes through what is left of the epoch under way; True if it left between two batches, asked to stop."""
    params = task.params
    todo = batches.epoch_batches(len(task.train.y), params.batch_size, params.seed, run.epoch, params.accumulate)
    look_every = math.ceil(len(todo) / GRADIENT_LOOKS)
    saved = time.monotonic()
    run.model.train()
    if params.body_lr == 0:  # a frozen body keeps its statistics, too
        for layer in run.model.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
    for rows in progress(todo[run.batch :], f"train {task.name}, epoch {run.epoch} of {params.epochs}", "batch"):
        figures = train_batch(run, task, rows, bool(stop))
        stops = figures.pop("stops")
        if run.batch % look_every == 0:
            found = gradients.norms(run.model.network)
            if all(map(math.isfinite, found.values())):  # float16's are not, until its scale has been found
                figures |= found | {"looks": 1}
        for name, figure in figures.items():
            run.sums[name] = run.sums.get(name, 0.0) + figure
        run.batch += 1
        if stops:
            return True
        if time.monotonic() - saved > 60 * params.checkpoint_minutes:
            resume.save(run.state())
            saved = time.monotonic()
    return False


@torch.no_grad()
def evaluate(model: Classifier, task: Task, epoch: int, stop: Stop) -> Row | None:
    """Loss and accuracy over the validation split, if it has any case; None if it left early, asked to stop."""
    samples = len(task.validation.y)
    if samples == 0:
        return {}
    model.eval()
    size = max(1, EVALUATION_BATCHES * task.params.batch_size // task.params.accumulate)

    def compute(piece: Piece) -> list[Tensor]:
        sums = torch.zeros(2, device=task.device)
        for start in range(0, len(piece.rows), size):
            if stop:
                break
            x, y = batches.gather(task.validation, piece.rows[start : start + size], task.device)
            with devices.autocast(task.device, task.params.precision):
                logits = model.network(task.laid_out(model.normalise(x), epoch))
            sums += torch.stack(weighted_sums(logits.float(), losses.targets(y, len(task.classes)), task))
        return [torch.cat([sums, sums.new_tensor([float(bool(stop))])])]

    mine = batch_parts.pairwise(batches.pieces(samples, task.params.accumulate, task.world), compute)
    (figures,) = batch_parts.add_up(task.world, mine, task.params.accumulate)
    loss, correct, stops = figures.tolist()
    if stops:
        return None
    counts = np.bincount(task.validation.y, minlength=len(task.classes))
    return {"loss": loss / float(counts @ task.class_weights.numpy()), "accuracy": correct / samples}


def finish_epoch(run: Run, task: Task, validation: Row) -> None:
    """Writes the epoch's row, keeps its weights if they are the best yet, and turns to the next epoch."""
    sums = run.sums
    row: Row = {
        "epoch": run.epoch,
        "train_loss": sums["loss"] / sums["weight"],
        "train_accuracy": sums["correct"] / sums["samples"],
        "validation_loss": validation.get("loss", math.nan),
        "validation_accuracy": validation.get("accuracy", math.nan),
        "lr": run.optimizer.param_groups[-1]["lr"],
    }
    row |= {name: total / sums["looks"] for name, total in sums.items() if name.startswith("gradient")}
    run.history.append(row)
    keep = task.params.keep
    value = {"best_loss": row["validation_loss"], "best_accuracy": -row["validation_accuracy"], "last": -run.epoch}[
        keep
    ]
    whole = run.epoch > task.params.progressive.epochs  # a network of shrunk samples is no good for whole ones yet
    if whole and (value < run.best.value or not run.best.epoch):
        run.best = Best(run.epoch, value, run.weights())
    run.schedule.after_epoch(row["validation_loss"], comparable=whole)
    run.epoch, run.batch, run.sums = run.epoch + 1, 0, {}


def out_of_patience(run: Run, params: TrainParams) -> bool:
    """True when the validation loss of whole samples has had no new low for so many epochs."""
    values = [row["validation_loss"] for row in run.history[params.progressive.epochs :]]
    if params.patience is None or not values:
        return False
    return len(values) - 1 - values.index(min(values)) >= params.patience


def tell(row: Row, task: Task, seconds: float) -> None:
    """A line on the terminal; seconds go nowhere else, for no two runs have the same."""
    if task.world.rank == 0:
        print(
            f"{task.name} epoch {row['epoch']}/{task.params.epochs}: loss {row['train_loss']:.4f} "
            f"accuracy {row['train_accuracy']:.4f} | validation loss {row['validation_loss']:.4f} "
            f"accuracy {row['validation_accuracy']:.4f} | lr {row['lr']:.3g} | {seconds:.2f} s",
            file=sys.stderr,
        )
