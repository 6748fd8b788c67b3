"""What every stage's `__main__` does: `run(main)` finds the paths in dvc.yaml and the params in params.yaml.

    python -m stages.train digits

A stage's `main` names its outs and deps as parameters, spelt like the file: `models/digits/model.pt` is `model_pt`,
`data/raw/digits` is `raw`. So dvc.yaml stays the only file that spells data paths, and tests call `main` with paths
of their own.
"""

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.lib import params
from stages.lib.core import machine
from stages.lib.core.errors import UserError

PARAMS_YAML = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")


def run(main: Callable[..., None]) -> None:
    """Runs a stage's `main` for the dataset that the command line names; a user's mistake exits 1 with one message.

    `main` receives the stage's paths by name, `params` (the stage's section), and, where it asks for them, `dataset`
    (the name) for its messages. A section that has `threads` and `portable` pins the machine first.
    """
    stage = Path(inspect.getfile(main)).stem
    description = (inspect.getmodule(main).__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    parser.add_argument("dataset", help="a block of params.yaml's `datasets`")
    dataset = parser.parse_args().dataset
    try:
        section = params.load(PARAMS_YAML).section(dataset, stage)
        if hasattr(section, "portable"):
            machine.pin(section.threads, section.portable)
        main(**arguments(main, stage, dataset, section))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def arguments(main: Callable[..., None], stage: str, dataset: str, section: Any) -> dict[str, Any]:
    """The keyword arguments of a stage's `main`.

    Raises:
        TypeError: dvc.yaml and `main` disagree about the stage's paths.
    """
    paths = stage_paths(stage, dataset)
    wanted = set(inspect.signature(main).parameters)
    if wanted - {"params", "dataset"} != set(paths):
        raise TypeError(f"stages/{stage}.py's main takes {sorted(wanted)}, but dvc.yaml's stage has {sorted(paths)}")
    return paths | {"params": section} | ({"dataset": dataset} if "dataset" in wanted else {})


def stage_paths(stage: str, dataset: str, dvc_yaml: Path = DVC_YAML) -> dict[str, Path]:
    """The data paths of a stage of dvc.yaml, deps and outs alike, by name (see the module's docstring).

    Raises:
        UserError: dvc.yaml is missing, or the stage is not for this dataset.
    """
    if not dvc_yaml.exists():
        raise UserError(f"{dvc_yaml} not found: run from the repository's root")
    entry = YAML(typ="safe", pure=True).load(dvc_yaml)["stages"][stage]
    if isinstance(entry["foreach"], list) and dataset not in entry["foreach"]:
        raise UserError(f"dvc.yaml: the stage '{stage}' is for {', '.join(entry['foreach'])}, not for '{dataset}'")
    named = {}
    for kind in ("deps", "outs", "metrics", "plots"):
        for item in entry["do"].get(kind, []):
            spelt = next(iter(item)) if isinstance(item, dict) else item
            path = Path(spelt.replace("${key}", dataset).replace("${item}", dataset))
            if path.parts[0] != "stages" and path.name != "requirements.txt":  # code is no argument
                raw = path.parent.name == "raw"
                named["raw" if raw else path.name.replace(".", "_").replace("-", "_")] = path
    return named
