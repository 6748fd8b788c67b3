"""train.json, and the line on the terminal at a run's start: how large the network is, and how the run went."""

import sys
from functools import partial
from typing import Any

import torch

from stages.lib.model.checkpoint import Recipe
from stages.lib.model.complexity import complexity
from stages.lib.train.diagnosis import capacity, evidence, verdict
from stages.lib.train.run import Run
from stages.lib.train.task import Task


def print_size(recipe: Recipe, run: Run, task: Task) -> None:
    """A line on the terminal: which network is about to be trained, on what."""
    if task.world.rank == 0:
        size = network_size(recipe, run, task)
        print(
            f"{task.name}: {size['network']} with {size['parameters']:,} parameters, {size['multiply_adds']:,} "
            f"multiply-adds per sample of {'x'.join(map(str, recipe.description['shape']))}; {len(task.train.y):,} "
            f"training and {len(task.validation.y):,} validation cases; {task.epochs} epochs in batches of "
            f"{task.batch_size}; {task.device}",
            file=sys.stderr,
        )


def summarise(run: Run, task: Task, recipe: Recipe) -> dict[str, Any]:
    """What train.json holds: the network's size, loss and quality of the epoch that was kept, and the diagnosis.

    Args:
        run: One whose judged model has the weights that are kept.
    """
    kept, quality = run.history[run.best.epoch - 1], task.objective.quality
    found = evidence.gather(run.judged, task)
    diagnosis = verdict.diagnose(
        run.history, found, task.params.progressive.epochs, quality, partial(capacity.capacity, task, recipe)
    )
    return {
        **network_size(recipe, run, task),
        "epochs": len(run.history),
        "best_epoch": run.best.epoch,
        "diagnosis": diagnosis,
        **{split: {name: kept[f"{split}_{name}"] for name in ("loss", quality)} for split in ("train", "validation")},
    }


def network_size(recipe: Recipe, run: Run, task: Task) -> dict[str, Any]:
    """The network's name and `complexity`."""
    x = torch.zeros(1, *recipe.description["shape"], device=task.device)
    return {"network": recipe.network, **complexity(run.model, x)}
