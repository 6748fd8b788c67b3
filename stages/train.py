"""Trains a network on dataset.h5: the best epoch's weights, the curves, and a diagnosis.

python -m stages.train digits
"""

from pathlib import Path

import pandas as pd

from stages.lib import checkpoint, command, loop, outs, setup, summary
from stages.lib.params.train import TrainParams
from stages.lib.resume import Resume, identity
from stages.lib.stopping import on_signals


def main(
    dataset_h5: Path, model_pt: Path, train_json: Path, history_csv: Path, params: TrainParams, dataset: str = "dataset"
) -> None:
    """Trains, or goes on with an interrupted run, and writes the three outs."""
    task, recipe = setup.prepare(dataset_h5, params, dataset)
    run = setup.begin(task, recipe)
    summary.tell_size(recipe, run, task)
    resume = Resume(model_pt.parent / ".resume", identity(params, dataset_h5, task.world.size), task.world.rank == 0)
    if state := resume.load():
        run.restore(state)
    with on_signals() as stop:
        loop.fit(run, task, resume, stop)
    if task.world.rank == 0:
        run.judged.load_state_dict(run.best.weights)
        checkpoint.save(model_pt, recipe, run.judged)
        outs.write_csv(history_csv, pd.DataFrame(run.history))
        outs.write_json(train_json, summary.summary(run, task, recipe))
    resume.remove()


if __name__ == "__main__":
    command.run(main)
