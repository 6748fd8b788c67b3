"""Writes the model as TorchScript, ONNX and .pt2, each checked in its own runtime on the whole test split.

    python -m stages.export digits

The files take any number of pictures or volumes as they were read, of any size, and give what the model was asked:
probabilities of classes or labels, or a number and its interval.
"""

from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from stages.lib import command, tensors
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.core.machine import pin
from stages.lib.core.progress import say
from stages.lib.export import card, end_to_end, metadata, parity, validation
from stages.lib.export.formats import file_format
from stages.lib.export.formats.program import Program
from stages.lib.export.variants import compare
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint, inference
from stages.lib.model.deployed import Settings
from stages.lib.model.deployed import deployed as deployed_as
from stages.lib.params.export import ExportParams
from stages.lib.params.ingest import IngestParams
from stages.lib.tensors import Description


def main(
    cases: Path,
    dataset_h5: Path,
    model_pt: Path,
    validate_json: Path,
    scores_csv: Path,
    model_torchscript: Path,
    model_onnx: Path,
    model_pt2: Path,
    variants: Path,
    card_md: Path,
    export_json: Path,
    params: ExportParams,
    ingest: IngestParams,
    dataset: str,
    network: Mapping[str, Any] = checkpoint.NO_NETWORK,
) -> None:
    classifier, recipe, about = checkpoint.load_for(dataset_h5, model_pt, network)
    asked = about.asked
    measured = validation.read(validate_json, asked)
    by_class = validation.read_by_class(scores_csv, asked)
    settings = Settings(**measured["deployed"])
    facts = metadata.collect(dataset, recipe, settings, dataset_h5, model_pt, params.size, ingest)
    deployed = deployed_as(classifier, asked, settings, params.unlike).eval()
    files = Files(model_torchscript, model_onnx, model_pt2, variants, card_md, export_json)
    write(Exported(deployed, about, facts, measured, by_class), cases, dataset_h5, params, files)


@dataclass(frozen=True)
class Files:
    """Where a model is exported to."""

    model_torchscript: Path
    model_onnx: Path
    model_pt2: Path
    variants: Path
    card_md: Path
    export_json: Path


@dataclass(frozen=True)
class Exported:
    """A model, and what is said of it."""

    deployed: nn.Module
    about: Description
    facts: dict[str, Any]  # the files' metadata
    measured: Mapping[str, Any]  # validate.json
    by_class: pd.DataFrame  # as of `validation.read_by_class`
    parts: Mapping[str, Mapping[str, int]] | None = None  # as of `card.text`


def write(model: Exported, cases: Path, dataset_h5: Path, params: ExportParams, files: Files) -> None:
    """Writes all files of a model, or none.

    Raises:
        UserError: One of them can't be made, or says something else than the model.
    """
    about, facts, asked = model.about, model.facts, model.about.asked
    module = end_to_end.behind(Geometry(**about.geometry), model.deployed, params.size, about.shape[0])
    test = tensors.read_split(dataset_h5, "test")
    expected = inference.predict_all(model.deployed, test.x, params.batch_size, "predict")
    program = Program(module, tuple(about.shape), facts["input"]["dtype"], facts, params.opset, 1 + params.unlike)

    report: dict[str, dict[str, Any]] = {}
    partials: dict[Path, Path] = {}
    with Cases(cases) as opened, ExitStack() as moved:  # all files are moved into place, or none is
        for path in (files.model_torchscript, files.model_onnx, files.model_pt2):
            partials[path] = moved.enter_context(outs.replacing(path))
            file_format(path.suffix).write(partials[path], program)
            runner = file_format(path.suffix).load(partials[path], any_operator=True)  # it is our own network's
            largest = parity.check(runner, test.x, expected, params.batch_size, params.tolerance, path.name, asked)
            native = parity.native_cases(opened, test, facts, expected, module)
            largest = max(largest, parity.check_native(runner, native, params.tolerance, path.name, asked))
            report[path.name] = {
                "difference_below": parity.rounded_up(largest),
                "bytes": partials[path].stat().st_size,
                "sha256": metadata.sha256(partials[path]),  # by which tools.predict knows the file
            }
        folder = moved.enter_context(outs.replacing(files.variants))
        folder.mkdir()
        training = tensors.read_split(dataset_h5, "train").x
        answered = (asked, Settings(**model.measured["deployed"]).thresholds)
        table = compare(
            partials[files.model_onnx], folder, params.variants, training, test, params.batch_size, *answered
        )
        outs.write_csv(folder / "accuracy.csv", table)
        below = max(part["difference_below"] for part in report.values())
        written = moved.enter_context(outs.replacing(files.card_md))
        text = card.text(facts, model.measured, model.by_class, below, table, params.card, model.parts)
        written.write_text(text, encoding="utf-8")
    smaller = {row["file"]: _measured(row, files.variants) for row in table[1:].to_dict("records")}
    outs.write_json(files.export_json, {"test_cases": len(test.y), **report, "variants": smaller})
    say(f"{', '.join(report)} in {files.model_onnx.parent} agree with the network on {len(test.y)} test cases")


def _measured(row: dict[Hashable, Any], variants: Path) -> dict[Hashable, Any]:
    return {k: v for k, v in row.items() if k != "file"} | {"sha256": metadata.sha256(variants / row["file"])}


if __name__ == "__main__":
    command.run(main, pin)
