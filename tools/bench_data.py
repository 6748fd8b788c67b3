"""Compares statistics and dataset with plain copying and with other resampling, as ratios of one run.

    python -m tools.bench_data --rounds 5

Made on the spot: 50,000 colour pictures of 32x32 that stay as they are, 1,600 of 512x512 that become 224x224, and ten
volumes of 99x512x512 that become 96x160x160. The sides of a comparison take turns, each in as many processes as there
are cores; the median round of each counts, and the lowest and highest are given. Before anything is timed, the results
are compared. Nobody's imports are timed, but on our side the start of the workers, and the tables that are read and
written beside the pixels.
"""

import argparse
import importlib.util
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import dataset as dataset_stage
from stages import statistics as statistics_stage
from stages.lib import tensors
from stages.lib.cases import Cases, write_cases
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.machine import MachineParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.workers import count

CT_MM, WANTED_MM = (3.0, 0.56, 0.56), (3.0, 1.8, 1.8)
CHUNK = 1 << 20
SETS: dict[str, tuple[int, tuple[int, ...], str, tuple[float, ...] | None, dict[str, Any]]] = {
    "small": (50_000, (3, 32, 32), "uint8", None, {}),
    "large": (1_600, (3, 512, 512), "uint8", None, {"shape": (224, 224)}),
    "ct": (10, (1, 99, 512, 512), "int16", CT_MM, {"spacing_mm": WANTED_MM, "shape": (96, 160, 160)}),
}


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench_data", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)  # how the command calls itself
    given = parser.parse_args()
    if given.peer:
        serve(*given.peer)
        return
    say(f"{count(0)} cores, {given.rounds} rounds, medians (lowest to highest) in seconds\n")
    say("| work | ours | against | theirs | ours is |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for kind in SETS:
            folder = Path(name, kind)
            make(folder, kind)
            ours = partial(run_dataset, folder, kind)
            run_statistics(folder)
            ours()
            if kind == "small":
                compare("dataset, small", ours, "copying the bytes", partial(copy, folder), given.rounds)
            for peer, package in PEERS.get(kind, {}).items():
                if importlib.util.find_spec(package):
                    with Peer(folder, peer) as theirs:
                        compare(f"dataset, {kind}", ours, peer, theirs, given.rounds)
                else:
                    say(f"| dataset, {kind} | | {peer} | not installed | |")
            measure = partial(run_statistics, folder)
            compare(f"statistics, {kind}", measure, "reading the bytes", partial(read, folder), given.rounds)
            shutil.rmtree(folder)


def make(folder: Path, kind: str) -> None:
    """cases/ and split.csv, of smooth pictures with noise."""
    number, shape, dtype, spacing, _ = SETS[kind]
    rng = np.random.default_rng(0)
    few = []
    for _ in range(min(number, 20)):
        coarse = rng.integers(0, 200, (shape[0], *[4] * (len(shape) - 1)))
        for axis, size in enumerate(shape[1:], 1):
            coarse = np.repeat(coarse, -(-size // 4), axis).take(range(size), axis)
        few.append((coarse + rng.integers(0, 50, shape)).astype(dtype))
    names = [f"{i:016x}" for i in range(number)]
    pixels = {name: few[i % len(few)] for i, name in enumerate(names)}
    axes = "CHW" if len(shape) == 3 else "CDHW"
    write_cases(folder / "cases", pixels, axes, "HU" if spacing else "", [spacing] * number if spacing else None)
    table = pd.DataFrame({"case": names, "group": names, "label": ["ab"[i % 2] for i in range(number)]})
    turns = ["train"] * 7 + ["validation"] + ["test"] * 2
    table["split"] = [turns[i % 10] for i in range(number)]
    table.to_csv(folder / "split.csv", index=False)


def run_statistics(folder: Path) -> None:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        statistics_stage.main(
            folder / "cases", folder / "split.csv", folder / "statistics.json", StatisticsParams(), MachineParams()
        )


def run_dataset(folder: Path, kind: str) -> None:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        dataset_stage.main(
            folder / "cases",
            folder / "split.csv",
            folder / "statistics.json",
            folder / "dataset.h5",
            DatasetParams(**SETS[kind][4]),
            MachineParams(),
        )


class Peer:
    """Processes that do the same work by another library, each a part of the cases, whenever they are called."""

    def __init__(self, folder: Path, peer: str) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tools.bench_data", "--peer", str(folder), peer, str(part)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for part in range(count(0))
        ]
        self()  # when this is done, all have started and compared their results with ours

    def __call__(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            print("go", file=process.stdin, flush=True)
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline() != "done\n":
                raise UserError("a process of the peer failed; what it said is above")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes:
            process.communicate()


def serve(folder: str, peer: str, part: str) -> None:
    """One of a peer's processes: does its part for each line of stdin."""
    work = WORKS[peer]
    check(Path(folder), work, peer)
    with Cases(Path(folder, "cases")) as opened:
        for _ in sys.stdin:
            for i in range(int(part), len(opened), count(0)):
                work(opened[i])
            print("done", flush=True)


def resize(x: np.ndarray) -> np.ndarray:
    import torch
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)
    return functional.resize(torch.from_numpy(x.copy()), [224, 224], antialias=True).numpy()


def resample(x: np.ndarray) -> np.ndarray:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    volume = sitk.GetImageFromArray(x[0])
    volume.SetSpacing(CT_MM[::-1])
    half = [(b - a) / 2 for a, b in zip(CT_MM[::-1], WANTED_MM[::-1], strict=True)]  # to the first pixel's centre
    size = [160, 160, 96]
    return sitk.GetArrayFromImage(
        sitk.Resample(volume, size, sitk.Transform(), sitk.sitkLinear, half, WANTED_MM[::-1], volume.GetDirection())
    )[None]


def space(x: np.ndarray) -> np.ndarray:
    import torch
    from monai.data import MetaTensor  # type: ignore[import-not-found]
    from monai.transforms import Spacing  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    affine = torch.diag(torch.tensor([*CT_MM, 1.0]))
    return Spacing(WANTED_MM, mode="bilinear")(MetaTensor(torch.from_numpy(x.astype(np.float32)), affine)).numpy()


PEERS = {
    "large": {"torchvision, antialiased": "torchvision"},
    "ct": {"SimpleITK, linear": "SimpleITK", "MONAI, Spacing": "monai"},
}
WORKS = {"torchvision, antialiased": resize, "SimpleITK, linear": resample, "MONAI, Spacing": space}


def check(folder: Path, work: Callable[[np.ndarray], np.ndarray], name: str) -> None:
    """Raises:
    AssertionError: The peer gives other pictures: the mean of a case is another.
    """
    with Cases(folder / "cases") as opened:
        theirs = work(opened[0])
    first = tensors.read_split(folder / "dataset.h5", "train").x[0]
    middle = [slice(n // 4, 3 * n // 4) for n in first.shape[1:]]  # away from crops and padding
    means = [float(np.mean(one[(slice(None), *middle)])) for one in (np.asarray(first), theirs[:, : first.shape[1]])]
    assert abs(means[0] - means[1]) < 3, f"{name} gives {means[1]:.1f} on average, not {means[0]:.1f}"


def copy(folder: Path) -> None:
    """All cases to another file, and onto the disk, as a stage's outs are."""
    (piece,) = (folder / "cases").iterdir()
    with open(piece, "rb") as source, open(folder / "copy", "wb") as target:
        while content := source.read(CHUNK):
            target.write(content)
        target.flush()
        os.fsync(target.fileno())


def read(folder: Path) -> None:
    (piece,) = (folder / "cases").iterdir()
    buffer = bytearray(CHUNK)
    with open(piece, "rb", buffering=0) as source:
        while source.readinto(buffer):
            pass


def compare(work: str, ours: Callable[[], object], against: str, theirs: Callable[[], object], rounds: int) -> None:
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    (mine, spread), (other, other_spread) = (_told(column) for column in zip(*times, strict=True))
    say(f"| {work} | {spread} | {against} | {other_spread} | {other / mine:.2f}x as fast |")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _told(times: tuple[float, ...]) -> tuple[float, str]:
    middle = statistics.median(times)
    return middle, f"{middle:.2f} ({min(times):.2f} to {max(times):.2f})"


if __name__ == "__main__":
    main()
