"""docs/performance.md: tables of what was measured, a figure each, and why we are not first where we are not.

At the end stands what is kept by hand, and why (`kept`).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from stages.lib.core import outs
from stages.lib.core.markdown import escape
from tools.bench import figures, kept
from tools.bench.results import Group, Growth
from tools.bench.timing import Comparison

INTRODUCTION = """# Performance

`make bench` wrote this page: `python -m tools.bench --groups loading` measures one group again, and `python -m
tools.bench --render` writes the page anew from `performance.json`.

Works that do the same take turns, after a check that their results agree. A table has the median of the rounds, with
the lowest and the highest. The last column is what the other side takes divided by what ours takes: above 1 ours is
ahead. Beneath a table stands every row in which ours is not.
"""
SMALLEST = 0.995  # a ratio that is written as 1.00 is no loss
SHORT_SECONDS = 0.1  # below it, milliseconds are written


def write(path: Path, groups: Sequence[Group]) -> None:
    """Writes the page to `path`, and its figures into the folder of the same name beside it."""
    folder = path.with_suffix("")
    drawn = {group.name: figures.draw(group, folder) for group in groups}
    outs.write_bytes(path, render(groups, drawn, folder.name).encode())


def render(groups: Sequence[Group], drawn: dict[str, list[str]], folder: str) -> str:
    """The page as Markdown.

    Args:
        drawn: Names of each group's figures.
        folder: Where they lie, as seen from the page.
    """
    sections = [_section(group, [f"{folder}/{name}" for name in drawn.get(group.name, [])]) for group in groups]
    return "\n".join([INTRODUCTION, *sections, kept.section()])


def _section(group: Group, pictures: Sequence[str]) -> str:
    title, _, about = group.about.partition("\n\n")
    parts = [f"## {title.rstrip('.')}", about.strip()]
    if group.measured.comparisons:
        parts += ["\n".join(table(group.measured.comparisons)), "\n".join(losses(group.measured.comparisons))]
    if group.measured.growth:
        parts += ["\n".join(growth_table(group.measured.growth)), "\n".join(map(slope, group.measured.growth))]
    parts += ["\n".join(f"- {escape(remark)}" for remark in group.measured.remarks)]
    parts += [f"![{escape(title.rstrip('.'))}]({picture})" for picture in pictures]
    parts += [f"Measured on {group.date}: {escape(group.machine)}; {versions(group)}."]
    return "\n\n".join(part for part in parts if part) + "\n"


def versions(group: Group) -> str:
    return ", ".join(f"{escape(name)} {escape(version)}" for name, version in group.versions.items())


def table(comparisons: Sequence[Comparison]) -> list[str]:
    """Lines of a table with a row per comparison."""
    return ["| work | ours | against | theirs | theirs / ours |", "|---|---|---|---|---|", *map(_row, comparisons)]


def _row(of: Comparison) -> str:
    work = of.work + (f" ({of.note})" if of.note else "")
    theirs = amounts(of.theirs, of) if of.theirs else escape(of.absent or "not installed")
    ratio = "" if of.ratio is None else f"{of.ratio:.2f}"
    return f"| {escape(work)} | {amounts(of.ours, of)} | {escape(of.peer)} | {theirs} | {ratio} |"


def amounts(values: Sequence[float], of: Comparison) -> str:
    """The median with its unit, the range if there are several rounds, and the rate if there is one."""
    middle = median(values)
    factor, unit = (1000, f"m{of.unit}") if of.unit.startswith("s") and middle < SHORT_SECONDS else (1, of.unit)
    said = f"{number(factor * middle)} {unit}"
    if len(values) > 1:
        said += f" ({number(factor * min(values))} to {number(factor * max(values))})"
    return said + (f", {of.amount / middle:,.0f} {of.things}/{of.unit}" if of.things and of.unit == "s" else "")


def number(value: float) -> str:
    """With three digits, or as a whole number where that has more."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def losses(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence for every row in which ours takes more."""
    return [
        f"- {escape(of.work)}: {escape(of.peer)} takes {of.ratio:.2f} times what ours takes ({of.unit}). "
        f"{escape(of.why)}".rstrip()
        for of in comparisons
        if of.ratio is not None and of.ratio < SMALLEST
    ]


def growth_table(growth: Sequence[Growth]) -> list[str]:
    """Lines of a table with a row per stage and number of cases."""
    head = ["| stage | cases | seconds | peak memory, MiB | on disk, MiB |", "|---|---|---|---|---|"]
    return head + [
        f"| {of.stage} | {cases:,} | {seconds:.3g} | {mebibytes:.0f} | {size / 2**20:.3g} |"
        for of in growth
        for cases, seconds, mebibytes, size in zip(of.cases, of.seconds, of.mebibytes, of.disk_bytes, strict=True)
    ]


def slope(of: Growth) -> str:
    """A sentence about how a stage's time grows."""
    if math.isnan(of.slope):
        return f"- {of.stage}: one size, which has no slope."
    return f"- {of.stage}: time grows as cases to the power of {of.slope:.2f}."
