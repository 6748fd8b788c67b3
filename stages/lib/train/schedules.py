"""Any scheduler of torch.optim.lr_scheduler by name, after a linear warm-up."""

import inspect
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from stages.lib.core.errors import UserError
from stages.lib.params.train import ScheduleParams
from stages.lib.train import torch_classes

CYCLES = ("OneCycleLR", "CyclicLR")  # which go up and down within epochs
WARMUP_START = 0.01  # fraction of lr that a warm-up starts from


class Schedule:
    """Moves the optimizer's learning rates; the step calls `after_batch`, the loop `after_epoch`."""

    def __init__(self, params: ScheduleParams, optimizer: Optimizer, epochs: int, batches: int) -> None:
        """
        Args:
            epochs: Of the whole run.
            batches: Per epoch.

        Raises:
            UserError: The scheduler refuses an argument.
        """
        self._every = params.every or ("batch" if params.name in CYCLES else "epoch")
        self._warmup_batches = round(params.warmup_epochs * batches)
        # An epoch within which the warm-up ends is followed by a step of the scheduler, as `after_epoch` has it.
        warm_epochs = self._warmup_batches // max(1, batches)
        steps = epochs * batches - self._warmup_batches if self._every == "batch" else epochs - warm_epochs
        self._main = _make(params, optimizer, max(1, steps))
        self._warmup = (
            lr_scheduler.LinearLR(optimizer, WARMUP_START, total_iters=self._warmup_batches)
            if self._warmup_batches
            else None
        )
        self.batches = 0  # steps of the optimizer so far

    def after_batch(self) -> None:
        self.batches += 1
        if self._warmup is not None and self.batches <= self._warmup_batches:
            self._warmup.step()
        elif self._main is not None and self._every == "batch":
            self._step()

    def after_epoch(self, validation_loss: float, comparable: bool = True) -> None:
        """Args: comparable: Whether later epochs' losses compare with this one; shrunk samples' do not."""
        if self._main is None or self._every == "batch" or self.batches <= self._warmup_batches:
            return
        if not isinstance(self._main, lr_scheduler.ReduceLROnPlateau):
            self._step()
        elif comparable:
            self._step(validation_loss)

    def _step(self, *losses: float) -> None:
        try:
            self._main.step(*losses)
        except ValueError as error:  # OneCycleLR that was given too few total_steps
            raise UserError(f"train.schedule: {error}") from None

    def state_dict(self) -> dict[str, Any]:
        schedulers = {"main": self._main, "warmup": self._warmup}
        return {"batches": self.batches} | {
            name: scheduler.state_dict() for name, scheduler in schedulers.items() if scheduler is not None
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]
        if self._main is not None:
            self._main.load_state_dict(state["main"])
        if self._warmup is not None:
            self._warmup.load_state_dict(state["warmup"])


def _make(params: ScheduleParams, optimizer: Optimizer, steps: int) -> Any:
    """The scheduler that `train.schedule` names, or None.

    Args:
        steps: How often it steps after the warm-up.
    """
    if params.name is None:
        return None
    key = "train.schedule"
    scheduler = getattr(lr_scheduler, params.name)
    if scheduler is lr_scheduler.ReduceLROnPlateau and params.every == "batch":
        raise UserError(f"{key}.every: ReduceLROnPlateau looks at the validation loss, so it steps every epoch")
    accepted = inspect.signature(scheduler).parameters
    has_momentum = not {"momentum", "betas"}.isdisjoint(optimizer.defaults)
    defaults = {"T_max": steps, "total_steps": steps, "max_lr": [group["lr"] for group in optimizer.param_groups]}
    if not has_momentum:
        defaults["cycle_momentum"] = False  # else torch refuses the optimizer
    supplied = {name: value for name, value in defaults.items() if name in accepted and name not in params.arguments}
    if "epochs" in params.arguments:  # OneCycleLR's other way to give total_steps
        supplied.pop("total_steps", None)
    return torch_classes.make(f"{key}.arguments", scheduler, params.arguments, {"optimizer": optimizer} | supplied)
