"""All content of the page as one tree of values: it is written as the JSON file, and page.render reads it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.lib import params
from stages.lib.core import outs
from stages.lib.params.validate import MAIN_SCORE
from tools.report import comparison, data, gates, studies
from tools.report.comparison import Change
from tools.report.judging import Asked
from tools.report.revisions import Revision, commits_ahead
from tools.report.snapshot import PROBABILITY_OF, Results, Snapshot, flatten, load
from tools.report.stale import stale

SPLITS = ("test", "validation")
LONG_LISTS = ("edges", "counts", "history")  # keys of metrics that are left out of the page


def gather(base: Revision, head: Revision) -> dict[str, Any]:
    """Compares two revisions.

    Raises:
        UserError: One of them cannot be read, or lacks metrics.
    """
    before, after = load(base), load(head)
    params.check_names(after.params.get("datasets") or (), f"params.yaml of {head}")
    judged = params.check_report(after.params.get("report"), f"params.yaml of {head}")
    out_of_date = stale(head)
    splits = [split for split in SPLITS if split == "test" or any(f"{split}." in gate for gate in judged.gates)]
    names = sorted({*before.datasets, *after.datasets})
    datasets = {name: _dataset(name, before, after, judged.score, splits) for name in names}
    checked = gates.check(judged.gates, after.results, datasets, out_of_date)
    report = {
        "base": str(base),
        "head": str(head),
        "base_is_ahead_by": commits_ahead(base, head),
        "gates": [asdict(gate) for gate in checked],
        "passed": all(gate.passed for gate in checked),
        "stale": out_of_date,
        "params": _changed(_others(before), _others(after)),
        "datasets": datasets,
    }
    return outs.significant(report)


def _dataset(name: str, before: Snapshot, after: Snapshot, score: str, splits: Sequence[str]) -> dict[str, Any]:
    old, new = before.results.get(name), after.results.get(name)
    found: dict[str, Any] = {
        "state": _state(name, before, after),
        "score": score if new is None else _score_of(new, score),
        "params": _changed(_block(before, name), _block(after, name)),
    }
    if new is not None:
        found |= {"unit": studies.unit(new.metrics["validate"], found["score"])}
        found |= {"test": _scores(new), "pictures": _pictures(old, new), "export": _export(old, new)}
        found |= {"diagnosis": [_diagnosis(results) for results in (old, new)]}
        found |= {"studies": studies.gather(old.metrics if old else None, new.metrics)}
    if old is not None and new is not None:
        found |= {
            "code": _code(old, new),
            "data": data.changes(old, new),
            "comparison": {split: compare_split(old, new, split) for split in splits},
            "numbers": _changed(_numbers(old), _numbers(new)),
        }
    return found


def _score_of(results: Results, score: str) -> str:
    """The score that the verdict is about: that of params.yaml, or the main one of a kind of answer that has it not."""
    kind = Asked.of(results.metrics["validate"]).kind
    return score if score in results.metrics["validate"].get("test", {}) else MAIN_SCORE.get(kind, score)


def _state(name: str, before: Snapshot, after: Snapshot) -> str:
    if name not in after.datasets:
        return "removed"
    if name not in after.results:
        return "not run"
    if name not in before.datasets:
        return "added"
    return "compared" if name in before.results else "no baseline"


def compare_split(old: Results, new: Results, split: str) -> dict[str, Any]:
    """One split's scores on all its cases, and case by case on those in both; `judged` names the one that counts."""
    then, now = old.split(split), new.split(split)
    both = comparison.shared(then, now)
    relabelled = int((both[0]["label"] != both[1]["label"]).sum())
    # A few shared cases show little. Then all cases are compared, though the change may be that of the cases.
    judged = "case_by_case" if 2 * len(both[0]) >= max(len(then), len(now)) else "all"
    counts = {"cases": [len(then), len(now)], "shared": len(both[0]), "relabelled": relabelled, "judged": judged}
    if then.equals(now):
        return counts | {"identical": True, "all": {}, "case_by_case": {}, "by_new_labels": {}, "flips": []}
    whole = len(both[0]) == len(then) == len(now)
    asked = Asked.of(old.metrics["validate"]), Asked.of(new.metrics["validate"])
    case_by_case = comparison.compare(*both, *asked) if len(both[0]) else {}
    return counts | {
        "identical": False,
        "all": _plain(case_by_case if whole else _compare_any(then, now, *asked)),
        "case_by_case": _plain(case_by_case),
        "by_new_labels": _plain(_by_new_labels(*both, *asked) if relabelled else {}),
        "flips": _flips(*both),
    }


