"""The page: the tree of values of contents.gather as Markdown."""

from typing import Any
from urllib.parse import quote

from stages.lib.core.markdown import escape
from tools.report import studies
from tools.report.markdown import folded, long_table, number, plural, signed, table


def render(report: dict[str, Any], links: str) -> str:
    """The whole page.

    Args:
        report: Of `contents.gather`, or the JSON file.
        links: Prefix of a tracked file's path that makes it a URL; "" gives links relative to the repository's root.
    """
    parts = ["# What this change does", verdict(report), _compared(report), _stale(report["stale"])]
    parts += [_gates(report["gates"])]
    parts += [_changes("Other params that changed", report["params"])]
    for name, found in report["datasets"].items():
        parts += [f"## {escape(name)}: {_short(found)}", *_dataset(found, links)]
    parts += [folded("How to read this", HOW_TO_READ)]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(report: dict[str, Any]) -> str:
    """The one line that is read first."""
    refused = [gate for gate in report["gates"] if not gate["passed"]]
    lead = "Passes" if report["gates"] else "No gates"
    if refused:
        lead = f"Refused by {len(refused)} of {plural(len(report['gates']), 'gate')}"
    sentences = "; ".join(f"{escape(name)}: {_sentence(found)}" for name, found in report["datasets"].items())
    return f"**{lead}.** {sentences}."


def _sentence(found: dict[str, Any]) -> str:
    compared = found.get("comparison", {}).get("test")
    if compared is None:
        score = found.get("test", {}).get(found["score"])
        return _short(found) + (f", {found['score']} {number(score)}{_unit(found)}" if score is not None else "")
    if compared["identical"]:
        return f"the same predictions of all {plural(compared['shared'], 'case')}"
    change = _judged(found)
    if change is None:
        return "no test case to compare"
    cases = plural(compared["shared"], "case")
    if compared["judged"] == "all":
        cases = f"two test sets of {compared['cases'][0]:,} and {compared['cases'][1]:,} cases that share {cases}"
    figures = f"{found['score']} {number(change['old'])} -> {number(change['new'])}{_unit(found)}"
    if change["verdict"] == "no difference":
        return f"no difference that {cases} can show ({figures}; {number(change['smallest'])}{_unit(found)} would show)"
    return f"{change['verdict']} on {cases} ({figures})"


def _unit(found: dict[str, Any]) -> str:
    return f" {escape(found['unit'])}" if found.get("unit") else ""


def _judged(found: dict[str, Any]) -> dict[str, Any] | None:
    """The change of `report.score` on the cases that the verdict is about."""
    compared = found["comparison"]["test"]
    return compared[compared["judged"]].get(found["score"])


def _short(found: dict[str, Any]) -> str:
    states = {
        "added": "a new dataset",
        "removed": "removed",
        "not run": "in params.yaml, not run",
        "no baseline": "no baseline yet",
    }
    if found["state"] in states:
        return states[found["state"]]
    compared = found["comparison"]["test"]
    if compared["identical"]:
        return "the same predictions"
    change = _judged(found)
    return change["verdict"] if change else "no test case to compare"


def _compared(report: dict[str, Any]) -> str:
    ahead = report["base_is_ahead_by"]
    moved = (
        f" {escape(report['base'])} has {plural(ahead, 'commit')} that this has not: they show here as taken back; "
        "merge it, or compare with the commit where the two parted (`python -m tools.report main...`)."
    )
    return f"From {escape(report['base'])} to {escape(report['head'])}.{moved if ahead else ''}"


def _stale(stale: dict[str, list[str]]) -> str:
    rows = [
        (name, "; ".join(why[:3]) + (f" and {len(why) - 3} more" if len(why) > 3 else ""))
        for name, why in stale.items()
    ]
    title = "**Out of date**: the results below are not those of this code, these params and this data (`dvc repro`)"
    return f"{title}.\n\n{long_table('Stages to run', ['stage', 'why'], rows)}" if rows else ""


def _gates(gates: list[dict[str, Any]]) -> str:
    rows = [("pass" if gate["passed"] else "REFUSED", gate["gate"], gate["dataset"], gate["why"]) for gate in gates]
    return "Gates:\n\n" + table(["", "gate", "dataset", "found"], rows) if rows else ""


def _dataset(found: dict[str, Any], links: str) -> list[str]:
    parts = [_changes("Params that changed", found["params"])]
    if "comparison" in found:
        parts += [_code(found["code"]), *_data(found["data"]), *_scores(found)]
    elif "test" in found:
        rows = [(name, number(value)) for name, value in found["test"].items()]
        parts += ["On the test split:\n\n" + table(["", "value"], rows)]
    if "test" in found:
        parts += studies.render(found["studies"], found["score"])
    if "numbers" in found:
        parts += [_changes("Every number of metrics/ that changed", found["numbers"], fold=True)]
    if "test" in found:
        parts += [_export(found["export"]), _diagnosis(*found["diagnosis"])]
    parts += [_pictures(found.get("pictures", {}), links)]
    if found["state"] == "compared" and not any(found[key] for key in ("params", "code", "numbers")):
        parts += ["Nothing changed."]
    return parts


def _changes(title: str, changed: dict[str, list[Any]], fold: bool = False) -> str:
    return long_table(title, ["", "old", "new"], [(key, number(o), number(n)) for key, (o, n) in changed.items()], fold)


def _code(code: dict[str, list[str]]) -> str:
    return long_table(
        "Code that changed", ["stage", "files"], [(stage, ", ".join(paths)) for stage, paths in code.items()]
    )


