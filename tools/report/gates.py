"""The gates of params.yaml's `report.gates`: what refuses a pull request."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from stages.lib.params.validate import Score
from tools.report.data import rejected
from tools.report.snapshot import Results, flatten

SCORES = get_args(Score)
COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Gate:
    """A gate's outcome for one dataset."""

    gate: str  # as in params.yaml
    dataset: str  # "" if it concerns all
    passed: bool
    why: str


def check(
    gates: Sequence[str], results: dict[str, Results], datasets: dict[str, Any], stale: dict[str, list[str]]
) -> list[Gate]:
    """Checks every gate for every dataset that it concerns.

    Args:
        results: Of the head, by dataset.
        datasets: contents' `datasets`, with the comparison where there is a baseline.
        stale: See `stale.stale`.
    """
    checked = []
    for gate in gates:
        if gate == "fresh":
            checked.append(_fresh(gate, list(stale)))
            continue
        metric, *condition = gate.split()
        first, _, rest = metric.partition(".")
        concerned = [first] if first in datasets else list(results)
        name = rest if first in datasets else metric
        for dataset in concerned:
            if dataset not in results:
                checked.append(Gate(gate, dataset, False, f"{dataset} has no results here"))
            elif condition == ["no_worse"]:
                checked.append(_no_worse(gate, dataset, name, datasets[dataset]))
            else:
                checked.append(_bound(gate, dataset, name, condition, results[dataset]))
    return checked


def _fresh(gate: str, stale: list[str]) -> Gate:
    if not stale:
        return Gate(gate, "", True, "dvc.lock is up to date")
    more = f" and {len(stale) - 4} more" if len(stale) > 4 else ""
    return Gate(gate, "", False, f"out of date: {', '.join(stale[:4])}{more}; dvc repro, then commit")


def _no_worse(gate: str, dataset: str, name: str, found: dict[str, Any]) -> Gate:
    split, _, score = name.partition(".")
    if "comparison" not in found:
        return Gate(gate, dataset, True, "no baseline")
    compared = found["comparison"].get(split)
    if compared is None:
        return Gate(gate, dataset, False, f"no_worse is for scores of test or validation, not for {name}")
    if compared["identical"] and score in SCORES:
        return Gate(gate, dataset, True, "the same predictions")
    changes = compared[compared["judged"]]
    own = found["score"]  # of a number, mae
    if score not in changes and score == "accuracy" and own in changes:
        return Gate(
            gate,
            dataset,
            changes[own]["verdict"] != "worse",
            f"{own}, as it has no accuracy: {changes[own]['verdict']}",
        )
    if score not in changes:
        return Gate(gate, dataset, False, f"{split} has no score {score} to compare{_nearest(score, SCORES)}")
    return Gate(gate, dataset, changes[score]["verdict"] != "worse", changes[score]["verdict"])


def _bound(gate: str, dataset: str, name: str, condition: list[str], results: Results) -> Gate:
    numbers = {"rejected": rejected(results)["share"]}
    for file, tree in results.metrics.items():
        numbers |= dict(flatten(tree, file))
    numbers |= dict(flatten(results.metrics["validate"]))  # test.accuracy is validate.test.accuracy
    value = numbers.get(name)
    if name not in numbers:
        return Gate(gate, dataset, False, f"there is no number {name}{_nearest(name, numbers)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Gate(gate, dataset, False, f"{name} is {value!r}, no number")
    sign, bound = condition
    return Gate(gate, dataset, COMPARE[sign](value, float(bound)), f"{name} is {value:.4g}")


def _nearest(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]}?" if close else ""