def _compare_any(old: pd.DataFrame, new: pd.DataFrame, was_asked: Asked, is_asked: Asked) -> dict[str, Change]:
    return comparison.compare(old, new, was_asked, is_asked) if len(old) and len(new) else {}


def _by_new_labels(old: pd.DataFrame, new: pd.DataFrame, was_asked: Asked, is_asked: Asked) -> dict[str, Change]:
    """Both models judged by the later truth, of the same cases."""
    if (was_asked.kind, was_asked.names) != (is_asked.kind, is_asked.names):
        return {}
    judged = old.assign(label=new["label"])
    for name in map(str, new):
        if name.startswith(f"{PROBABILITY_OF}true ") and name in old and not is_asked.is_plain:
            judged[name] = new[name]
    return _compare_any(judged, new, was_asked, is_asked)


def _plain(changes: dict[str, Change]) -> dict[str, Any]:
    return {name: asdict(change) for name, change in changes.items()}


def _flips(old: pd.DataFrame, new: pd.DataFrame) -> list[dict[str, str]]:
    """The cases that only one of the two models has right, or whose label changed."""
    right = [table["label"] == table["predicted"] for table in (old, new)]
    rows = (right[0] != right[1]) | (old["label"] != new["label"])
    columns = {"case": new["case"], "old_label": old["label"], "old_predicted": old["predicted"]}
    columns |= {"label": new["label"], "predicted": new["predicted"]}
    return pd.DataFrame(columns)[rows].to_dict("records")  # type: ignore[return-value]


def _scores(results: Results) -> dict[str, Any]:
    test = results.metrics["validate"].get("test", {})
    cases = {"cases": len(results.split("test"))}
    return cases | {name: value for name, value in test.items() if isinstance(value, int | float)}


def _diagnosis(results: Results | None) -> str | None:
    """The sentence of the training's diagnosis."""
    diagnosis = results.metrics["train"].get("diagnosis") if results else None
    return diagnosis["sentence"] if isinstance(diagnosis, dict) else diagnosis


def _export(old: Results | None, new: Results) -> dict[str, dict[str, list[Any]]]:
    """Of every exported file, [old, new] of its size and of the bound on its difference from the network."""
    then, now = (results.metrics["export"] if results else {} for results in (old, new))
    files = sorted(
        {name for side in (then, now) for name, of in side.items() if isinstance(of, dict) and "bytes" in of}
    )
    keys = ("bytes", "difference_below")
    return {file: {key: [side.get(file, {}).get(key) for side in (then, now)] for key in keys} for file in files}


def _pictures(old: Results | None, new: Results) -> dict[str, str]:
    """Every figure of the head by path: "same", "changed" or "new"."""
    former = old.pictures if old else {}
    return {p: "same" if former.get(p) == b else "changed" if p in former else "new" for p, b in new.pictures.items()}


def _code(old: Results, new: Results) -> dict[str, list[str]]:
    """By stage, the files of code and set-up that differ between the two dvc.lock."""
    found = {}
    for stage in sorted(new.lock):
        now, then = (_hashes(results.lock.get(stage, {}).get("deps", [])) for results in (new, old))
        own = [path for path in sorted({*now, *then}) if path.split("/")[0] not in ("data", "models", "metrics")]
        found[stage] = [path for path in own if now.get(path) != then.get(path)]
    return {stage: paths for stage, paths in found.items() if paths}


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: str(entry.get("md5")) for entry in entries}


def _numbers(results: Results) -> Iterable[tuple[str, Any]]:
    for file, tree in results.metrics.items():
        for key, value in flatten(tree, file):
            if not any(part in LONG_LISTS for part in key.split(".")) and not isinstance(value, str):
                yield key, value


def _block(snapshot: Snapshot, name: str) -> Iterable[tuple[str, Any]]:
    block = (snapshot.params.get("datasets") or {}).get(name)
    return flatten(block, f"datasets.{name}") if block is not None else ()


def _others(snapshot: Snapshot) -> Iterable[tuple[str, Any]]:
    return flatten({key: value for key, value in snapshot.params.items() if key != "datasets"})


def _changed(old: Iterable[tuple[str, Any]], new: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """The leaves that differ: key -> [old, new], sorted; None where there was, or is, none."""
    then, now = dict(old), dict(new)
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    return {key: [then.get(key), now.get(key)] for key in differing}
