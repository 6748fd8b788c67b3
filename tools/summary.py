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

METRICS = Path("metrics")
SCORES = {  # as a person reads them
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "macro_f1": "F1 (mean over the classes)",
    "calibration_error": "calibration error",
}
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
    for key, title in SCORES.items():
        if isinstance(scores.get(key), float):
            found.append(f"  {title:27} {scores[key]:7.4f}{_interval(intervals.get(key))}")
    drawn, local = folder / "figures", command.stage_paths("ingest", name)[1]["cases_csv"].with_name(drawing.LOCAL)
    if (drawn / "worst.png").exists():
        found.append(f"  pictures                    {drawn} (worst.png, explained.png, evidence.png)")
    else:  # git must not get those of cases
        found.append(f"  pictures                    {drawn} (evidence.png), {local} (worst.png, explained.png)")
    if export:
        found.append(
            f"  model                       models/{name}/model.onnx, and what it is for: models/{name}/card.md"
        )
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


def _interval(ends: Any) -> str:
    if not isinstance(ends, list) or len(ends) != 2 or None in ends:
        return ""
    return f"   ({ends[0]:.4f} to {ends[1]:.4f} in 95 of 100)"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    main()
