"""What a study's trainings say together, and each external dataset, as sections of the page."""

from collections.abc import Callable, Mapping
from typing import Any

from stages.lib.core.markdown import escape
from stages.lib.params.validate import IN_UNIT, MAIN_SCORE
from tools.report.markdown import long_table, number, plural, table


def gather(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Of two revisions' metrics of a dataset, [old, new] of its study, and of each external dataset by name."""
    then = old or {}
    externals = sorted({*then.get("external", {}), *new.get("external", {})})
    return {
        "study": [then.get("study"), new.get("study")],
        "external": {name: [of.get("external", {}).get(name) for of in (then, new)] for name in externals},
    }


def render(found: Mapping[str, Any], score: str) -> list[str]:
    """The sections, of what `gather` gives.

    Args:
        score: That the verdict is about; of a kind of answer that has it not, its main one is told.
    """
    old, new = found["study"]
    parts = _study(old, new, score) if new else ["### Study\n\nThere is none any more."] if old else []
    for name, (then, now) in found["external"].items():
        parts += (
            _external(name, then, now, score) if now else [f"### External: {escape(name)}\n\nIt is not asked any more."]
        )
    return parts


def _study(old: Mapping[str, Any] | None, new: Mapping[str, Any], score: str) -> list[str]:
    cases = new["cases"]
    folds = f" over {new['folds']} folds" if new["folds"] else ""
    on_test = f", {_figure(new, 'test', score)} of the test cases" if cases["test"] else ""
    lead = (
        f"### Study\n\n{plural(new['trainings'], 'training')}{folds}: {plural(cases['out_of_fold'], 'case')} held out "
        f"once, {plural(cases['test'], 'test case')} by the mean of all. "
        f"{_told(new, 'out_of_fold', score)} held out{on_test}."
    )
    rows = []
    for name, value in new["out_of_fold"].items():
        before = number(old["out_of_fold"].get(name)) if old else "-"
        spreads = [_spread(new[key].get(name)) for key in ("over_folds", "over_seeds")]
        test = f"{number(new['test'].get(name))}{_interval(new['test_interval'].get(name))}"
        single = _spread(new["test_over_trainings"].get(name))
        rows.append(
            (name, before, f"{number(value)}{_interval(new['out_of_fold_interval'].get(name))}", *spreads, test, single)
        )
    head = ["", "held out, old", "held out", "over folds", "over seeds", "test: ensemble", "test: one training"]
    return [lead, table(head, rows)]


def _external(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any], score: str) -> list[str]:
    left_out = {what: n for what, n in new["left_out"].items() if n}
    words = {"classes": "of other classes", "trained_on": "of patients that were trained on"}
    less = ", ".join(f"{n:,} {words[what]}" for what, n in left_out.items())
    lead = (
        f"### External: {escape(name)}\n\n{plural(new['cases'], 'case')} of {plural(new['groups'], 'group')}, asked of "
        f"the exported file of {escape(new['model'])}{f'; left out: {less}' if less else ''}. "
        f"{_told(new, 'external', score)}."
    )
    rows = [
        (score, number(old["external"].get(score)) if old else "-", number(value) + _interval(bounds))
        for score, value in new["external"].items()
        for bounds in [new["external_interval"].get(score)]
    ]
    parts = [lead, table(["", "old", "new"], rows)]
    moved = []
    for k, channel in enumerate(new["intensities"]):
        pairs = [" -> ".join(map(number, channel[key])) for key in ("mean", "deviation")]
        judgement = "another distribution" if channel["p"] < 0.05 else "within chance"
        moved.append((k, *pairs, number(channel["distance"]), f"{channel['p']:.2g}", judgement))
    parts.append(
        long_table("Intensities, from training to here", ["channel", "mean", "deviation", "distance", "p", ""], moved)
    )
    for key, (title, column, figure) in MOVED.items():
        rows = [(label.replace("_", " ") if key == "number" else label, *map(figure, pair))
                for label, pair in new.get(key, {}).items()]  # fmt: skip
        parts.append(long_table(title, [column, "in training", "here"], rows))
    return parts


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


MOVED: Mapping[str, tuple[str, str, Callable[[Any], str]]] = {
    "classes": ("Classes", "class", _share),
    "labels": ("Labels, of the cases that are known", "label", _share),
    "number": ("Numbers", "", number),
}
"""What external.json has of what is true of the cases: a title, a column, and how a value is written."""


def _told(tree: Mapping[str, Any], split: str, score: str) -> str:
    return f"Main score: {_main(tree, split, score)} {_figure(tree, split, score)}"


def _figure(tree: Mapping[str, Any], split: str, score: str) -> str:
    """The main score of a split with its interval, and the unit that it has."""
    name = _main(tree, split, score)
    value = number(tree[split].get(name)) + _interval(tree[f"{split}_interval"].get(name))
    return " ".join([value, *filter(None, [escape(unit(tree, name))])])


def unit(tree: Mapping[str, Any], score: str) -> str:
    """In which a score is, of what a stage says of it; "" of one that has none."""
    return tree.get("target", {}).get("unit", "") if score in IN_UNIT else ""


def _main(tree: Mapping[str, Any], split: str, score: str) -> str:
    return score if score in tree[split] else MAIN_SCORE.get(tree.get("target", {}).get("kind", ""), score)


def _interval(bounds: Any) -> str:
    return f" ({number(bounds[0])} to {number(bounds[1])})" if bounds and None not in bounds else ""


def _spread(of: Mapping[str, float] | None) -> str:
    if not of:
        return "-"
    return f"{number(of['mean'])} ± {number(of['deviation'])} ({number(of['lowest'])} to {number(of['highest'])})"
