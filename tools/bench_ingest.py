"""Compares ingest with plain loops and with itself, as ratios of one run.

    python -m tools.bench_ingest --pictures cifar/ --series chest/

`pictures` is a folder with one folder of JPEG files per class (CIFAR-10's 50,000), `series` one with a CT series. The
two sides of a comparison take turns for some rounds, so that a busy moment of the machine slows both; the best round
of each counts. Every ingest is the stage's main in this process, with new workers; imports are not timed.
"""

import argparse
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import imageio.v3 as imageio

from stages import ingest
from stages.lib.core import terminal
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Options
from stages.lib.ingest.store import Store
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.params.machine import MachineParams

FEWER_FILES, MORE_FILES = 5_000, 50_000  # whose peak memory is compared
LARGE_SIDE = 512  # pixels: height and width of the large pictures
LARGE_PICTURES = 1_000
HEADER_PASSES = 10  # over a series, whose headers take only milliseconds


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--series", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)  # how the command calls itself
    given = parser.parse_args()
    if given.memory_of:
        print(measure_memory(given.memory_of))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.pictures:
            compare_pictures(given.pictures, Path(folder), given.rounds)
            compare_memory(given.pictures, Path(folder))
        if given.series:
            compare_series(given.series, Path(folder), given.rounds)
            compare_headers(given.series, given.rounds)
        compare_additions("pictures of 512x512", write_large, Path(folder), given.rounds)
        compare_check("pictures of 512x512", Path(folder), given.rounds)
        if given.pictures:
            compare_additions("these pictures", lambda raw: link(given.pictures, raw), Path(folder), 1)
            compare_check("these pictures", Path(folder), given.rounds)


def run(raw: Path, out: Path, workers: int = 0) -> None:
    params = check(IngestParams, {"identifiers": "open"})
    with redirect_stdout(io.StringIO()):
        ingest.main(raw, out / "cases", out / "cases.csv", out / "ingest.json", params, MachineParams(workers=workers))


