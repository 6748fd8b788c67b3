"""One training of a study: dataset.h5 + folds.csv -> model.pt, which has seen all cases but those of its fold.

    python -m stages.member mine-fold0

It is a training as any other: cached, resumed after a kill, and the same bytes each time. Its fold is what it is
validated on, and its first layer is of the intensities of its own training cases.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages import train
from stages.lib import command, tensors
from stages.lib.core.machine import pin
from stages.lib.params.machine import MachineParams
from stages.lib.params.train import TrainParams
from stages.lib.studies import pool
from stages.lib.train import normalising
from stages.lib.train.parallel import distributed
from stages.lib.train.setup import Chosen


def main(
    dataset_h5: Path,
    folds_csv: Path,
    model_pt: Path,
    train_json: Path,
    history_csv: Path,
    params: TrainParams,
    item: Mapping[str, Any],
    machine: MachineParams = MachineParams(),
) -> None:
    """Args: item: Of studies.yaml: `dataset`, `name`, `fold`, and `seed` where it is not that of the params."""
    if params.processes > 1 and not distributed.is_launched():
        distributed.launch(main, params.processes, dict(locals()))
        return
    cases = pool.read(dataset_h5, folds_csv)
    others, held = cases.others(item["fold"]), cases.held(item["fold"])
    about = normalising.with_moments(tensors.read_description(dataset_h5), others.x)
    params = replace(params, seed=item.get("seed", params.seed))
    written = train.Outs(model_pt, train_json, history_csv)
    train.fit(dataset_h5, written, params, f"{item['dataset']}-{item['name']}", machine, Chosen(others, held, about))


if __name__ == "__main__":
    command.run(main, pin)
