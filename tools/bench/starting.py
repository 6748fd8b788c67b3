"""Starting

From the start of `python -m stages.<stage>` to the first line of its work: Python itself and what the stage imports.
Against the same for the largest package that the stage cannot do without. The files are in the system's cache.
"""

import subprocess
import sys
from functools import partial

from tools.bench.groups import Options
from tools.bench.results import Measured
from tools.bench.timing import Comparison, Work, race

NAME = "starting"
LARGEST = {
    "check": "pydantic",
    "sample": "sklearn.datasets",
    "ingest": "h5py",
    "split": "pandas",
    "statistics": "pandas",
    "dataset": "pandas",
    "train": "torch",
    "validate": "torch",
    "export": "torch",
}
WHY = "The stage imports further packages, and its own code."


def run(options: Options) -> Measured:
    return Measured([row for stage, package in LARGEST.items() for row in compare(stage, package, options.rounds)])


def compare(stage: str, package: str, rounds: int) -> list[Comparison]:
    ours = Work(f"stages.{stage}", partial(start, f"stages.{stage}"))
    return race(NAME, f"starting {stage}", ours, [Work(f"import {package}", partial(start, package), WHY)], rounds)


def start(module: str) -> None:
    """A Python that imports a module and ends."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