def run_anew(raw: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    run(raw, out)


class Cost(NamedTuple):
    """Seconds on the clock, and of processor time, which depends less on how busy the machine is."""

    clock: float
    processor: float

    def __str__(self) -> str:
        return f"{self.clock:.2f} s, {self.processor:.2f} s of processor"


def cost(work: Callable[[], object]) -> Cost:
    began, busy = time.perf_counter(), processor()
    work()
    return Cost(time.perf_counter() - began, processor() - busy)


def processor() -> float:
    """Seconds of processor time of this process and of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def best(rounds: int, *works: Callable[[], object]) -> list[Cost]:
    """The lowest cost of each; they take turns."""
    return [min(column) for column in zip(*([cost(work) for work in works] for _ in range(rounds)), strict=True)]


def say(comparison: str, theirs: Cost, ours: Cost, detail: str) -> None:
    ratio = f"{theirs.clock / ours.clock:6.1f}x on the clock, {theirs.processor / ours.processor:.1f}x of processor"
    print(f"{ratio}: {comparison} ({detail}: {theirs}; ingest {ours})", flush=True)


def compare_pictures(pictures: Path, folder: Path, rounds: int) -> None:
    paths = sorted(path for path in pictures.rglob("*") if path.is_file())

    def loop() -> None:
        for path in paths:
            imageio.imread(path)

    theirs, ours = best(rounds, loop, lambda: run_anew(pictures, folder / "out"))
    say("ingest of JPEG files against an imageio loop", theirs, ours, f"{len(paths)} pictures")


def compare_series(series: Path, folder: Path, rounds: int) -> None:
    import highdicom
    import pydicom

    raw = folder / "series"
    (raw / "one").mkdir(parents=True)
    (raw / "one" / "series").symlink_to(series.resolve())
    paths = [path for path in series.rglob("*") if path.is_file()]

    def theirs() -> None:
        highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths])

    run_anew(raw, folder / "out")  # imports pydicom, as the other side has
    other, ours = best(rounds + 2, theirs, lambda: run_anew(raw, folder / "out"))
    say("ingest of a CT series against highdicom", other, ours, f"{len(paths)} slices")


def compare_headers(series: Path, rounds: int) -> None:
    """What dicom_walk is worth: reading headers with it, against leaving them all to pydicom."""
    from stages.lib.ingest.readers import dicom, dicom_walk

    contents = [path.read_bytes() for path in sorted(series.rglob("*")) if path.is_file()]
    options = Options(check(IngestParams, {}), OPEN)

    def by_walk() -> None:
        for content in contents * HEADER_PASSES:
            dicom.inspect(content, options)

    def by_pydicom() -> None:
        with mock.patch.object(dicom_walk, "read", return_value=None):
            by_walk()

    theirs, ours = best(rounds, by_pydicom, by_walk)
    detail = f"{len(contents)} slices, {HEADER_PASSES} times"
    say("headers of a CT series by the walk, against pydicom alone", theirs, ours, detail)


def compare_additions(comparison: str, write: Callable[[Path], object], folder: Path, rounds: int) -> None:
    """A full ingest against one after 1 % of the files were added."""
    raw = folder / "growing"
    shutil.rmtree(raw, ignore_errors=True)
    write(raw)
    paths = sorted(path for path in raw.rglob("*") if path.is_file())
    added = paths[::100]
    full, more = [], []
    for _ in range(rounds):
        for path in added:
            path.rename(folder / f"{path.parent.name}-{path.name}")
        run_anew(raw, folder / "out")
        for path in added:
            (folder / f"{path.parent.name}-{path.name}").rename(path)
        more.append(cost(lambda: run(raw, folder / "out")))
        full.append(cost(lambda: run_anew(raw, folder / "out")))
    say(f"ingest after 1 % was added against a full one, {comparison}", min(full), min(more), f"{len(paths)} files")


def compare_check(comparison: str, folder: Path, rounds: int) -> None:
    """What reading and hashing every piece of the store costs an ingest that finds nothing new."""

    def again() -> None:
        run(folder / "growing", folder / "out")

    def unchecked() -> None:
        with mock.patch.object(Store, "drop_damaged"):
            again()

    theirs, ours = best(rounds + 2, unchecked, again)
    megabytes = sum(piece.stat().st_size for piece in (folder / "out" / "cases").iterdir()) / 1e6
    say("ingest of nothing new against one that checks no piece", theirs, ours, f"{comparison}, {megabytes:.0f} MB")


def write_large(raw: Path) -> None:
    """Pictures large enough for decoding to take most of the time, like those of cameras and microscopes."""
    import numpy as np

    rng = np.random.default_rng(0)
    wave = np.linspace(0, 20, LARGE_SIDE)
    for i in range(LARGE_PICTURES):
        shape = np.sin(wave[:, None] * rng.uniform(0.5, 2)) * np.cos(wave * rng.uniform(0.5, 2)) * 80 + 128
        noisy = shape[..., None] + rng.normal(0, 12, (LARGE_SIDE, LARGE_SIDE, 3))
        folder = raw / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(folder / f"{i:04d}.png", np.clip(noisy, 0, 255).astype(np.uint8))


def link(pictures: Path, raw: Path, number: int | None = None) -> None:
    """The same files by hard or soft links; about `number` of them, evenly chosen, if it is given."""
    paths = sorted(path for path in pictures.rglob("*") if path.is_file())
    for path in paths[:: max(1, len(paths) // number) if number else 1]:
        place = raw / path.relative_to(pictures)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            place.symlink_to(path.resolve())


def compare_memory(pictures: Path, folder: Path) -> None:
    peaks = []
    for number in (FEWER_FILES, MORE_FILES):
        link(pictures, folder / f"raw{number}", number)
        command = [sys.executable, "-m", "tools.bench_ingest", "--memory-of", str(folder / f"raw{number}")]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    fewer, more = peaks
    detail = f"{more:.0f}, {fewer:.0f} MiB"
    print(f"{more / fewer:6.2f}x: peak memory at {MORE_FILES} files against {FEWER_FILES} ({detail})")


def measure_memory(raw: Path) -> float:
    """Peak memory of the largest of the processes in MiB; on Linux only."""
    with tempfile.TemporaryDirectory() as out:
        run(raw, Path(out), workers=2)
    # After an exec, getrusage still gives the maximum of the process that called it.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return max(int(line.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


if __name__ == "__main__":
    main()
