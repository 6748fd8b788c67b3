"""Ingest

Against plain loops and against itself. Every ingest is the stage's main in one process, with new workers; imports are
not timed. `--pictures` is a folder with one folder of JPEG files per class (CIFAR-10's 50,000), `--series` one with a
CT series; without it a phantom of 60 slices of 512x512 is made. Works are measured on the clock and by the processor's
time, which depends less on how busy the machine is.
"""

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import imageio.v3 as imageio
import numpy as np

from stages.lib.cases import Cases
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Options as ReaderOptions
from stages.lib.ingest.store import Store
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from tools.bench import synthetic
from tools.bench.groups import Options
from tools.bench.processes import quiet, used
from tools.bench.results import Measured
from tools.bench.timing import CLOCKS, Comparison, Work, installed, race
from tools.ingested import ingest_into

NAME = "ingest"
FEWER_FILES, MORE_FILES = 5_000, 50_000  # whose peak memory is compared
LARGE_SIDE = 512  # pixels: height and width of the large pictures
LARGE_PICTURES = 1_000
HEADER_PASSES = 10  # over a series, whose headers take only milliseconds
LARGE, GIVEN = "pictures of 512x512", "these pictures"
FULL_WHY = "Where files are few and small, finding what changed takes as long as reading all."
HIGHDICOM_WHY = "It neither hashes the files nor writes cases, and starts no workers."


def run(options: Options) -> Measured:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*series(options, folder), *additions(LARGE, write_large, folder, options.rounds)]
        rows += checks(LARGE, folder, options.rounds)
        if options.pictures is None:
            return Measured(rows, remarks=["Without --pictures, nothing is measured on 50,000 small JPEG files."])
        pictures = options.pictures
        rows += [*against_a_loop(pictures, folder, options.rounds), memory(pictures, folder)]
        rows += additions(GIVEN, lambda raw: link(pictures, raw), folder, options.rounds)
        rows += checks(GIVEN, folder, options.rounds)
        rows += packed(pictures, folder, options.rounds)
    return Measured(rows)


DEFAULTS = check(IngestParams, {"identifiers": "open"})


def run_stage(raw: Path, out: Path, params: IngestParams = DEFAULTS, workers: int = 0) -> int:
    """Runs ingest; the number of cases."""
    with quiet():
        ingest_into(out, raw, params, workers)
    with Cases(out / "cases") as cases:
        return len(cases)


def run_anew(raw: Path, out: Path, workers: int = 0) -> int:
    """As `run_stage`, without the store of a former run."""
    shutil.rmtree(out, ignore_errors=True)
    return run_stage(raw, out, workers=workers)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def against_a_loop(pictures: Path, folder: Path, rounds: int) -> list[Comparison]:
    paths = files_below(pictures)

    def loop() -> int:
        for path in paths:
            imageio.imread(path)
        return len(paths)

    ours = Work("ingest", lambda: run_anew(pictures, folder / "out"))
    peer = Work("a loop of imageio.imread", loop, "It works in one process, and neither checks nor writes anything.")
    work = "ingest of JPEG files"
    return race(NAME, work, ours, [peer], rounds, agree=int.__eq__, clocks=CLOCKS, amount=len(paths), things="pictures")


def packed(pictures: Path, folder: Path, rounds: int) -> list[Comparison]:
    """Ingest of the same pictures in an archive, against that of the folder."""
    found = []
    number = len(files_below(pictures))
    for name, write in ARCHIVES.items():
        raw = folder / f"raw.{name}"
        raw.mkdir()
        write(pictures, raw / f"x.{name.rpartition(' ')[2]}")
        ours = Work(f"ingest of a {name}", lambda raw=raw: run_anew(raw, folder / "out"))  # type: ignore[misc]
        peer = Work("ingest of the folder", lambda: run_anew(pictures, folder / "out"), ARCHIVE_WHY)
        work = f"ingest of JPEG files in a {name}"
        found += race(
            NAME, work, ours, [peer], rounds, agree=int.__eq__, clocks=CLOCKS, amount=number, things="pictures"
        )
    return found


def write_zip(pictures: Path, target: Path, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in files_below(pictures):
            archive.write(path, path.relative_to(pictures))


def write_tar(pictures: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as archive:
        for path in files_below(pictures):
            archive.add(path, path.relative_to(pictures))


ARCHIVES: dict[str, Callable[[Path, Path], None]] = {
    "zip": write_zip,
    "deflated zip": lambda pictures, target: write_zip(pictures, target, zipfile.ZIP_DEFLATED),
    "tar": write_tar,
    "tar.gz": write_tar,
}
ARCHIVE_WHY = "An index is read before, and a tar.gz is unpacked from its nearest seek point for each run of files."


def series(options: Options, folder: Path) -> list[Comparison]:
    """Ingest of a CT series, and the walk over its headers."""
    one = folder / "series" / "one" / "series"
    if options.series is None:
        synthetic.write_series(one)
    else:
        one.parent.mkdir(parents=True)
        one.symlink_to(options.series.resolve())
    paths = files_below(one.resolve())
    return [
        *against_highdicom(folder / "series", paths, folder / "out", options.rounds),
        *headers(paths, options.rounds),
    ]


def against_highdicom(raw: Path, paths: list[Path], out: Path, rounds: int) -> list[Comparison]:
    def theirs() -> int:
        import highdicom
        import pydicom

        highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths])
        return 1

    ours = Work("ingest", lambda: run_anew(raw, out))
    peer = Work("highdicom", installed("highdicom", theirs), HIGHDICOM_WHY)
    note = f"{len(paths)} slices"
    return race(NAME, "ingest of a CT series", ours, [peer], rounds, agree=int.__eq__, clocks=CLOCKS, note=note)


