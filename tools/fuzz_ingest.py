"""Feeds mutated PNG, JPEG, TIFF and DICOM files to ingest's readers: none may crash, hang or exhaust memory.

    python -m tools.fuzz_ingest --files 10000 --seed 0

Exits 1, naming seed and number, when a file ends its process, takes more than 10 seconds or more than 2 GiB. Linux
only: the peak memory of a process is read from /proc.
"""

import argparse
import copy
import io
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from stages.lib.core import terminal
from stages.lib.core.progress import progress
from stages.lib.ingest import readers
from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import Workers, count, quietly, singles

MAX_SECONDS = 10  # of processor time, which a busy machine does not stretch
MAX_MEBIBYTES = 2048
JOB_FILES = 25


class Result(NamedTuple):
    outcome: str  # "read", or the reason of the rejection
    seconds: float  # of processor time
    mebibytes: float  # peak memory of the process, above what it had before the file


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    with Workers(count(given.workers)) as crew:
        results, wrong = fuzz(given.files, given.seed, crew)
    for outcome, number in Counter(result.outcome for result in results).most_common():
        print(f"{number:7d}  {outcome}")
    slowest, most = max(r.seconds for r in results), max(r.mebibytes for r in results)
    print(f"slowest {slowest:.2f} s of processor time, most memory {most:.0f} MiB")
    if wrong:
        sys.exit(f"{len(wrong)} of {given.files} files went wrong; numbers (seed {given.seed}): {wrong[:20]}")


def fuzz(files: int, seed: int, crew: Workers) -> tuple[list[Result], list[int]]:
    """Each file's result, and the numbers of those that went wrong."""
    chunks = [list(range(start, min(start + JOB_FILES, files))) for start in range(0, files, JOB_FILES)]
    crashed = Result("CRASHED", 0.0, 0.0)
    done = crew.run(partial(try_files, seed), chunks, singles, lambda numbers: [crashed] * len(numbers))
    results, wrong = [], []
    for number, result in progress(
        ((n, r) for chunk, found in done for n, r in zip(chunk, found, strict=True)), "fuzz", "file", files
    ):
        results.append(result)
        if result.outcome == "CRASHED" or result.seconds > MAX_SECONDS or result.mebibytes > MAX_MEBIBYTES:
            wrong.append(number)
    return results, sorted(wrong)


def try_files(seed: int, numbers: list[int]) -> list[Result]:
    return quietly(lambda: [try_file(seed, number) for number in numbers])


def try_file(seed: int, number: int) -> Result:
    """Makes the file of this seed and number, and reads it as ingest would."""
    rng = np.random.default_rng([seed, number])
    samples = originals()
    content = mutated(samples[number % len(samples)], rng)
    before = memory("VmRSS", reset=True)
    began = time.process_time()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the default ends the process: the file counts as crashed
    signal.setitimer(signal.ITIMER_PROF, 2 * MAX_SECONDS)
    outcome = read(content)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return Result(outcome, time.process_time() - began, memory("VmHWM") - before)


def memory(which: str, reset: bool = False) -> float:
    """Memory of the process in MiB: now (VmRSS), or the peak since the last reset (VmHWM); on Linux only."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) / 1024


def read(content: bytes) -> str:
    """What ingest makes of a file that is the only one: "read", or the reason why it is rejected."""
    options = Options(check(IngestParams, {"kind": "images", "frames": "first"}), OPEN)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        table = FileTable(["file"])
        table.put(0, options.identify("path", "file"), inspect_file(file.name, options))
    if table.refused:
        return table.refused[0].reason
    (name,) = table.accepted
    assembly = readers.reader(name).assemble([table.file(0)], [], options)
    if assembly.refused:
        return assembly.refused[0].reason
    (case,) = assembly.cases
    try:
        for block in readers.reader(name).read(case.files, case.recipe, 0, 1, lambda file: content, options):
            assert block.size == np.prod(case.shape), "the reader returned another shape than its case has"
    except Rejected as error:
        return error.reason
    except MemoryError:
        return "too_large"
    except AssertionError:
        raise
    except Exception:  # as in stages.lib.ingest.decoding.reason_of
        return "unreadable"
    return "read"


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips, overwrites, cuts or inserts bytes one to eight times, half of these near the header."""
    spoilt = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        size = len(spoilt)
        at = int(rng.integers(0, max(1, min(size, 600) if rng.random() < 0.5 else size)))
        length = int(rng.integers(1, 9))
        mutation = rng.integers(0, 6)
        if mutation == 0 and size > at:
            spoilt[at] ^= 1 << int(rng.integers(0, 8))
        elif mutation == 1:
            spoilt[at : at + length] = rng.bytes(length)
        elif mutation == 2:
            spoilt[at : at + length] = b"\xff" * length
        elif mutation == 3:
            del spoilt[at : at + length * 16]
        elif mutation == 4:
            spoilt[at:at] = rng.bytes(length)
        elif rng.random() < 0.3:
            del spoilt[at:]
    return bytes(spoilt)


@cache
def originals() -> list[bytes]:
    """Sound files of the four formats, in several encodings."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (40, 50, 3), np.uint8)
    deep = rng.integers(0, 65536, (40, 50)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(colour)
    return [
        _encoded(picture, "PNG"),
        _encoded(Image.fromarray(deep), "PNG"),
        _encoded(picture.quantize(16), "PNG"),
        _encoded(picture, "JPEG"),
        _encoded(picture.convert("L"), "JPEG", exif=exif),
        _encoded(picture, "JPEG", progressive=True),
        _encoded(picture, "TIFF", compression="tiff_lzw"),
        _encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        _tiff(deep),
        *_dicom_files(deep % 4096),
    ]


def _encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def _tiff(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels)
    return stream.getvalue()


def _dicom_files(pixels: np.ndarray) -> list[bytes]:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality, image.PatientID = CTImageStorage, "CT", "nobody"
    image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID = (
        generate_uid(entropy_srcs=[n]) for n in "abc"
    )
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [1, 1], 1, -1024
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels.astype("<u2").tobytes()
    files = []
    for syntax in (None, None, RLELossless, JPEGLSLossless, JPEG2000Lossless):
        stream = io.BytesIO()
        one = copy.deepcopy(image)
        if syntax is not None:
            one.compress(syntax, generate_instance_uid=False)
        pydicom.dcmwrite(stream, one, enforce_file_format=True)
        files.append(stream.getvalue())
    return files


if __name__ == "__main__":
    main()
