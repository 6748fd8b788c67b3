"""Decoding

JPEG and PNG files of 512x512 in colour, from bytes in memory to an array, in one thread; and a CT series from files to
a volume in Hounsfield units, and such volumes from packed files of NIfTI, NRRD and MetaImage, in one process.
`--series` is a folder with one CT series; without it a phantom of 60 slices of 512x512 is made. Ours is what ingest
decodes with, after its inspection of the header; for a series or a volume it includes the inspection and the check of
the geometry, as in `tools.predict`.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import SimpleITK

from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers import image
from stages.lib.ingest.readers.contract import Inspected
from stages.lib.ingest.readers.contract import Options as ReaderOptions
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from tools.bench import synthetic
from tools.bench.decoding_peers import DECODERS, FILE_READERS, VOLUME_READERS
from tools.bench.groups import Options
from tools.bench.results import Measured
from tools.bench.timing import Comparison, Work, installed, race
from tools.raw_cases import read_cases

NAME = "decoding"
SIDE, PICTURES = 512, 50
QUALITY = 90  # of JPEG
FILES = {"NIfTI, packed": ".nii.gz", "NRRD, packed": ".nrrd", "MetaImage, packed": ".mha"}
LARGEST_DIFFERENCE = 2.0  # grey values, on average: decoders of JPEG round and upsample differently


def run(options: Options) -> Measured:
    rows = [*compare("jpeg", options.rounds), *compare("png", options.rounds)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        series = options.series
        if series is None:
            series = folder / "series"
            synthetic.write_series(series)
        series = min(path.parent for path in series.rglob("*") if path.is_file())  # SimpleITK takes no folder above
        rows += compare_series(series, folder / "converted", options.rounds)
        rows += compare_files(series, folder, options.rounds)
    return Measured(rows)


def compare(kind: str, rounds: int) -> list[Comparison]:
    """Ours and every decoder of a format."""
    contents = encoded(kind)
    ours = Work("ingest's reader", partial(read_all, [ready(content) for content in contents]))
    peers = [
        Work(of.name, installed(of.package, partial(decode_all, of.decode, contents)), of.why)
        for of in DECODERS
        if kind in of.formats
    ]
    work = f"{kind.upper()} {SIDE}x{SIDE}"
    return race(NAME, work, ours, peers, rounds, agree=agree, amount=PICTURES, things="pictures")


def encoded(kind: str) -> list[bytes]:
    rng = np.random.default_rng(0)
    how: dict[str, Any] = {"quality": QUALITY} if kind == "jpeg" else {}
    return [
        imageio.imwrite("<bytes>", synthetic.waves(rng, SIDE), extension=f".{kind}", **how) for _ in range(PICTURES)
    ]


def ready(content: bytes) -> Callable[[], np.ndarray]:
    """What ingest's second pass calls for a file that it has inspected; it gives (C, H, W)."""
    options = ReaderOptions(check(IngestParams, {}), OPEN)
    inspected = Inspected("picture", b"", *image.inspect(content, options))
    (case,) = image.assemble([inspected], [], options).cases
    return lambda: next(image.read(case.files, case.recipe, 0, 1, lambda file: content, options))


def read_all(readers: list[Callable[[], np.ndarray]]) -> np.ndarray:
    """Decodes all; the last picture (H, W, C)."""
    pixels = np.empty(0)
    for read in readers:
        pixels = read()
    return pixels.transpose(1, 2, 0)


def decode_all(decode: Callable[[bytes], np.ndarray], contents: list[bytes]) -> np.ndarray:
    """As `read_all`."""
    pixels = np.empty(0)
    for content in contents:
        pixels = decode(content)
    return pixels


def agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two arrays are of one shape and nearly the same."""
    return ours.shape == theirs.shape and float(np.abs(ours - theirs.astype(float)).mean()) < LARGEST_DIFFERENCE


def compare_series(series: Path, scratch: Path, rounds: int) -> list[Comparison]:
    """Ours and every library that makes a volume of a CT series."""
    ours = Work("ingest's reader", partial(volume, series))
    peers = [Work(of.name, installed(of.package, partial(of.read, scratch, series)), of.why) for of in VOLUME_READERS]
    slices = sum(path.is_file() for path in series.rglob("*"))
    work = "DICOM, a CT series"
    return race(NAME, work, ours, peers, rounds, agree=same_values, amount=slices, things="slices")


def compare_files(series: Path, folder: Path, rounds: int) -> list[Comparison]:
    """Ours and other readers of the volume of a series in one packed file of each format."""
    rows = []
    pixels = volume(series)[0]
    for name, ending in FILES.items():
        files = [folder / f"{i}{ending}" for i in range(2)]  # as ours would keep one
        for i, file in enumerate(files):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels + i), str(file), True)
        ours = Work("ingest's reader", partial(each, volume, files))
        peers = [
            Work(of.name, installed(of.package, partial(each, partial(of.read, folder), files)), of.why)
            for of in FILE_READERS
            if ending in of.endings
        ]
        amount = len(files) * len(pixels)
        rows += race(NAME, name, ours, peers, rounds, agree=same_values, amount=amount, things="slices")
    return rows


def each(read: Callable[..., np.ndarray], files: list[Path]) -> np.ndarray:
    """Reads all; the last volume."""
    return [read(file) for file in files][-1]


def same_values(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two volumes have the same numbers, whatever the order of their axes."""
    first, second = ([one.size, one.min(), one.max(), one.mean(dtype=float)] for one in (ours, theirs))
    return np.allclose(first, second, rtol=1e-6, atol=1e-3)


def volume(series: Path) -> np.ndarray:
    """(1, D, H, W) of a folder or a file."""
    (case,) = read_cases([str(series)], "volumes", 1)
    assert case.pixels is not None, case.trouble
    return case.pixels
