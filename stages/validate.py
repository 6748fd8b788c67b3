"""Measures the model on the validation and test splits: scores with intervals, predictions, curves and figures.

python -m stages.validate digits
"""

from collections.abc import Mapping
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
from stages.lib.validate import curves, evaluation, out_of_distribution, predictions, scores
from stages.lib.validate.answers import ask
from stages.lib.validate.case_sheets import CaseSheets
from stages.lib.validate.figures import evidence, history, read_history, save


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
    splits = {name: tensors.read_split(dataset_h5, name) for name in ("validation", "test")}
    evaluation.check_flips(params, splits["validation"])
    flips = "".join(params.flips)
    answers = {name: ask(classifier, split, flips, params.batch_size, name) for name, split in splits.items()}
    settings = evaluation.choose_settings(answers["validation"], splits["validation"], params)
    probabilities = {name: found.probabilities(settings.temperature) for name, found in answers.items()}
    test, p = splits["test"], probabilities["test"]

    table = evaluation.score_table(splits, probabilities, about.classes, params)
    outs.write_csv(scores_csv, table)
    report = evaluation.summary(table) | {"deployed": settings.plain()}
    if params.calibrate:
        report["uncalibrated"] = {"test": scores.overall(test.y, answers["test"].probabilities(1.0))}
    if params.operating_point:
        report["operating_point"] = evaluation.operate(params.operating_point, splits, probabilities, about.classes)
    intensities = evaluation.intensity_range(about)
    measured = answers["test"].measures
    report["unlike"] = out_of_distribution.detection(
        classifier, test.x, measured, intensities, settings, params.batch_size
    )
    outs.write_json(validate_json, report)

    tables = [predictions.table(name, splits[name], probabilities[name], about.classes) for name in splits]
    outs.write_csv(predictions_csv, pd.concat(tables, ignore_index=True))
    outs.write_csv(confusion_csv, tables[-1][["label", "predicted"]].rename(columns={"label": "actual"}))
    points = [f(test.y, p, about.classes) for f in (curves.roc, curves.precision_recall)]
    points.append(curves.reliability(test.y, p))
    for path, curve in zip((roc_csv, precision_recall_csv, reliability_csv), points, strict=True):
        outs.write_csv(path, curve)

    local = dataset_h5.with_name(drawing.LOCAL)
    cases = CaseSheets(classifier, recipe.normalise["low"], recipe.normalise["high"], about.classes)
    with outs.replacing(figures) as folder:
        folder.mkdir()
        save(folder / "history", history(training))
        save(folder / "evidence", evidence(test.y, p.argmax(1), about.classes, points, scores.per_class(test.y, p)))
        shown = drawing.place(folder, local, ingest.may_show)
        sheets.save(shown / "worst", cases.worst(test, p, params.worst))
        sheets.save(shown / "uncertain", cases.uncertain(test, p, params.worst))
        sheets.save(shown / "explained", cases.explained(test, p))
        sheets.save(shown / "explained_mistakes", cases.explained_mistakes(test, p))
        sheets.save(shown / "samples", cases.samples(tensors.read_split(dataset_h5, "train")))
    if not ingest.may_show:
        say(f"figures that show cases are in {local}: ingest.pictures: true puts them into {figures}, for git")
    for warning in evaluation.wide_intervals(report["test_interval"]):
        say(warning)
    say(f"test accuracy {report['test']['accuracy']:.4f} of {len(test.y)} cases; the rest is in {validate_json}")


if __name__ == "__main__":
    command.run(main, pin)
