"""train.json and the lines at a run's start."""

import sys
from typing import Any

import torch

from stages.lib.model.checkpoint import Recipe
from stages.lib.train.complexity import complexity
from stages.lib.train.diagnosis import diagnose
from stages.lib.train.run import Run
from stages.lib.train.step import Task


def size(recipe: Recipe, run: Run, task: Task) -> dict[str, Any]:
    """The network's name, parameters and multiply-adds a sample."""
    x = torch.zeros(1, *recipe.description["shape"], device=task.device)
    return {"network": recipe.network, **complexity(run.model, x)}


def tell_size(recipe: Recipe, run: Run, task: Task) -> None:
    """A line on the terminal: what is about to be trained, on what."""
    if task.world.rank == 0:
        about = size(recipe, run, task)
        print(
            f"{task.name}: {about['network']} with {about['parameters']:,} parameters, {about['multiply_adds']:,} "
            f"multiply-adds a sample of {'x'.join(map(str, recipe.description['shape']))}; {len(task.train.y):,} "
            f"training and {len(task.validation.y):,} validation cases; {task.device}",
            file=sys.stderr,
        )


def summary(run: Run, task: Task, recipe: Recipe) -> dict[str, Any]:
    """What train.json holds: the network's size, and loss and accuracy at the epoch that was kept."""
    kept = run.history[run.best.epoch - 1]
    return {
        **size(recipe, run, task),
        "epochs": len(run.history),
        "best_epoch": run.best.epoch,
        "diagnosis": diagnose(run.history, task.params.progressive.epochs),
        **{
            split: {figure: kept[f"{split}_{figure}"] for figure in ("loss", "accuracy")}
            for split in ("train", "validation")
        },
    }
