"""The training split's own pixels -> statistics.json: intensities per channel, classes, shapes, spacing.

python -m stages.statistics digits
"""

import csv
import math
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib import command, runs, splits
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.core.terminal import shown
from stages.lib.moments import Moments, Statistics, merge_all, of_run, spreads
from stages.lib.params.machine import MachineParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.workers import count


def main(
    cases: Path,
    split_csv: Path,
    statistics_json: Path,
    params: StatisticsParams,
    machine: MachineParams = MachineParams(),
) -> None:
    with Cases(cases) as opened:
        split = splits.read_of(split_csv, cases, opened.names)
        rows = split.rows("train")
        dtype, channels = _dtype_and_channels(opened, split_csv.with_name("files.csv"))
        moments = [Moments(dtype) for _ in range(channels)]
        work = runs.cut(opened, rows)
        workers = runs.useful_workers(opened, rows, count(machine.workers))
        counting = partial(of_run, dtype, channels)
        for counted in runs.bring(counting, work, workers, "statistics", lambda run: run, len(rows)):
            merge_all(moments, counted)
        found = Statistics(
            cases=len(rows),
            groups=len(rows) if split.is_ungrouped() else len(np.unique(split.group[rows])),
            classes=split.counts()["train"],
            splits=split.counts(),
            dtype=dtype,
            units=opened.units,
            shape=spreads(opened.axes, opened.shapes, rows),
            spacing_mm=spreads(opened.axes[1:], opened.spacings_mm, rows),
            channels=[channel.summary(params.percentiles, params.bins) for channel in moments],
            target=of_target(split),
        )
    outs.write_json(statistics_json, found.plain())


def of_target(split: splits.Table) -> dict[str, Any] | None:
    """What is asked of the cases of each split, by split: of a number its mean, deviation and quartiles, of each label
    or class how much there is of it, weighted as the cases are. None where that is the class alone, and all count
    alike.
    """
    target, values = split.target, split.values
    if target is None and split.weight is None:
        return None
    found: dict[str, Any] = {}
    for name in splits.SPLITS:
        rows = split.rows(name)
        if not len(rows):
            continue
        weight = np.ones(len(rows)) if split.weight is None else split.weight[rows].astype(np.float64)
        of_split: dict[str, Any] = {"weight": float(weight.sum())}
        for k, asked in enumerate(target.names if target else ()):
            assert values is not None
            column = values[rows, k].astype(np.float64)
            known = ~np.isnan(column)
            share = float(np.average(column[known], weights=weight[known])) if weight[known].any() else math.nan
            if target and target.of_number:
                counts = bool(weight.any())
                spread = float(np.sqrt(np.average(np.square(column - share), weights=weight))) if counts else math.nan
                quartiles = np.quantile(column, np.arange(5) / 4).tolist()
                of_split[asked] = {"mean": share, "deviation": spread, "quartiles": quartiles}
            else:
                of_split[asked] = {"share": share, "known": int(known.sum())}
        found[name] = of_split
    return found


def _dtype_and_channels(cases: Cases, files_csv: Path) -> tuple[str, int]:
    """The dtype and the number of channels that all cases share.

    Args: files_csv: As of `_difference`.

    Raises:
        UserError: They share none.
    """
    channels = np.unique(cases.shapes[:, 0]).tolist()
    if len(cases.dtypes) > 1 or len(channels) > 1:
        raise UserError(_difference(cases, files_csv))
    return cases.dtypes[0], channels[0]


def _difference(cases: Cases, files_csv: Path) -> str:
    """How many cases are of each dtype and number of channels, with one of each, and what to do about it.

    Args: files_csv: What ingest has left on this machine, and on no other: whose files the cases are.
    """
    kinds, first, kind_of = np.unique(
        np.column_stack([np.unique(cases.dtype_of, return_inverse=True)[1], cases.shapes[:, 0]]),
        axis=0, return_index=True, return_inverse=True,
    )  # fmt: skip
    numbers = np.bincount(kind_of.reshape(-1))
    examples = [cases.names[i].decode() for i in first]
    files = _first_files(files_csv, set(examples))
    listed = ", ".join(
        f"{numbers[i]} of {cases.dtype_of[first[i]].decode()} with {kinds[i, 1]} channel(s) "
        f"({files.get(examples[i], examples[i])}{', ...' if numbers[i] > 1 else ''})"
        for i in (-numbers).argsort(kind="stable")
    )
    ways = ["convert files (pictures of 8 bits to 16, or the reverse)"] if len(cases.dtypes) > 1 else ["convert files"]
    ways += ["leave them out (ingest.exclude)", "make two datasets of them"]
    ways += ["set ingest.colour"] if len(np.unique(kinds[:, 1])) > 1 else []
    if len(files) < len(examples):
        ways[0] = f"`python -m tools.which CASE` names a case's file; {ways[0]}"
    return (
        f"the cases differ: {listed}; a dataset has one dtype and one number of channels: {', '.join(ways[:-1])} or "
        f"{ways[-1]}"
    )


def _first_files(files_csv: Path, cases: set[str]) -> dict[str, str]:
    """The first file of some cases, as far as it is known."""
    found: dict[str, str] = {}
    with suppress(OSError, csv.Error), open(files_csv, newline="", encoding="utf-8", errors="surrogateescape") as file:
        for case, *path in csv.reader(file):
            if case in cases and path:
                found.setdefault(case, shown(path[0]))
    return found


if __name__ == "__main__":
    command.run(main)
