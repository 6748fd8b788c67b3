"""Pictures of many kinds in one data set: what all must have in common, and what becomes of those that have not."""

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import tifffile
from PIL import Image

from stages.lib.ingest import decoding, inspection
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.colour import channels_of
from stages.lib.ingest.readers.contract import Inspected, Options
from stages.lib.params.ingest import IngestParams
from tests import ROOT
from tests.ingest.readers.test_pictures import chunk, png
from tests.raw_data import ingest

RNG = np.random.default_rng(0)


def write_bands(path, bands: int, seed: int = 0) -> np.ndarray:
    """A TIFF of 16 bits: red, green and blue, and further bands."""
    pixels = np.random.default_rng(seed).integers(0, 65536, (9, 12, bands)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = ["unspecified"] * (bands - 3)
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=extra, planarconfig="contig")
    return pixels


def test_pictures_of_four_bands_are_cases_of_four_channels(tmp_path):
    expected = {}
    for i, label in enumerate(("field", "forest")):
        pixels = write_bands(tmp_path / "raw" / label / "a.tif", 4, seed=i)
        expected[pixels.tobytes()] = label
    found = ingest(tmp_path / "raw", tmp_path / "out")
    assert found.table["channels"].tolist() == ["4", "4"]
    got = [pixels.transpose(1, 2, 0).tobytes() for pixels in found.pixels]
    assert [expected[pixels] for pixels in got] == found.table["label"].tolist()


def test_a_picture_without_the_bands_of_the_others_is_refused_and_named(tmp_path):
    for i in range(3):
        write_bands(tmp_path / "raw" / "field" / f"{i}.tif", 4, seed=i)
    write_bands(tmp_path / "raw" / "forest" / "whole.tif", 4, seed=9)
    write_bands(tmp_path / "raw" / "forest" / "rgb.tif", 3)
    found = ingest(tmp_path / "raw", tmp_path / "out")
    assert found.counts["rejected"] == {"unsupported_colours": 1}
    assert found.rejected["path"].tolist() == ["forest/rgb.tif"]
    assert found.rejected["detail"].tolist() == ["3 channels, where the data set has 4 (ingest.colour)"]


@pytest.mark.parametrize(
    ("colour", "numbers", "expected"),
    [
        ("auto", {1: 5}, 1),
        ("auto", {1: 5, 3: 1}, 3),
        ("auto", {1: 2, 3: 2, 4: 3}, 3),
        ("auto", {3: 2, 4: 3}, 4),
        ("auto", {2: 1, 5: 1}, 2),
        ("rgb", {4: 9}, 3),
        ("grey_mean", {3: 9}, 1),
        ("auto", {}, 1),
    ],
)
def test_the_number_of_channels_is_that_of_most_cases(colour, numbers, expected):
    assert channels_of(colour, numbers) == expected


def test_a_page_that_fails_costs_its_file_no_other_page_and_is_counted_once(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "raw" / label).mkdir(parents=True)
        with tifffile.TiffWriter(tmp_path / "raw" / label / "pages.tif") as writer:
            for dtype in (np.uint8, np.complex64, np.uint8):
                writer.write(RNG.integers(0, 256, (8, 9)).astype(dtype), contiguous=False, metadata=None)
    found = ingest(tmp_path / "raw", tmp_path / "out", frames="split")
    assert found.counts["cases"] == 4
    assert found.counts["files"] == {"total": 2, "in_cases": 2, "rejected": 0, "ignored": 0, "set_aside": 0}
    assert found.counts["rejected"] == {"unsupported_depth": 2}
    assert found.rejected["detail"].str.startswith("page 2: complex numbers").all()


def test_pictures_with_damaged_metadata_are_counted(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "raw" / label).mkdir(parents=True)
        for i in range(2):
            rows = [row.tobytes() for row in RNG.integers(0, 256, (8, 9), np.uint8)]
            damaged = [chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 8\nno hex")] if i else []
            (tmp_path / "raw" / label / f"{i}.png").write_bytes(png(8, 0, rows, 9, damaged))
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["metadata_damaged"] == 2


PEAK = """
import resource, sys
from pathlib import Path
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers import image
from stages.lib.ingest.readers.contract import Inspected, Options
from stages.lib.params.ingest import IngestParams

options = Options(IngestParams(transparency="black"), OPEN)
for name in sys.argv[1:]:
    content = Path(name).read_bytes()
    common, own = image.inspect(content, options)
    (case,) = image.assemble([Inspected("a", b"", common, own)], [], options).cases
    (pixels,) = image.read(case.files, case.recipe, 0, 1, lambda file: content, options)
    del pixels
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
@pytest.mark.parametrize("kind", ["png", "alpha.png", "palette.png", "jpg", "alpha.tif"])
def test_a_large_picture_takes_no_more_than_a_few_times_its_pixels_while_it_is_decoded(kind, tmp_path):
    side = 4000
    small, large = tmp_path / f"small.{kind}", tmp_path / f"large.{kind}"
    gradient = np.add.outer(np.arange(side), np.arange(side))[..., None] // [8, 16, 32] % 256
    colour = gradient.astype(np.uint8)
    for path, pixels in ((small, colour[:16, :16]), (large, colour)):
        alpha = np.dstack([pixels, pixels[..., :1]])
        if kind == "alpha.tif":
            wide = alpha.astype(np.uint16) * 257
            tifffile.imwrite(path, wide, photometric="rgb", extrasamples=["assocalpha"], compression="zlib")
        elif kind == "palette.png":
            Image.fromarray(pixels).quantize(64).save(path, transparency=0)
        else:
            Image.fromarray(alpha if kind == "alpha.png" else pixels).save(path)
    run = [sys.executable, "-c", PEAK, str(small), str(large)]
    before, after = map(int, subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())
    decoded = side * side * (8 if kind == "alpha.tif" else 4)  # with alpha, or with the byte that Pillow adds
    assert after - before < 3 * decoded, f"{(after - before) / 2**20:.0f} MiB for {decoded / 2**20:.0f} MiB"


HOLD = """
import sys, time
from pathlib import Path
from stages.lib.core.locks import in_turn

with in_turn(Path(sys.argv[1])):
    with open(sys.argv[2], "a") as file:
        file.write("in\\n")
        file.flush()
        time.sleep(0.2)
        file.write("out\\n")
"""


def test_of_those_that_take_much_memory_one_works_at_a_time(tmp_path):
    run = [sys.executable, "-c", HOLD, str(tmp_path / "turn.lock"), str(tmp_path / "log")]
    for process in [subprocess.Popen(run, cwd=ROOT) for _ in range(3)]:
        assert process.wait() == 0
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 3


def test_a_large_picture_waits_for_its_turn_and_a_small_one_does_not(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(decoding, "in_turn", lambda file: taken.append(file) or nullcontext())
    turn = decoding.MemoryTurn(tmp_path / "lock")
    with turn.beside(decoding.LARGE_BYTES - 10):
        turn.take(10)
        turn.take(10)
        assert taken == []
    with turn.beside(decoding.LARGE_BYTES - 10):
        turn.take(11)
        turn.take(11)
        assert taken == [tmp_path / "lock"]


def test_what_a_file_takes_is_told_before_it_is_read(tmp_path):
    path = tmp_path / "1.png"
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    options, told = Options(IngestParams(), OPEN), []
    seen = inspection.inspect_file(str(path), options, told.append)
    file = Inspected(str(path), seen.digest, seen.shared.common, seen.own)
    load = decoding.Loader("", options, told.append)
    assert load(file) == load(file) == path.read_bytes()
    assert told == [path.stat().st_size] * 3
