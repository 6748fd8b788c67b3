"""cases/ + split.csv + statistics.json -> dataset.h5: training-ready tensors of one shape.

python -m stages.dataset digits
"""

import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib import command, runs, splits, tensors
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.core.progress import say
from stages.lib.dataset.filling import Common, Job, fill
from stages.lib.dataset.fitting import Fitting
from stages.lib.moments import Moments, Statistics, merge_all, read_statistics, spreads
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.machine import MachineParams
from stages.lib.workers import count

MOST_PIXELS = {2: 128 * 128, 3: 64 * 64 * 64}
"""Of a sample whose shape nobody chose, by its number of axes: what a laptop trains on in minutes."""

BLOCK = 1 << 16  # cases whose sizes are looked at at once
MOST_LOST, MOST_LOST_OF_ONE = 0.1, 0.25  # fractions of the pixels that a crop may cut away without a word


def main(
    cases: Path,
    split_csv: Path,
    statistics_json: Path,
    dataset_h5: Path,
    params: DatasetParams,
    machine: MachineParams = MachineParams(),
) -> None:
    measured = read_statistics(statistics_json)
    with Cases(cases) as opened, outs.replacing(dataset_h5) as partial:
        split = splits.read_of(split_csv, cases, opened.names)
        check_measured(statistics_json, measured, split_csv, split, opened)
        arguments = geometry_arguments(params, measured, opened.dims)
        check_fits(opened, Fitting(arguments))
        settle_fit(arguments, params, opened, split.rows("train"))
        channels = {"keep": int(opened.shapes[0, 0]), "rgb": 3}.get(params.colour, 1)
        shape, dtype = (channels, *arguments["shape"]), arguments["dtype"]
        moments = [Moments(dtype) for _ in range(channels)]
        with tensors.writing(partial, shape, dtype) as writer:
            starts = []
            for name in splits.SPLITS:
                rows = split.rows(name)
                target, weight = (None if of is None else of[rows] for of in (split.values, split.weight))
                names = split.case[rows], split.group[rows]
                starts.append(writer.reserve(name, split.label_of[rows], *names, target, weight))
            common = Common(partial, tuple(starts), arguments, channels)
            sample_bytes = math.prod(shape) * np.dtype(dtype).itemsize
            work = jobs(opened, split, sample_bytes)
            workers = runs.useful_workers(opened, np.arange(len(opened)), count(machine.workers), sample_bytes)
            filling = functools.partial(fill, common)
            for counted in runs.bring(filling, work, workers, "dataset", lambda job: job.run, len(opened)):
                merge_all(moments, counted)
            writer.describe(describe(split, shape, opened, arguments, moments))
    say(f"{' x '.join(map(str, shape))} {dtype}, {len(split)} cases")


def check_measured(path: Path, measured: Statistics, split_csv: Path, split: splits.Table, cases: Cases) -> None:
    """Refuses statistics of other cases, or of another split.

    Args:
        path: Of the statistics, for messages.

    Raises:
        DamagedOut: They are of others.
    """
    if measured.splits != split.counts():
        raise DamagedOut("they are of different splits", path, split_csv)
    rows = split.rows("train")
    sizes, steps = spreads(cases.axes, cases.shapes, rows), spreads(cases.axes[1:], cases.spacings_mm, rows)
    found = [measured.dtype], measured.units, measured.shape, measured.spacing_mm
    if found != (cases.dtypes, cases.units, sizes, steps):
        raise DamagedOut("they are of different cases", path, cases.folder)


def geometry_arguments(params: DatasetParams, measured: Statistics, dims: int) -> dict[str, Any]:
    """Geometry's arguments; what params.yaml leaves out follows from the training split's statistics."""
    for key in ("spacing_mm", "shape"):
        given = getattr(params, key)
        if given is not None and len(given) != dims:
            raise UserError(f"dataset.{key} has {len(given)} numbers, but the cases have {dims} axes")
    axes = ["D", "H", "W"][-dims:]
    size = [spread.median for axis in axes if (spread := measured.shape[axis])]
    measured_mm = [spread.median for axis in axes if (spread := measured.spacing_mm[axis])]
    known = len(measured_mm) == dims
    spacing = params.spacing_mm
    if spacing is None:
        shrink = _shrink(size) if params.shape is None and (dims == 2 or known) else 1.0
        size = [n * shrink for n in size]
        spacing = tuple(mm / shrink for mm in measured_mm) if dims == 3 and known else None
        if shrink < 1:
            shape = " x ".join(str(max(1, round(n))) for n in size)
            say(f"half of the cases are larger than {shape}, to which all are brought: dataset.shape sets another size")
    elif known:
        size = [n * mm / step for n, mm, step in zip(size, measured_mm, spacing, strict=True)]
    dtype = measured.dtype if params.dtype == "keep" else params.dtype
    check_fill(params.fill, dtype)
    return {
        "colour": params.colour,
        "resize": params.resize,
        "spacing_mm": None if spacing is None else list(spacing),
        "shape": list(params.shape or (max(1, round(n)) for n in size)),
        "fill": min(channel.minimum for channel in measured.channels) if params.fill is None else params.fill,
        "dtype": dtype,
    }


