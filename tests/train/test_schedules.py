"""Every scheduler, after any warm-up, takes as many steps as a run has, and goes on where a stopped run ended."""

import itertools

import pytest
import torch
from torch import nn

from stages.lib.params.train import ScheduleParams
from stages.lib.train.schedules import Schedule

EPOCHS, BATCHES = 5, 4
NAMED = {
    "OneCycleLR": {},
    "CosineAnnealingLR": {},
    "CyclicLR": {"base_lr": 0.01},
    "LinearLR": {},
    "PolynomialLR": {"total_iters": 4},
    "StepLR": {"step_size": 2},
    "ReduceLROnPlateau": {"patience": 0},
}
CASES = [
    (name, every, warmup)
    for name, every, warmup in itertools.product(NAMED, ("epoch", "batch"), (0.0, 0.25, 1.0, 1.5, 2.9, 5.0))
    if (name, every) != ("ReduceLROnPlateau", "batch")
]


def begun(name: str, every: str, warmup: float) -> tuple[torch.optim.Optimizer, Schedule]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    params = ScheduleParams(name=name, every=every, warmup_epochs=warmup, arguments=NAMED[name])
    return optimizer, Schedule(params, optimizer, EPOCHS, BATCHES)


def rates(optimizer: torch.optim.Optimizer, schedule: Schedule, stop_at: int | None = None) -> list[float]:
    """The rate before each batch from where the schedule is to the end, or to a number of batches."""
    found = []
    for number in range(schedule.batches, EPOCHS * BATCHES):
        if number == stop_at:
            break
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after_batch()
        if not schedule.batches % BATCHES:
            schedule.after_epoch(1.0)
    return found


@pytest.mark.parametrize(("name", "every", "warmup"), CASES)
def test_a_run_ends_with_any_warm_up_and_goes_on_with_the_same_rates_after_a_stop(name, every, warmup):
    whole = rates(*begun(name, every, warmup))
    assert len(whole) == EPOCHS * BATCHES
    for stop_at in (1, 3, 4, 6, 11):
        optimizer, schedule = begun(name, every, warmup)
        before = rates(optimizer, schedule, stop_at)
        state, of_optimizer = schedule.state_dict(), optimizer.state_dict()
        later, resumed = begun(name, every, warmup)
        later.load_state_dict(of_optimizer)
        resumed.load_state_dict(state)
        assert before + rates(later, resumed) == whole


@pytest.mark.parametrize("warmup", [0.5, 1.5, 2.5])
def test_one_cycle_an_epoch_comes_to_rest_at_the_end_after_a_warm_up_that_ends_within_an_epoch(warmup):
    assert rates(*begun("OneCycleLR", "epoch", warmup))[-1] < 0.01 * 0.1