def _data(data: dict[str, Any]) -> list[str]:
    parts = []
    if not data["same_raw"]:
        raw = [(f"raw {key}", number(old), number(new)) for key, (old, new) in data["raw"].items() if old != new]
        parts += ["Raw data changed:\n\n" + table(["", "old", "new"], raw)]
    rows = [(key, number(o), number(n), signed(n - o)) for key, (o, n) in data["counts"].items() if o != n]
    parts += [long_table("Counts that changed", ["", "old", "new", "change"], rows)]
    parts += [_balance(data["classes"]), _rejects(data["rejected"]), _drift(data["channels"])]
    for split, counts in data["splits"].items():
        if counts["added"] or counts["removed"]:
            parts += [
                f"The {split} set changed: {counts['old']:,} cases -> {counts['new']:,}, {counts['shared']:,} of them "
                f"in both, {counts['added']:,} new, {counts['removed']:,} gone."
            ]
    return parts


def _balance(classes: dict[str, list[int]]) -> str:
    totals = [sum(pair[i] for pair in classes.values()) or 1 for i in (0, 1)]
    rows = [
        (name, number(old), number(new), f"{old / totals[0]:.1%}", f"{new / totals[1]:.1%}")
        for name, (old, new) in classes.items()
    ]
    if all(old == new for old, new in classes.values()):
        return ""
    return long_table("Class balance of the training split", ["class", "old", "new", "old share", "new share"], rows)


def _rejects(rejected: list[dict[str, float]]) -> str:
    old, new = rejected
    if old == new:
        return ""
    return f"Rejected: {old['cases']:,} ({old['share']:.1%}) -> {new['cases']:,} ({new['share']:.1%})."


def _drift(channels: list[dict[str, Any]]) -> str:
    rows: list[tuple[Any, ...]] = []
    for i, channel in enumerate(channels):
        if channel["distance"] or channel["mean"][0] != channel["mean"][1]:
            judgement = "drifted" if channel["p"] < 0.05 else "within chance"
            pairs = [" -> ".join(map(number, channel[key])) for key in ("mean", "deviation")]
            rows.append((i, *pairs, number(channel["distance"]), f"{channel['p']:.2g}", judgement))
    return long_table("Intensities of the training split", ["channel", "mean", "deviation", "distance", "p", ""], rows)


def _scores(found: dict[str, Any]) -> list[str]:
    test = found["comparison"]["test"]
    if test["identical"]:
        return []
    parts = [_score_table(f"Test split, {plural(test['cases'][1], 'case')}", test["all"])]
    whole = test["shared"] == test["cases"][0] == test["cases"][1]
    if not whole:
        parts[0] += f"\n\nThe two test sets are not the same: of {test['cases'][0]:,} and {test['cases'][1]:,} cases, "
        parts[0] += f"{test['shared']:,} are in both."
        if test["judged"] == "all":
            parts[0] += " That is too few to judge by, so the verdict is that of all cases: model and cases in one."
        parts += [_score_table(f"Case by case, on the {plural(test['shared'], 'case')} in both", test["case_by_case"])]
    if test["relabelled"]:
        parts += [
            f"{plural(test['relabelled'], 'case')} of these changed their label; above, each model is judged by the "
            "labels of its time.",
            _score_table("Both by the new labels", test["by_new_labels"]),
        ]
    columns = ("case", "old_label", "old_predicted", "label", "predicted")
    flips = [[row[column] for column in columns] for row in test["flips"]]
    return [
        *parts,
        long_table("Cases that became right or wrong", ["case", "old label", "old answer", "label", "answer"], flips),
    ]


def _score_table(title: str, changes: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, c in changes.items():
        interval = f"{signed(c['low'])} to {signed(c['high'])}" if c["low"] is not None else "-"
        change = c["new"] - c["old"] if c["old"] is not None and c["new"] is not None else None
        shows = number(c["smallest"])
        rows.append((name, number(c["old"]), number(c["new"]), signed(change), interval, c["verdict"], shows))
    headers = ["", "old", "new", "change", "95 % interval", "verdict", "would show"]
    return f"{title}:\n\n{table(headers, rows)}" if rows else ""


def _export(export: dict[str, dict[str, list[Any]]]) -> str:
    rows = [
        (file, *map(number, pairs["bytes"]), *map(number, pairs["difference_below"])) for file, pairs in export.items()
    ]
    headers = ["file", "old bytes", "new bytes", "old: differs by less than", "new: differs by less than"]
    return "Exported:\n\n" + table(headers, rows) if rows else ""


def _diagnosis(old: str | None, new: str | None) -> str:
    if new is None:
        return ""
    return f"Training: {escape(new)}." + (f" Before: {escape(old)}." if old not in (None, new) else "")


def _pictures(pictures: dict[str, str], links: str) -> str:
    shown = []
    for path, state in pictures.items():
        name = f"{path.split('/')[-1]} ({state})"
        shown.append(f"{'!' if links else ''}[{escape(name)}]({links}{quote(path)})")
    return folded("Pictures", "\n".join(shown)) if links else "\n".join(f"- {line}" for line in shown)


HOW_TO_READ = """\
- A verdict compares the two models case by case, on the test cases that both revisions have, or on all where fewer
  than half are in both: accuracy by McNemar's test (mid-p, patients kept whole), the other scores, and test sets that
  differ, by a bootstrap that draws patients. Of two equally good models it says "better" or "worse" about one time in
  twenty, for each score.
- "no difference" is not "equal": a difference of the size under "would show" is found four times in five, a
  smaller one less often.
- An interval is that of the change, over the cases one might have had; it does not hold the luck of a training's seed.
- The intensities' p takes each patient for one witness, not each pixel."""
