"""What came of a run: scores with their intervals, what to look at, and what to do next.

python -m tools.summary            # of all data sets; `make repro` ends with it
python -m tools.summary mine
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.lib import command, drawing, params
from stages.lib.core import durations, terminal
from stages.lib.core.progress import say
from stages.lib.params.validate import IN_UNIT
from stages.lib.studies import listing

METRICS = Path("metrics")
OF_CLASSES = {  # as a person reads them; the first is the main one
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "macro_f1": "F1 (mean over the classes)",
    "calibration_error": "calibration error",
}
OF_NUMBERS = {
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "bias": "bias",
    "r2": "R²",
    "spearman": "Spearman's correlation",
    "coverage": "within the 90 % interval",
}
SCORES = {
    "classes": OF_CLASSES,
    "ordinal": OF_CLASSES | {"quadratic_kappa": "quadratic kappa", "mae": "distance in grades"},
    "multilabel": {
        "auroc": "AUROC (mean over the labels)",
        "average_precision": "average precision",
        "macro_f1": "F1 (mean over the labels)",
        "calibration_error": "calibration error",
    },
    "regression": OF_NUMBERS,
    "log_regression": OF_NUMBERS,
}
"""By the kind of answer."""
STAGES = ("ingest", "split", "statistics", "dataset", "train", "validate", "export")


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.summary", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="*", help="their names; none for all")
    given = parser.parse_args(argv).datasets
    known = params.load(command.PARAMS_YAML)
    for name in given:
        known.section(name, "validate")
    for name in given or known.datasets:
        say("\n".join(lines(name)))


def lines(name: str, metrics: Path = METRICS) -> list[str]:
    """What is said of a data set, as far as its stages have run."""
    folder = metrics / name
    ingest, train, validate, export = (
        _read(folder / f"{stage}.json") for stage in ("ingest", "train", "validate", "export")
    )
    found = [f"{name}: {_cases(ingest, validate)}"]
    if not validate:
        return [*found, f"  not validated yet: dvc repro export@{name} validate@{name}"]
    scores, intervals = validate.get("test", {}), validate.get("test_interval", {})
    target = validate.get("target") or {}
    titles = SCORES[target.get("kind", "classes")]
    for key, title in titles.items():
        if isinstance(scores.get(key), float):
            unit = target.get("unit", "") if key in IN_UNIT and titles is OF_NUMBERS else ""
            value = f"{scores[key]:7.4g} {unit}".rstrip() if titles is OF_NUMBERS else f"{scores[key]:7.4f}"
            found.append(f"  {title:27} {value}{_interval(intervals.get(key), titles is OF_NUMBERS)}")
    found += _studies(name, folder, next(iter(titles.items())))
    drawn, local = folder / "figures", command.stage_paths("ingest", name)[1]["cases_csv"].with_name(drawing.LOCAL)
    if (drawn / "worst.png").exists():
        found.append(f"  pictures                    {drawn} (worst.png, explained.png, evidence.png)")
    else:  # git must not get those of cases
        found.append(f"  pictures                    {drawn} (evidence.png), {local} (worst.png, explained.png)")
    if export:
        file = next((file for file in ("model.onnx", "model.torchscript") if file in export), "model.pt2")
        found.append(f"  model                       models/{name}/{file}, and what it is for: models/{name}/card.md")
    if sentence := train.get("diagnosis", {}).get("sentence", ""):
        found.append(f"  training was {train['diagnosis'].get('verdict', '')}: {sentence.rpartition('; ')[2]}")
    seconds = durations.read(command.seconds_file(name))
    if times := [f"{stage} {durations.spoken(seconds[stage])}" for stage in STAGES if stage in seconds]:
        found.append(f"  time                        {', '.join(times)}")
    return found


def _cases(ingest: dict[str, Any], validate: dict[str, Any]) -> str:
    if not ingest:
        return "not ingested yet"
    lost = sum(ingest.get("rejected", {}).values()) if isinstance(ingest.get("rejected"), dict) else 0
    return f"{ingest.get('cases', 0):,} cases, {lost} rejected" + (", scores of the test split" if validate else "")


def _studies(name: str, folder: Path, main_score: tuple[str, str]) -> list[str]:
    """What a study's trainings say together, and the model of other datasets; what of it has not run.

    Args:
        main_score: Its key, and as a person reads it.
    """
    key, title = main_score
    lists, found = listing.listed(params.load(command.PARAMS_YAML)), []
    if name in lists["studies"]:
        study = _read(folder / "study" / "study.json")
        held, test = (study.get(part, {}).get(key) for part in ("out_of_fold", "test"))
        if isinstance(held, float):
            counts = study.get("cases", {})
            line = f"  study of {study.get('trainings')} trainings: {title} {held:.4g} of {counts.get('out_of_fold')} "
            line += "held-out cases"
            line += (
                f", {test:.4g} of the ensemble on {counts.get('test')} test cases" if isinstance(test, float) else ""
            )
            found.append(line)
        else:
            found.append(f"  study not run yet: dvc repro study@{name}")
    if name in lists["exports"] and _read(folder / "study" / "export.json"):
        found.append(f"  model of the study          models/{name}/study/model.onnx")
    for entry, one in lists["externals"].items():
        if one["dataset"] == name:
            told = _read(folder / "external" / one["other"] / "external.json")
            value = told.get("external", {}).get(key)
            if isinstance(value, float):
                found.append(f"  on {one['other']}: {title} {value:.4g} of {told.get('cases')} cases")
            else:
                found.append(f"  on {one['other']}: not run yet: dvc repro external@{entry}")
    return found


def _interval(ends: Any, of_number: bool = False) -> str:
    if not isinstance(ends, list) or len(ends) != 2 or None in ends:
        return ""
    low, high = (f"{end:.4g}" if of_number else f"{end:.4f}" for end in ends)
    return f"   ({low} to {high} in 95 of 100)"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    main()
