"""Measures the model on the validation and test splits: scores with intervals, predictions, curves and figures.

python -m stages.validate digits
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib import command, drawing, tensors
from stages.lib.core import outs
from stages.lib.core.machine import pin
from stages.lib.core.progress import say
from stages.lib.drawing import sheets
from stages.lib.model import checkpoint
from stages.lib.params.ingest import IngestParams
from stages.lib.params.validate import ValidateParams
from stages.lib.validate import curves, evaluation, kinds, out_of_distribution
from stages.lib.validate.answers import ask
from stages.lib.validate.case_sheets import CaseSheets
from stages.lib.validate.figures import history, read_history, save


def main(
    dataset_h5: Path,
    model_pt: Path,
    history_csv: Path,
    validate_json: Path,
    scores_csv: Path,
    predictions_csv: Path,
    confusion_csv: Path,
    roc_csv: Path,
    precision_recall_csv: Path,
    reliability_csv: Path,
    figures: Path,
    params: ValidateParams,
    ingest: IngestParams,
    network: Mapping[str, Any] = checkpoint.NO_NETWORK,
) -> None:
    training = read_history(history_csv)
    classifier, recipe, about = checkpoint.load_for(dataset_h5, model_pt, network)
    asked, training_split = about.asked, tensors.read_split(dataset_h5, "train")
    splits = {name: tensors.read_split(dataset_h5, name) for name in ("validation", "test")}
    evaluation.check_flips(params, splits["validation"])
    flips = "".join(params.flips)
    answers = {name: ask(classifier, split, flips, params.batch_size, name, asked) for name, split in splits.items()}
    kind = kinds.choose(training_split, splits["validation"], answers["validation"], params)
    if params.operating_point:
        kind.found_by(params.operating_point.positive)  # before anything is written
    said = {name: found.deployed(kind.settings) for name, found in answers.items()}
    test, on_test = splits["test"], said["test"]

    table = evaluation.score_table(kind, splits, said, params)
    outs.write_csv(scores_csv, table)
    report = evaluation.summary(table) | {"deployed": kind.settings.plain()}
    if params.calibrate and kind.is_calibrated:
        plain = replace(kind.settings, temperature=1.0, temperatures=())
        uncalibrated = kind.overall(test, answers["test"].deployed(plain))
        report["uncalibrated"] = {"test": {k: v for k, v in uncalibrated.items() if k not in kind.by_threshold}}
    if params.operating_point:
        report["operating_point"] = evaluation.operate(params.operating_point, kind, splits, said)
    intensities = evaluation.intensity_range(about)
    measured = answers["test"].measures
    report["unlike"] = out_of_distribution.detection(
        classifier, test.x, measured, intensities, kind.settings, params.batch_size, asked
    )
    report |= evaluation.asked_of(about.target, about.classes, test.weight is not None)
    outs.write_json(validate_json, report)

    tables = [evaluation.prediction_table(name, kind, splits[name], said[name]) for name in splits]
    outs.write_csv(predictions_csv, pd.concat(tables, ignore_index=True))
    outs.write_csv(confusion_csv, kind.confusion(test, on_test))
    rankings = kind.rankings(test, on_test)
    points = [curves.roc(rankings), curves.precision_recall(rankings), kind.reliability(test, on_test)]
    for path, curve in zip((roc_csv, precision_recall_csv, reliability_csv), points, strict=True):
        outs.write_csv(path, curve)

    local = dataset_h5.with_name(drawing.LOCAL)
    cases = CaseSheets(classifier, recipe.normalise["low"], recipe.normalise["high"], kind)
    with outs.replacing(figures) as folder:
        folder.mkdir()
        save(folder / "history", history(training))
        save(folder / "evidence", kind.evidence(test, on_test, points))
        shown = drawing.place(folder, local, ingest.may_show)
        sheets.save(shown / "worst", cases.worst(test, on_test, params.worst))
        away = out_of_distribution.distances(measured, kind.settings)
        sheets.save(shown / "uncertain", cases.uncertain(test, on_test, params.worst, away))
        sheets.save(shown / "explained", cases.explained(test, on_test))
        sheets.save(shown / "explained_mistakes", cases.explained_mistakes(test, on_test))
        sheets.save(shown / "samples", cases.samples(training_split))
    if not ingest.may_show:
        say(f"figures that show cases are in {local}: ingest.pictures: true puts them into {figures}, for git")
    bounds = evaluation.no_bounds(kind, splits["validation"])
    for warning in [*evaluation.wide_intervals(report["test_interval"]), *bounds]:
        say(warning)
    say(f"{kind.sentence(report['test'], len(test.y))}; the rest is in {validate_json}")


if __name__ == "__main__":
    command.run(main, pin)
