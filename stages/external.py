"""Asks an exported model about a whole other dataset, as another hospital's: scores, predictions, figures and drift.

    python -m stages.external mine-clinic

It asks model.onnx, the very file that is deployed, about the cases as they were read; the geometry and all else that
was done to the training data is inside of it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.lib import command, drawing, runs, splits
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.core.machine import pin
from stages.lib.core.progress import say
from stages.lib.drawing import sheets
from stages.lib.export.formats import onnx
from stages.lib.export.metadata_check import checked
from stages.lib.geometry import Geometry
from stages.lib.moments import Moments, Statistics, Summary, merge_all, of_run, read_statistics
from stages.lib.params.ingest import IngestParams
from stages.lib.params.machine import MachineParams
from stages.lib.params.validate import ValidateParams
from stages.lib.tensors import Asked, Split
from stages.lib.validate import curves, evaluation, external, kinds
from stages.lib.validate.case_sheets import CaseSheets
from stages.lib.validate.figures import save
from stages.lib.validate.naming import Naming
from stages.lib.workers import count


class Fitted:
    """Cases as the network sees them, brought to its shape one by one when they are drawn."""

    def __init__(self, cases: Cases, rows: np.ndarray, geometry: Geometry) -> None:
        self._cases, self._rows, self._geometry = cases, rows, geometry

    @torch.inference_mode()
    def __getitem__(self, i: int) -> np.ndarray:  # (C, *shape) float32
        row = int(self._rows[i])
        x = torch.from_numpy(np.array(self._cases[row][None]).astype(np.float32))
        spacing = torch.from_numpy(np.array(self._cases.spacings_mm[row], np.float64))
        return self._geometry(x, spacing if self._geometry.spaced else None)[0].numpy()


def main(
    cases: Path,
    cases_csv: Path,
    split_csv: Path,
    model_onnx: Path,
    statistics_json: Path,
    scores_csv: Path,
    predictions_csv: Path,
    external_json: Path,
    figures: Path,
    params: ValidateParams,
    item: Mapping[str, Any],
    other_ingest: IngestParams,
    machine: MachineParams = MachineParams(),
) -> None:
    """
    Args:
        cases, cases_csv, other_ingest: Of the other dataset.
        split_csv, statistics_json: Of the model's dataset.
        item: Of studies.yaml: `dataset`, `other`, `model`, `classes`, `lacks` and `trained_on`.
    """
    key = f"datasets.{item['dataset']}.study.external.{item['other']}"
    measured, table = read_statistics(statistics_json), splits.read_cases(cases_csv)
    model = onnx.load(model_onnx, any_operator=True)  # it is our own network's
    facts = checked(model.metadata, model_onnx)
    training = trained(measured, facts, statistics_json, model_onnx)
    kind = kinds.of_file(facts, training, f"{item['other']}'s")
    truth = kind.in_its_words(table, Naming(key, item["classes"], item["lacks"]))
    seen = external.trained_on(table.group, splits.read(split_csv))
    if seen.any() and item["trained_on"] == "refuse":
        first = table.case[seen][0].decode()
        raise UserError(
            f"{key}: {seen.sum()} of its {len(table)} cases are of groups (patients) that the model was trained or "
            f"chosen on, as {first} (`python -m tools.which {first}`): `trained_on: leave_out` leaves them out"
        )
    rows = np.flatnonzero(truth.meant & ~seen)
    if not len(rows):
        raise UserError(f"{key}: no case is left to ask about")
    if table.weight is not None and not table.weight[rows].any():
        raise UserError(f"{key}: all {len(rows)} cases that are left have a weight of 0: there is nothing to score")
    if truth.target is not None and np.isnan(truth.target[rows]).all():
        raise UserError(f"{key}: of no label of the model is an answer known: there is nothing to score")
    with Cases(cases) as opened:
        if not np.array_equal(opened.names, table.case):
            raise DamagedOut("they are not of the same cases", cases_csv, cases)
        external.check_input(opened, facts["input"], key, other_ingest.reading())
        said, unlike = external.ask(model, kind, opened, rows, params.batch_size, key)
        others = intensities(opened, rows, count(machine.workers))
        x: Any = Fitted(opened, rows, Geometry(**facts["geometry"]))
        target, weight = (None if of is None else of[rows] for of in (truth.target, table.weight))
        split = Split(x, truth.y[rows], table.case[rows], table.group[rows], target, weight)

        scored = evaluation.score_table(kind, {"external": split}, {"external": said}, params)
        outs.write_csv(scores_csv, scored)
        outs.write_csv(predictions_csv, evaluation.prediction_table("external", kind, split, said))
        moved = kind.moved(measured.classes, training, split)  # of what is true of the cases
        groups = len(np.unique(split.group))
        report = {
            "model": item["model"],
            "cases": len(rows),
            "groups": groups,
            "left_out": {"classes": int((~truth.meant).sum()), "trained_on": int(seen.sum())},
            **evaluation.of_split(scored, "external"),
            **moved,
            "intensities": external.moved(measured.channels, others, measured.groups, groups),
            "unlike": None if unlike is None else float((unlike > 0).mean()),  # the fraction that the file flags
            **evaluation.asked_of(facts.get("target"), facts["classes"], weight is not None),
        }
        outs.write_json(external_json, report)
        pairs = [(vars(a), vars(b)) for a, b in zip(measured.channels, others, strict=False)]
        drawn = kind.shift(moved, pairs if report["intensities"] else [], (item["dataset"], item["other"]))
        sheet = CaseSheets(None, *window(measured.channels), kind)
        local = cases_csv.with_name(f"{drawing.LOCAL}_{item['dataset']}")
        with outs.replacing(figures) as folder:
            folder.mkdir()
            rankings = kind.rankings(split, said)
            points = [curves.roc(rankings), curves.precision_recall(rankings), kind.reliability(split, said)]
            save(folder / "evidence", kind.evidence(split, said, points))
            save(folder / "shift", drawn)
            place = drawing.place(folder, local, other_ingest.may_show)
            sheets.save(place / "worst", sheet.worst(split, said, params.worst))
            sheets.save(place / "uncertain", sheet.uncertain(split, said, params.worst, unlike))
    low, high = report["external_interval"][kind.main]
    interval = f" ({kind.figure(low)} to {kind.figure(high)})" if np.isfinite([low, high]).all() else ""
    say(
        f"{item['other']}: {kind.told(report['external'][kind.main])}{interval} of {len(rows)} cases by "
        f"{item['model']}; the rest is in {external_json}"
    )


def trained(measured: Statistics, facts: Mapping[str, Any], statistics_json: Path, model_onnx: Path) -> dict[str, Any]:
    """What statistics.json has of the target in the training split, by name; {} of one class of several.

    Raises:
        DamagedOut: It is of another target than the model.
    """
    asked = facts.get("target")
    if asked is None or Asked(**asked).target.of_one_class:
        return {}
    found = (measured.target or {}).get("train", {})
    keys = {"mean", "deviation", "quartiles"} if Asked(**asked).target.of_number else {"share"}
    if any(not keys <= set(found.get(name, ())) for name in asked["names"]):
        raise DamagedOut("they are not of the same target", statistics_json, model_onnx)
    return dict(found)


def intensities(cases: Cases, rows: np.ndarray, workers: int) -> list[Summary]:
    """The statistics of each channel, as the stage statistics measures them; [] where cases differ in dtype or number
    of channels.
    """
    channels = np.unique(cases.shapes[rows, 0]).tolist()
    if len(cases.dtypes) > 1 or len(channels) > 1:
        return []
    moments = [Moments(cases.dtypes[0]) for _ in range(channels[0])]
    useful = runs.useful_workers(cases, rows, workers)
    counting = partial(of_run, cases.dtypes[0], channels[0])
    for counted in runs.bring(counting, runs.cut(cases, rows), useful, "intensities", lambda run: run, len(rows)):
        merge_all(moments, counted)
    return [channel.summary() for channel in moments]


def window(channels: Sequence[Summary]) -> tuple[list[float], list[float]]:
    """The intensities that are shown from black to white: nearly all of those in training."""
    lows = [channel.percentiles.get("0.5", channel.minimum) for channel in channels]
    highs = [channel.percentiles.get("99.5", channel.maximum) for channel in channels]
    return [min(lows)], [max(highs)]


if __name__ == "__main__":
    command.run(main, pin)