def settle_fit(arguments: dict[str, Any], params: DatasetParams, cases: Cases, rows: np.ndarray) -> None:
    """Adds to Geometry's arguments how cases of other proportions than the shape are brought to it, unless by a crop.
    Says what is cut away, and what was chosen for it.

    Args:
        rows: Of the training split.
    """
    if params.fit in ("pad", "stretch"):
        arguments["fit"] = params.fit
    mean, most = lost(Fitting(arguments), cases, rows)
    may_choose = params.fit == "auto" and params.resize is None and cases.dims == 2 and params.spacing_mm is None
    if may_choose and (mean > MOST_LOST or most > MOST_LOST_OF_ONE):
        arguments["fit"] = "pad"
        say(
            f"a crop would cut away {mean:.0%} of the training cases' pixels, and {most:.0%} of one case: they are "
            "padded instead; dataset.fit: crop or stretch chooses otherwise"
        )
    elif mean > MOST_LOST or most > MOST_LOST_OF_ONE:
        way_out = "dataset.fit: pad or stretch keeps all" if cases.dims == 2 else "a larger dataset.shape keeps more"
        say(
            f"warning: {mean:.0%} of the training cases' pixels, and {most:.0%} of one case, are cut away around the "
            f"centre: {way_out}"
        )


def lost(fitting: Fitting, cases: Cases, rows: np.ndarray) -> tuple[float, float]:
    """The fraction of some cases' pixels that lie beyond the shape: over all of them, and the largest of one."""
    numbers: Counter[tuple[float, ...]] = Counter()  # of cases of one size and spacing: most are of few
    for at in range(0, len(rows), BLOCK):
        block = rows[at : at + BLOCK]
        kinds = np.column_stack([cases.shapes[block, 1:], np.nan_to_num(cases.spacings_mm[block])])
        unique, count_of = np.unique(kinds, axis=0, return_counts=True)
        numbers.update(dict(zip(map(tuple, unique.tolist()), count_of.tolist(), strict=True)))
    pixels = away = most = 0.0
    for kind, number in numbers.items():
        size = [int(n) for n in kind[: cases.dims]]
        share = fitting.lost(size, np.array(kind[cases.dims :]))
        pixels += number * math.prod(size)
        away += number * math.prod(size) * share
        most = max(most, share)
    return away / pixels if pixels else 0.0, most


def _shrink(size: list[float]) -> float:
    """By how much each side of the median case shrinks, so that it is no larger than MOST_PIXELS: 1 at most."""
    return min(1.0, (MOST_PIXELS[len(size)] / math.prod(size)) ** (1 / len(size)))


def check_fill(fill: float | None, dtype: str) -> None:
    """Raises:
    UserError: The padding's value is none that the pixels can have.
    """
    if fill is None or np.dtype(dtype).kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if not limits.min <= fill <= limits.max or fill != round(fill):
        raise UserError(f"dataset.fill is {fill:g}, but pixels are whole numbers from {limits.min} to {limits.max}")


def check_fits(cases: Cases, fitting: Fitting) -> None:
    """Raises:
    UserError: A case can't be brought to the shape.
    """
    for first in cases.firsts():
        if trouble := fitting.trouble(int(cases.shapes[first, 0]), cases.spacings_mm[first]):
            raise UserError(f"case {cases.names[first].decode()}: {trouble}")


def jobs(cases: Cases, split: splits.Table, sample_bytes: int) -> Iterator[Job]:
    """All cases, in runs, with their places in the splits."""
    reached = np.zeros(len(splits.SPLITS), np.int64)  # cases of each split before the run
    for run in runs.cut(cases, np.arange(len(cases)), sample_bytes):
        split_of = split.split_of[run.rows]
        place = np.empty(len(split_of), np.int64)
        for i in range(len(reached)):
            of = np.flatnonzero(split_of == i)
            place[of] = reached[i] + np.arange(len(of))
            reached[i] += len(of)
        yield Job(run, cases.names[run.rows], split_of, place)


def describe(
    split: splits.Table, shape: tuple[int, ...], cases: Cases, arguments: dict[str, Any], moments: list[Moments]
) -> tensors.Description:
    summaries = [count.summary() for count in moments]
    target = asked(split)
    return tensors.Description(
        classes=split.classes if target is None else target.names,
        target=None if target is None else asdict(target),
        axes="N" + cases.axes,
        shape=list(shape),
        dtype=arguments["dtype"],
        units=cases.units,
        spacing_mm=arguments["spacing_mm"],
        geometry=arguments,
        moments={name: [getattr(s, name) for s in summaries] for name in ("minimum", "maximum", "mean", "deviation")},
    )


def asked(split: splits.Table) -> tensors.Asked | None:
    """What the model is to answer; None where that is the class alone.

    Raises:
        UserError: The training cases that count all have the same number.
    """
    target, values = split.target, split.values
    if target is None or values is None:
        return None
    mean, deviation = 0.0, 1.0
    if target.of_number:
        rows = split.rows("train")
        weight = np.ones(len(rows)) if split.weight is None else split.weight[rows].astype(np.float64)
        numbers, weight = values[rows, 0].astype(np.float64)[weight > 0], weight[weight > 0]
        if not len(np.unique(numbers)) > 1:  # their deviation may be no 0 for all that, but what rounding leaves
            raise UserError(
                f"all training cases that count have the same {target.name}: there is nothing to learn; add cases, or "
                "deal them by another split.seed"
            )
        learnt = np.log(numbers) if target.kind == "log_regression" else numbers
        mean = float(np.average(learnt, weights=weight))
        deviation = float(np.sqrt(np.average(np.square(learnt - mean), weights=weight)))
    return tensors.Asked(target.kind, list(target.names), target.unit, mean, deviation)


if __name__ == "__main__":
    command.run(main)