def headers(paths: list[Path], rounds: int) -> list[Comparison]:
    """What dicom_walk is worth: reading headers with it, against leaving them all to pydicom."""
    from stages.lib.ingest.readers import dicom
    from stages.lib.ingest.readers.scans import dicom_walk

    contents = [path.read_bytes() for path in paths]
    options = ReaderOptions(check(IngestParams, {}), OPEN)

    def by_walk() -> list[object]:
        return [dicom.inspect(content, options) for content in contents]

    def by_pydicom() -> list[object]:
        with mock.patch.object(dicom_walk, "read", return_value=None):
            return by_walk()

    ours = Work("the walk", by_walk, repeats=HEADER_PASSES)
    peer = Work("pydicom alone", by_pydicom, repeats=HEADER_PASSES)
    work, note = "headers of a CT series by the walk", f"{len(contents)} slices"
    return race(NAME, work, ours, [peer], rounds, agree=list.__eq__, clocks=CLOCKS, note=note)


def additions(pictures: str, write: Callable[[Path], object], folder: Path, rounds: int) -> list[Comparison]:
    """An ingest after 1 % of the files were added, against a full one."""
    raw, out = folder / "growing", folder / "out"
    shutil.rmtree(raw, ignore_errors=True)
    write(raw)
    paths = files_below(raw)
    aside = {path: folder / f"{path.parent.name}-{path.name}" for path in paths[::100]}

    def before_addition() -> None:
        for path, place in aside.items():
            path.rename(place)
        run_anew(raw, out)
        for path, place in aside.items():
            place.rename(path)

    ours = Work("ingest after 1 % was added", lambda: run_stage(raw, out), prepare=before_addition)
    peer = Work("a full ingest", lambda: run_anew(raw, out), FULL_WHY)
    work, note = f"ingest after 1 % was added, {pictures}", f"{len(paths)} files"
    return race(NAME, work, ours, [peer], rounds, agree=int.__eq__, clocks=CLOCKS, note=note)


def checks(pictures: str, folder: Path, rounds: int) -> list[Comparison]:
    """What reading and hashing every piece of the store costs an ingest that finds nothing new."""

    def again() -> int:
        return run_stage(folder / "growing", folder / "out")

    def unchecked() -> int:
        with mock.patch.object(Store, "drop_damaged"):
            return again()

    ours = Work("ingest of nothing new", again)
    peer = Work("one that checks no piece", unchecked, "That is what reading and hashing every piece costs.")
    megabytes = sum(piece.stat().st_size for piece in (folder / "out" / "cases").iterdir()) / 1e6
    work, note = f"ingest of nothing new, {pictures}", f"{megabytes:.0f} MB"
    return race(NAME, work, ours, [peer], rounds, agree=int.__eq__, clocks=CLOCKS, note=note)


def write_large(raw: Path) -> None:
    """Pictures large enough for decoding to take most of the time, like those of cameras and microscopes."""
    rng = np.random.default_rng(0)
    for i in range(LARGE_PICTURES):
        folder = raw / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(folder / f"{i:04d}.png", synthetic.waves(rng, LARGE_SIDE))


def link(pictures: Path, raw: Path, number: int | None = None) -> None:
    """The same files by hard or soft links; about `number` of them, evenly chosen, if it is given."""
    paths = files_below(pictures)
    for path in paths[:: max(1, len(paths) // number) if number else 1]:
        place = raw / path.relative_to(pictures)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            place.symlink_to(path.resolve())


def memory(pictures: Path, folder: Path) -> Comparison:
    """Peak memory of ingest with two workers, for many files and for a tenth of them."""
    peaks = []
    for number in (FEWER_FILES, MORE_FILES):
        link(pictures, folder / f"raw{number}", number)
        peaks.append(used(run_anew, folder / f"raw{number}", folder / f"out{number}", 2).mebibytes)
    fewer, more = ([peak] for peak in peaks)
    why = "Ingest keeps a few numbers of every file in memory."
    return Comparison(
        NAME, f"peak memory of ingest, {MORE_FILES} files", more, f"{FEWER_FILES} files", fewer, "MiB", why=why
    )
