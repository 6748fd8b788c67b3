"""The training split's own pixels -> statistics.json: intensities per channel, classes, shapes, spacing.

python -m stages.statistics digits
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib import command, splits
from stages.lib.cases import Cases
from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.core.progress import progress
from stages.lib.moments import Moments
from stages.lib.params.statistics import StatisticsParams


def main(cases: Path, split_csv: Path, statistics_json: Path, params: StatisticsParams) -> None:
    split = splits.read(split_csv)
    train = split.loc[split["split"] == "train", "case"].tolist()
    with Cases(cases) as opened:
        rows = np.array([opened.index(case) for case in train])
        dtype, channels = _dtype_and_channels(opened)
        moments = [Moments(dtype) for _ in range(channels)]
        for row in progress(rows, "statistics", "case"):
            for pixels, channel in zip(opened[int(row)], moments, strict=True):
                channel.add(pixels)
        axes = dict(zip("CDHW" if opened.dims == 3 else "CHW", opened.shapes[rows].T, strict=True))
        spacings = dict(zip(opened.axes[1:], opened.spacings_mm[rows].T, strict=True))
        written: dict[str, Any] = {
            "cases": len(train),
            "groups": int(split.loc[split["split"] == "train", "group"].nunique()),
            "classes": _counts(split[split["split"] == "train"], "label"),
            "splits": {name: _counts(part, "label") for name, part in split.groupby("split")},
            "dtype": dtype,
            "units": opened.units,
            "shape": {axis: _spread(sizes) for axis, sizes in axes.items()},
            "spacing_mm": {axis: _spread(steps) for axis, steps in spacings.items()},
            "channels": [asdict(channel.summary(params.percentiles, params.bins)) for channel in moments],
        }
    outs.write_json(statistics_json, written)


def _dtype_and_channels(cases: Cases) -> tuple[str, int]:
    """The dtype and the number of channels that all cases share."""
    channels = sorted(set(cases.shapes[:, 0].tolist()))
    if len(cases.dtypes) > 1 or len(channels) > 1:
        raise UserError(
            f"the cases are of {' and '.join(cases.dtypes)} with {' and '.join(map(str, channels))} channels: a "
            "dataset has one dtype and one number of channels; convert the files, split the dataset, or set ingest's "
            "colour mode"
        )
    return cases.dtypes[0], channels[0]


def _counts(table: pd.DataFrame, column: str) -> dict[str, int]:
    return {str(k): int(n) for k, n in table[column].value_counts().sort_index().items()}


def _spread(numbers: np.ndarray) -> dict[str, float] | None:
    """Minimum, median and maximum; None where a number is unknown."""
    if np.isnan(numbers.astype(float)).any():
        return None
    return {"minimum": float(numbers.min()), "median": float(np.median(numbers)), "maximum": float(numbers.max())}


if __name__ == "__main__":
    command.run(main)
