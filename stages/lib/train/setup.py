"""From dataset.h5 and params to what the loop needs: the task, which stays, and a run at its beginning."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint, networks
from stages.lib.model.checkpoint import Recipe
from stages.lib.model.classifier import Classifier
from stages.lib.params.train import TrainParams
from stages.lib.tensors import Description, Split
from stages.lib.train import (
    batches,
    devices,
    losses,
    normalising,
    optimizers,
    pretrained,
    run,
)
from stages.lib.train.parallel import batch_parts, synchronised_layers
from stages.lib.train.parallel.distributed import World
from stages.lib.train.parallel.synchronised_layers import Place
from stages.lib.train.run import Run
from stages.lib.train.schedules import Schedule
from stages.lib.train.task import Task, shrunk_size

WHITENING_SAMPLES = 256  # of the training split, from which `compact` finds its first layer
EPOCHS, MOST_EPOCHS = 20, 100
FEWEST_STEPS = 400  # of the optimizer, in a run
PRESET_EPOCHS = {"quick": 0.5, "good": 1.0, "best": 3.0}
BATCH, SMALLEST_BATCH = 64, 4
BATCH_OF_FEW = 16  # however few cases there are: batch norm needs some
BATCH_NUMBERS = 1 << 21  # pixels times channels of a batch
FEWEST_BATCHES = 8  # an epoch
SHIFT = 16  # a side is this many times as long as a shift


@dataclass(frozen=True)
class Chosen:
    """Cases of another split than that of dataset.h5."""

    train: Split
    validation: Split
    about: Description  # dataset.h5's, with the moments of these training cases

    def identity(self) -> bytes:
        """A hash of which cases these are."""
        parts = [split.case.tobytes() + b"\n" for split in (self.train, self.validation)]
        return hashlib.sha256(b"".join(parts)).digest()


def prepare(
    dataset_h5: Path,
    params: TrainParams,
    dataset: str,
    device: torch.device,
    world: World,
    chosen: Chosen | None = None,
) -> tuple[Task, Recipe]:
    """Reads the splits, and lays down the model that is to learn them.

    Args:
        chosen: What to train on instead.

    Raises:
        UserError: A split lacks cases that the params need, or a param does not fit the data.
    """
    about = tensors.read_description(dataset_h5)
    if chosen is None:
        chosen = Chosen(tensors.read_split(dataset_h5, "train"), tensors.read_split(dataset_h5, "validation"), about)
    train, validation = chosen.train, chosen.validation
    if len(train.y) == 0:
        raise UserError(f"{dataset_h5} has no training case: lower split.validation and split.test")
    params = settled(params, len(train.y), about.shape)
    if len(train.y) < params.accumulate:
        raise UserError(
            f"train.accumulate is {params.accumulate}: there are only {len(train.y)} training cases to part"
        )
    check_axes(params, len(about.shape) - 1)
    objective = losses.objective(params.loss, train, about.asked)
    if not objective.of_split(train)[1]:
        raise UserError(f"{dataset_h5} has no training case that counts: the answers of all are unknown or of weight 0")
    if not objective.of_split(validation)[1] and (params.keep != "last" or params.patience is not None):
        raise UserError(
            f"{dataset_h5} has no validation case to choose an epoch by, whose answer is known and of a weight above "
            "0: raise split.validation, or set train.keep: last and train.patience: null"
        )
    normalise = normalising.arguments(params.normalise, chosen.about, train.x)
    recipe = Recipe(params.network.name, dict(params.network.arguments), normalise, about.plain())
    return Task(dataset, params, objective, train, validation, device, world, Place()), recipe


def settled(params: TrainParams, cases: int, shape: Sequence[int]) -> TrainParams:
    """Params in which nothing is left open.

    Args:
        cases: Of the training split.
        shape: Of a sample, (C, H, W) or (C, D, H, W).
    """
    batch_size = params.batch_size or _batch_size(cases, math.prod(shape), params.accumulate)
    epochs = params.epochs or max(
        _epochs(math.ceil(cases / batch_size), PRESET_EPOCHS[params.preset]), params.progressive.epochs + 1
    )
    comes_to_rest = params.schedule.name == "OneCycleLR" and params.patience is None
    keep = params.keep or ("last" if comes_to_rest else "best_loss")
    shift = tuple(side // SHIFT for side in shape[1:]) if params.augment.shift is None else params.augment.shift
    return replace(
        params, epochs=epochs, batch_size=batch_size, keep=keep, augment=replace(params.augment, shift=shift)
    )


def _epochs(steps: int, factor: float) -> int:
    """Args:
    steps: Of the optimizer, in an epoch.
    factor: Of the preset.
    """
    return max(1, round(factor * min(MOST_EPOCHS, max(EPOCHS, math.ceil(FEWEST_STEPS / max(1, steps))))))


def _batch_size(cases: int, numbers: int, accumulate: int) -> int:
    """A power of two, unless a batch is cut into more parts.

    Args:
        numbers: Of a sample.
    """
    most = min(BATCH, BATCH_NUMBERS // numbers, max(BATCH_OF_FEW, cases // FEWEST_BATCHES))
    return max(1 << max(0, most.bit_length() - 1), SMALLEST_BATCH, accumulate)


def begin(task: Task, recipe: Recipe) -> Run:
    """A fresh run: weights drawn by the seed, optimizer and schedule at their start.

    Raises:
        UserError: The network, optimizer or scheduler refuses an argument.
    """
    params = task.params
    devices.set_deterministic(params.deterministic, params.compile)
    torch.manual_seed(params.seed)
    try:
        model = checkpoint.build(recipe)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"train.network: {error}") from None
    size = recipe.description["shape"][1:]
    try_out(model, recipe, size)
    if params.progressive.epochs:
        try_out(model, recipe, shrunk_size(size, params.progressive.scale), "train.progressive")
    pretrained.begin_from(params, recipe, model)
    if isinstance(model.network, networks.Compact) and not (params.warm_start or params.pretrained):
        # Its first layer is computed from the data, not trained.
        rows = batches.epoch_batches(len(task.train.y), WHITENING_SAMPLES, params.seed, 0)[0][:WHITENING_SAMPLES]
        x = batches.gather(task.train, rows, torch.device("cpu"))
        model.network.see(model.normalise(x))
    model.to(task.device)
    if params.channels_last:
        model.network.to(memory_format=devices.layout(True, task.train.x.ndim))
    optimizer = optimizers.make(params, model.network, checkpoint.outputs(recipe))
    steps = len(batches.epoch_batches(len(task.train.y), task.batch_size, params.seed, 1, params.accumulate))
    schedule = Schedule(params.schedule, optimizer, task.epochs, steps)
    scaler = torch.amp.GradScaler(task.device.type, enabled=params.precision == "float16")
    averaged = run.average_of(model) if params.average is not None else None
    if not batch_parts.dealt_whole(params.accumulate, task.world):
        synchronised_layers.synchronise(model.network, task.place)
    if params.compile:
        model.network.compile()
    return Run(model, optimizer, schedule, scaler, averaged)


def check_axes(params: TrainParams, dims: int) -> None:
    """Checks that augmentation shifts and flips along axes that the data has.

    Raises:
        UserError: It would not.
    """
    axes = "DHW"[-dims:]
    shift = params.augment.shift or (0,)
    if len(shift) not in (1, dims):
        raise UserError(f"train.augment.shift has {len(shift)} numbers: expected one, or one for each of {axes}")
    if set(params.augment.flip) - set(axes):
        raise UserError(f"train.augment.flip is {params.augment.flip}: the data has the axes {axes}")


@torch.no_grad()
def try_out(model: Classifier, recipe: Recipe, size: Sequence[int], asked_by: str = "train.network") -> None:
    """Sends one sample of zeros through a fresh model.

    Args:
        size: Of the sample, (H, W) or (D, H, W).
        asked_by: The key of params.yaml that asks for this size, for the message.

    Raises:
        UserError: The network can't process samples of this size.
    """
    shape = [recipe.description["shape"][0], *size]
    try:
        model.eval()(torch.zeros(1, *shape))
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        samples = "x".join(map(str, shape))
        raise UserError(f"{asked_by}: {recipe.network} can't do with samples of {samples}: {error}") from None
    model.train()
