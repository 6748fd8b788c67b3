"""Exports what a study asks for, the ensemble of its trainings or the best one, as one file in each format.

    python -m stages.export_study mine

The files are as those of the stage export, and checked as they are. How long they take is only told, as no out may
depend on the machine.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stages import export
from stages.lib import command, tensors
from stages.lib.core.machine import pin
from stages.lib.core.progress import say
from stages.lib.export import metadata, validation
from stages.lib.export.formats import file_format
from stages.lib.model import checkpoint
from stages.lib.model.complexity import complexity
from stages.lib.model.deployed import Settings
from stages.lib.model.deployed import deployed as deployed_as
from stages.lib.model.ensemble import Ensemble
from stages.lib.params.export import ExportParams
from stages.lib.params.ingest import IngestParams
from stages.lib.params.study import StudyParams

TIMED_SAMPLES = 64
ROUNDS = 5


def main(
    cases: Path,
    dataset_h5: Path,
    members: Path,
    study_json: Path,
    scores_csv: Path,
    model_torchscript: Path,
    model_onnx: Path,
    model_pt2: Path,
    variants: Path,
    card_md: Path,
    export_json: Path,
    params: ExportParams,
    ingest: IngestParams,
    study: StudyParams,
    dataset: str,
    network: Mapping[str, Any] = checkpoint.NO_NETWORK,
) -> None:
    """Args: members: The folder that has a folder for each training, by its name."""
    assert study.export is not None  # else studies.yaml has no such stage
    measured = validation.read_study(study_json, study.export, tensors.read_description(dataset_h5).asked)
    chosen = measured.pop("member", None)
    settings = Settings(**measured["deployed"])
    paths = {m.name: members / m.name / "model.pt" for m in study.members() if chosen in (None, m.name)}
    loaded = {name: checkpoint.load_for(dataset_h5, path, network) for name, path in paths.items()}
    about = next(iter(loaded.values()))[2]
    facts = collect({name: recipe for name, (_, recipe, _) in loaded.items()}, paths, dataset, settings, dataset_h5,
                    params, ingest)  # fmt: skip
    alone = [deployed_as(classifier, about.asked, settings, params.unlike).eval() for classifier, *_ in loaded.values()]
    deployed: nn.Module = Ensemble(alone).eval() if study.export == "ensemble" else alone[0]
    sample = torch.zeros(1, *about.shape)
    parts = {name: complexity(classifier, sample) for name, (classifier, *_) in loaded.items()}
    by_class = validation.read_by_class(scores_csv, about.asked, "test" if study.export == "ensemble" else "best")
    files = export.Files(model_torchscript, model_onnx, model_pt2, variants, card_md, export_json)
    model = export.Exported(deployed, about, facts, measured, by_class, parts)
    written = export.write(model, cases, dataset_h5, params, files)
    say(cost(model_onnx if model_onnx in written else written[0], alone[0], deployed, dataset_h5))


def collect(
    recipes: Mapping[str, checkpoint.Recipe],
    paths: Mapping[str, Path],
    dataset: str,
    settings: Settings,
    dataset_h5: Path,
    params: ExportParams,
    ingest: IngestParams,
) -> dict[str, Any]:
    """The files' metadata, as of one training, with the names and checksums of all."""
    first = next(iter(paths))
    facts = metadata.collect(dataset, recipes[first], settings, dataset_h5, paths[first], params.size, ingest)
    if len(paths) > 1:
        facts["network"] = f"{len(paths)} x {facts['network']}"
    del facts["model_sha256"]
    together = json.dumps([asdict(recipe) for recipe in recipes.values()], sort_keys=True)
    facts["recipe_sha256"] = hashlib.sha256(together.encode()).hexdigest()
    return facts | {f"{name}_sha256": metadata.sha256(path) for name, path in paths.items()}


def cost(file: Path, alone: nn.Module, deployed: nn.Module, dataset_h5: Path) -> str:
    """How long the model takes for a sample, as an exported file, and beside one training of it."""
    x = np.array(tensors.read_split(dataset_h5, "train").x[:TIMED_SAMPLES])
    runner = file_format(file.suffix).load(file, any_operator=True)
    with torch.inference_mode():
        deployed(torch.from_numpy(x))  # the first time takes longer
        one, all_of_them, exported = (
            min(_seconds(ask, given) for _ in range(ROUNDS)) / len(x) * 1000
            for ask, given in ((alone, torch.from_numpy(x)), (deployed, torch.from_numpy(x)), (runner, x))
        )
    return (
        f"{exported:.3g} ms a sample as {file.name}, {file.stat().st_size:,} bytes; in torch "
        f"{all_of_them:.3g} ms, and one training alone {one:.3g} ms (in batches of {len(x)}, on this machine)"
    )


def _seconds(ask: Any, x: Any) -> float:
    began = time.perf_counter()
    ask(x)
    return time.perf_counter() - began


if __name__ == "__main__":
    command.run(main, pin)
