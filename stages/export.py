"""Writes the model as TorchScript, ONNX and .pt2, each checked in its own runtime on the whole test split.

    python -m stages.export digits

The files take any number of pictures or volumes as they were read, of any size, and give probabilities.
"""

from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
    measured = validation.read(validate_json)
    by_class = validation.read_by_class(scores_csv)
    settings = Settings(**measured["deployed"])
    deployed = deployed_as(classifier, about.asked, settings, params.unlike).eval()
    module = end_to_end.behind(Geometry(**about.geometry), deployed, params.size, about.shape[0])
    test = tensors.read_split(dataset_h5, "test")
    expected = inference.predict_all(deployed, test.x, params.batch_size, "predict")
    facts = metadata.collect(dataset, recipe, settings, dataset_h5, model_pt, params.size, ingest)
    dtype = facts["input"]["dtype"]
    program = Program(module, tuple(about.shape), dtype, facts, params.opset, 1 + params.unlike)

    report: dict[str, dict[str, Any]] = {}
    partials: dict[Path, Path] = {}
    with Cases(cases) as opened, ExitStack() as moved:  # all files are moved into place, or none is
        for path in (model_torchscript, model_onnx, model_pt2):
            partials[path] = moved.enter_context(outs.replacing(path))
            file_format(path.suffix).write(partials[path], program)
            runner = file_format(path.suffix).load(partials[path], any_operator=True)  # it is our own network's
            largest = parity.check(runner, test.x, expected, params.batch_size, params.tolerance, path.name)
            native = parity.native_cases(opened, test, facts, expected, module)
            largest = max(largest, parity.check_native(runner, native, params.tolerance, path.name))
            report[path.name] = {
                "difference_below": parity.rounded_up(largest),
                "bytes": partials[path].stat().st_size,
                "sha256": metadata.sha256(partials[path]),  # by which tools.predict knows the file
            }
        folder = moved.enter_context(outs.replacing(variants))
        folder.mkdir()
        training = tensors.read_split(dataset_h5, "train").x
        table = compare(partials[model_onnx], folder, params.variants, training, test, params.batch_size)
        outs.write_csv(folder / "accuracy.csv", table)
        below = max(part["difference_below"] for part in report.values())
        written = moved.enter_context(outs.replacing(card_md))
        written.write_text(card.text(facts, measured, by_class, below, table, params.card), encoding="utf-8")
    smaller = {row["file"]: _measured(row, variants) for row in table[1:].to_dict("records")}
    outs.write_json(export_json, {"test_cases": len(test.y), **report, "variants": smaller})
    say(f"{', '.join(report)} in {model_onnx.parent} agree with the network on {len(test.y)} test cases")


def _measured(row: dict[Hashable, Any], variants: Path) -> dict[Hashable, Any]:
    return {k: v for k, v in row.items() if k != "file"} | {"sha256": metadata.sha256(variants / row["file"])}


if __name__ == "__main__":
    command.run(main, pin)
