"""Trains a network on dataset.h5: the best epoch's weights, the curves, and a diagnosis.

python -m stages.train digits
torchrun --nproc-per-node 4 -m stages.train digits          # what train.processes: 4 does; or on several nodes
"""

from pathlib import Path

import pandas as pd

from stages.lib import command
from stages.lib.core import outs
from stages.lib.core.machine import keep_freed_memory, pin
from stages.lib.model import checkpoint
from stages.lib.params.train import TrainParams
from stages.lib.train import devices, distributed, loop, setup, summary
from stages.lib.train.interruption import on_signals
from stages.lib.train.resume import Resume, identity


def main(
    dataset_h5: Path, model_pt: Path, train_json: Path, history_csv: Path, params: TrainParams, dataset: str = "dataset"
) -> None:
    """Trains, or goes on with an interrupted run, and writes the three outs."""
    if params.processes > 1 and not distributed.launched():
        distributed.launch(main, params.processes, dict(locals()))
        return
    keep_freed_memory()
    device = devices.choose(params.device, distributed.local_rank())
    with distributed.joined(device, params.threads) as world, on_signals() as stop:
        with distributed.together(world):
            task, recipe = setup.prepare(dataset_h5, params, dataset, device, world)
            run = setup.begin(task, recipe)
            resume = Resume(model_pt.parent / ".resume", identity(params, dataset_h5, world.size), world.rank == 0)
            if state := resume.load():
                run.restore(state)
        summary.tell_size(recipe, run, task)
        loop.fit(run, task, resume, stop)
        if world.rank == 0:
            run.judged.load_state_dict(run.best.weights)
            checkpoint.save(model_pt, recipe, run.judged)
            outs.write_csv(history_csv, pd.DataFrame(run.history))
            written = summary.summary(run, task, recipe)
            outs.write_json(train_json, written)
            print(written["diagnosis"]["sentence"])
        resume.remove()


if __name__ == "__main__":
    command.run(main, pin)
