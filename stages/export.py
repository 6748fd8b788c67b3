"""Writes the model as TorchScript, ONNX and .pt2, each checked in its own runtime on the whole test split.

    python -m stages.export digits

The files take any number of pictures or volumes as they were read, of any size, and give what the model was asked:
probabilities of classes or labels, or a number and its interval. In the place of a format that the network can't have,
or that `export.formats` does not name, is a note with the reason.
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
from stages.lib.core.errors import UserError
from stages.lib.core.machine import pin
from stages.lib.core.progress import say
from stages.lib.export import card, end_to_end, metadata, parity, validation
from stages.lib.export.formats import file_format
from stages.lib.export.formats.program import Program
from stages.lib.export.formats.runner import Unsupported
from stages.lib.export.variants import compare
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint, inference
from stages.lib.model.deployed import Settings
from stages.lib.model.deployed import deployed as deployed_as
from stages.lib.model.left_out import note
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


NOT_ASKED = "not in export.formats"
IN_ORDER = (".pt2", ".torchscript", ".onnx")  # the slowest to write is the last, so that it is written once


def write(model: Exported, cases: Path, dataset_h5: Path, params: ExportParams, files: Files) -> list[Path]:
    """Writes all files of a model, or none; a note in the place of each format that is left out.

    Returns:
        The exported files that hold the model.

    Raises:
        UserError: One that was asked for by name can't be made, none can, or one says something else than the model.
    """
    about, facts, asked = model.about, dict(model.facts), model.about.asked
    module = end_to_end.behind(Geometry(**about.geometry), model.deployed, params.size, about.shape[0])
    test = tensors.read_split(dataset_h5, "test")
    expected = inference.predict_all(model.deployed, test.x, params.batch_size, "predict")
    program = Program(module, tuple(about.shape), facts["input"]["dtype"], facts, params.opset, 1 + params.unlike)

    report: dict[str, dict[str, Any]] = {}
    with Cases(cases) as opened, ExitStack() as moved:  # all files are moved into place, or none is
        paths = (files.model_torchscript, files.model_onnx, files.model_pt2)
        partials = {path: moved.enter_context(outs.replacing(path)) for path in paths}
        left_out = convert(program, {path.suffix: partial for path, partial in partials.items()}, params)
        written = [path for path in paths if path.suffix not in left_out]
        for path in written:
            runner = file_format(path.suffix).load(partials[path], any_operator=True)  # it is our own network's
            largest = parity.check(runner, test.x, expected, params.batch_size, params.tolerance, path.name, asked)
            native = parity.native_cases(opened, test, facts, expected, module)
            largest = max(largest, parity.check_native(runner, native, params.tolerance, path.name, asked))
            report[path.name] = {
                "difference_below": parity.rounded_up(largest),
                "bytes": partials[path].stat().st_size,
                "sha256": metadata.sha256(partials[path]),  # by which tools.predict knows the file
            }
        below = max(part["difference_below"] for part in report.values())
        reasons = {path.name: left_out[path.suffix] for path in paths if path not in written}
        if reasons:
            report["left_out"] = reasons
        folder = moved.enter_context(outs.replacing(files.variants))
        folder.mkdir()
        table = pd.DataFrame(columns=["file", "bytes", "difference_below"])
        if files.model_onnx in written:
            training = tensors.read_split(dataset_h5, "train").x
            answered = (asked, Settings(**model.measured["deployed"]).thresholds)
            onnx = partials[files.model_onnx]
            table = compare(onnx, folder, params.variants, training, test, params.batch_size, *answered)
        outs.write_csv(folder / "accuracy.csv", table)
        card_md = moved.enter_context(outs.replacing(files.card_md))
        text = card.text(facts, model.measured, model.by_class, below, table, params.card, model.parts)
        card_md.write_text(text, encoding="utf-8")
    smaller = {row["file"]: _measured(row, files.variants) for row in table[1:].to_dict("records")}
    outs.write_json(files.export_json, {"test_cases": len(test.y), **report, "variants": smaller})
    names, folder = ", ".join(path.name for path in written), files.model_onnx.parent
    say(f"{names} in {folder} agree with the network on {len(test.y)} test cases")
    for name, reason in reasons.items():
        say(f"{name} is left out: {reason}")
    return written


def convert(program: Program, paths: Mapping[str, Path], params: ExportParams) -> dict[str, str]:
    """Writes the formats that are asked for and that the network can have, and a note in the place of each other.

    Args:
        program: Its metadata get an entry `left_out`, where there is such a format.
        paths: By suffix.

    Returns:
        The reason for each suffix that is left out.

    Raises:
        UserError: A format that `params` names can't be had, or none can.
    """
    left_out: dict[str, str] = {}
    if params.formats is not None:
        left_out = {suffix: NOT_ASKED for suffix in paths if suffix[1:] not in params.formats}
    known: dict[str, dict[str, str]] = {}  # what was left out when a file was written

    def write_one(suffix: str) -> None:
        known[suffix] = dict(left_out)
        if left_out:
            program.metadata["left_out"] = {name[1:]: left_out[name] for name in paths if name in left_out}
        file_format(suffix).write(paths[suffix], program)

    for suffix in IN_ORDER:
        if suffix in left_out:
            continue
        try:
            write_one(suffix)
        except Unsupported as error:
            if params.formats is not None:
                raise UserError(
                    f"export.formats asks for {suffix[1:]}, which this network can't have: {error}. Take that out of "
                    "export.formats"
                ) from error
            left_out[suffix] = str(error)
    if len(left_out) == len(paths):
        reasons = "; ".join(f"{suffix[1:]}: {reason}" for suffix, reason in left_out.items())
        raise UserError(f"this network can be exported to no format ({reasons}): nothing was exported")
    if params.variants and ".onnx" in left_out:
        raise UserError(
            f"export.variants are made from model.onnx, which this network can't have ({left_out['.onnx']}): "
            "ask for none"
        )
    for suffix in known.keys() - left_out.keys():
        if known[suffix] != left_out:  # its metadata lack what was found out since
            write_one(suffix)
    for suffix, reason in left_out.items():
        paths[suffix].write_bytes(note(suffix[1:], reason))
    return left_out


def _measured(row: dict[Hashable, Any], variants: Path) -> dict[Hashable, Any]:
    return {k: v for k, v in row.items() if k != "file"} | {"sha256": metadata.sha256(variants / row["file"])}


if __name__ == "__main__":
    command.run(main, pin)
