"""Growth with the number of cases

Time, peak memory and bytes on disk of each data stage for pictures of 8x8 pixels in PNG, each stage in a fresh process,
whose imports are not timed. Peak memory is that of the largest of its processes, with all that is imported. Above
100,000 pictures cases/ is written without ingest.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages import dataset as dataset_stage
from stages import split as split_stage
from stages import statistics as statistics_stage
from stages.lib.cases import write_cases
from stages.lib.params import check
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.split import SplitParams
from stages.lib.params.statistics import StatisticsParams
from tools.bench.groups import Options
from tools.bench.ingest import run_anew
from tools.bench.processes import Used, disk_bytes, used
from tools.bench.results import Growth, Measured

MOST_FILES = 100_000  # that are made for ingest
STAGES = ("ingest", "split", "statistics", "dataset")
CLASSES = 10
PIECE_CASES = 8192  # about those of ingest, 1 MiB of files


def run(options: Options) -> Measured:
    growth = {stage: Growth(stage, [], [], [], []) for stage in STAGES}
    for cases in sorted(set(options.cases)):
        with tempfile.TemporaryDirectory() as folder:
            measure(cases, Path(folder), growth)
    return Measured(growth=[of for of in growth.values() if of.cases])


def measure(cases: int, folder: Path, growth: dict[str, Growth]) -> None:
    """Runs every stage on so many cases, and adds a number to each list of its growth."""
    out = folder / "out"
    if cases <= MOST_FILES:
        write_files(folder / "raw", cases)
        took(growth["ingest"], cases, out, partial(used, run_anew, folder / "raw", out))
    else:
        write_directly(out, cases)
    for stage, work in (("split", run_split), ("statistics", run_statistics), ("dataset", run_dataset)):
        took(growth[stage], cases, out, partial(used, work, out))


def took(of: Growth, cases: int, out: Path, work: Callable[[], Used]) -> None:
    before = disk_bytes(out)
    spent = work()
    of.cases.append(cases)
    of.seconds.append(spent.seconds)
    of.mebibytes.append(spent.mebibytes)
    of.disk_bytes.append(disk_bytes(out) - before)


def pictures(cases: int) -> np.ndarray:
    """Different pictures (N, 8, 8) uint8."""
    return np.random.default_rng(0).integers(0, 256, (cases, 8, 8), np.uint8)


def write_files(raw: Path, cases: int) -> None:
    """A PNG file per case, in a folder per class."""
    for label in range(CLASSES):
        (raw / f"class{label}").mkdir(parents=True)
    for i, picture in enumerate(pictures(cases)):
        Image.fromarray(picture).save(raw / f"class{i % CLASSES}" / f"{i:07d}.png")


def write_directly(out: Path, cases: int) -> None:
    """cases/ and cases.csv as ingest would have them, in pieces of PIECE_CASES."""
    names = [f"{i:016x}" for i in range(cases)]
    for at in range(0, cases, PIECE_CASES):
        few = dict(zip(names[at : at + PIECE_CASES], pictures(PIECE_CASES)[:, None], strict=False))
        write_cases(out / "cases", few, "CHW", name=f"{at // PIECE_CASES:06x}.h5")
    labels = [f"class{i % CLASSES}" for i in range(cases)]
    pd.DataFrame({"case": names, "group": names, "label": labels}).to_csv(out / "cases.csv", index=False)


def run_split(out: Path) -> None:
    split_stage.main(out / "cases.csv", out / "split.csv", check(SplitParams, {}))


def run_statistics(out: Path) -> None:
    statistics_stage.main(out / "cases", out / "split.csv", out / "statistics.json", StatisticsParams())


def run_dataset(out: Path) -> None:
    statistics_json, dataset_h5 = out / "statistics.json", out / "dataset.h5"
    dataset_stage.main(out / "cases", out / "split.csv", statistics_json, dataset_h5, DatasetParams())
