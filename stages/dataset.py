"""cases/ + split.csv + statistics.json -> dataset.h5: training-ready tensors of one shape.

python -m stages.dataset digits
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.lib import command, splits, tensors
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.core.machine import pin
from stages.lib.core.progress import progress, say
from stages.lib.geometry import Geometry
from stages.lib.moments import Moments, Statistics, read_statistics, spreads
from stages.lib.params.dataset import DatasetParams


def main(cases: Path, split_csv: Path, statistics_json: Path, dataset_h5: Path, params: DatasetParams) -> None:
    measured = read_statistics(statistics_json)
    with Cases(cases) as opened, outs.replacing(dataset_h5) as partial:
        split = splits.read_of(split_csv, cases, opened.ids)
        classes = sorted(split["label"].unique())
        check_measured(statistics_json, measured, split_csv, split, opened)
        arguments = geometry_arguments(params, measured, opened.dims)
        geometry = Geometry(**arguments)
        channels = {"keep": int(opened.shapes[0, 0]), "rgb": 3}.get(params.colour, 1)
        shape, dtype = (channels, *arguments["shape"]), arguments["dtype"]
        moments = [Moments(dtype) for _ in range(channels)]
        with tensors.writing(partial, shape, dtype) as writer:
            for name in splits.SPLITS:
                rows = split[split["split"] == name]
                samples = transformed(opened, rows["case"].tolist(), geometry, name)
                if name == "train":
                    samples = counted(samples, moments)
                labels = rows["label"].map({label: i for i, label in enumerate(classes)}).to_numpy()
                writer.write_split(name, samples, labels, rows["case"].tolist(), rows["group"].tolist())
            writer.describe(describe(classes, shape, opened, arguments, moments))
    say(f"{' x '.join(map(str, shape))} {dtype}, {len(split)} cases")


def check_measured(path: Path, measured: Statistics, split_csv: Path, split: pd.DataFrame, cases: Cases) -> None:
    """Refuses statistics of other cases, or of another split.

    Args:
        path: Of the statistics, for messages.

    Raises:
        DamagedOut: They are of others.
    """
    if measured.splits != splits.counts(split):
        raise DamagedOut("they are of different splits", path, split_csv)
    rows = split.index[split["split"] == "train"]
    sizes, steps = spreads(cases.axes, cases.shapes[rows]), spreads(cases.axes[1:], cases.spacings_mm[rows])
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
    if spacing is None and dims == 3 and known:
        spacing = tuple(measured_mm)
    if spacing is not None and known:
        size = [n * mm / step for n, mm, step in zip(size, measured_mm, spacing, strict=True)]
    return {
        "colour": params.colour,
        "resize": params.resize,
        "spacing_mm": None if spacing is None else list(spacing),
        "shape": list(params.shape or (max(1, round(n)) for n in size)),
        "fill": min(channel.minimum for channel in measured.channels) if params.fill is None else params.fill,
        "dtype": measured.dtype if params.dtype == "keep" else params.dtype,
    }


def transformed(cases: Cases, ids: list[str], geometry: Geometry, name: str) -> Iterator[np.ndarray]:
    """Each case as (C, *shape), with one in memory at a time.

    Raises:
        UserError: A case cannot be brought to the shape.
    """
    for case in progress(ids, f"dataset {name}", "case"):
        i = cases.index(case)
        if trouble := geometry.trouble(cases[i].shape, cases.spacings_mm[i]):
            raise UserError(f"case {case}: {trouble}")
        x = torch.from_numpy(cases[i].copy())[None]  # the map is read-only, which torch does not know
        sample = geometry(x, torch.from_numpy(cases.spacings_mm[i]))[0].to(geometry.dtype)
        if not geometry.whole and not sample.isfinite().all():
            raise UserError(f"case {case}: a pixel is nan, or too large for {geometry.dtype}: see dataset.dtype")
        yield sample.numpy()


def counted(samples: Iterator[np.ndarray], moments: list[Moments]) -> Iterator[np.ndarray]:
    """Passes the samples on, and counts their pixels in one `Moments` per channel."""
    for sample in samples:
        for channel, count in zip(sample, moments, strict=True):
            count.add(channel)
        yield sample


def describe(
    classes: list[str], shape: tuple[int, ...], cases: Cases, arguments: dict[str, Any], moments: list[Moments]
) -> tensors.Description:
    summaries = [count.summary() for count in moments]
    return tensors.Description(
        classes=classes,
        axes="N" + cases.axes,
        shape=list(shape),
        dtype=arguments["dtype"],
        units=cases.units,
        spacing_mm=arguments["spacing_mm"],
        geometry=arguments,
        moments={name: [getattr(s, name) for s in summaries] for name in ("minimum", "maximum", "mean", "deviation")},
    )


if __name__ == "__main__":
    command.run(main, pin)
