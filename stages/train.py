"""Trains a network on dataset.h5: writes the best epoch's weights, the curves, and a diagnosis.

    python -m stages.train digits
    torchrun --nproc-per-node 4 -m stages.train digits    # as train.processes: 4 does; also on several nodes

Read on: `setup` makes what is trained, `loop` goes through the epochs, `step` moves the weights by one batch.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.lib import command
from stages.lib.core import outs
from stages.lib.core.machine import keep_freed_memory, pin
from stages.lib.core.progress import say
from stages.lib.model import checkpoint
from stages.lib.params.machine import MachineParams
from stages.lib.params.train import TrainParams
from stages.lib.train import devices, interruption, loop, setup, summary
from stages.lib.train.parallel import distributed
from stages.lib.train.setup import Chosen


@dataclass(frozen=True)
class Outs:
    """Where a training writes to."""

    model_pt: Path
    train_json: Path
    history_csv: Path


def main(
    dataset_h5: Path,
    model_pt: Path,
    train_json: Path,
    history_csv: Path,
    params: TrainParams,
    dataset: str = "dataset",
    machine: MachineParams = MachineParams(),
) -> None:
    """Trains, or continues an interrupted run, and writes the three outs."""
    if params.processes > 1 and not distributed.is_launched():
        distributed.launch(main, params.processes, dict(locals()))
        return
    fit(dataset_h5, Outs(model_pt, train_json, history_csv), params, dataset, machine)


def fit(
    dataset_h5: Path,
    written: Outs,
    params: TrainParams,
    dataset: str,
    machine: MachineParams,
    chosen: Chosen | None = None,
) -> None:
    """What each process of a training does.

    Args:
        dataset: Its name, for messages.
        chosen: Cases of another split than that of dataset.h5.
    """
    keep_freed_memory()
    device = devices.choose(params.device, distributed.local_rank())
    with ExitStack() as held:
        world = held.enter_context(distributed.process_group(device, params.threads))
        stop = held.enter_context(interruption.on_signals())
        with distributed.failing_together(world):
            task, recipe = setup.prepare(dataset_h5, params, dataset, device, world, chosen)
            run = setup.begin(task, recipe)
            cases = chosen.identity() if chosen else b""
            identity = interruption.run_identity(params, dataset_h5, world.size, device, cases)
            checkpoints = interruption.Checkpoints(
                written.model_pt.parent / ".resume", identity, machine.checkpoint_minutes, writes=world.rank == 0
            )
            held.enter_context(checkpoints)
            if state := checkpoints.load():
                run.restore(state)
        summary.print_size(recipe, run, task)
        loop.fit(run, task, checkpoints, stop)
        if world.rank == 0:
            run.judged.load_state_dict(run.best.weights)
            checkpoint.save(written.model_pt, recipe, run.judged)
            outs.write_csv(written.history_csv, pd.DataFrame(run.history))
            summarised = summary.summarise(run, task, recipe)
            outs.write_json(written.train_json, summarised)
            say(summarised["diagnosis"]["sentence"])
        checkpoints.finish(run.result(), written.model_pt)


if __name__ == "__main__":
    command.run(main, pin)
