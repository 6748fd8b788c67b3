"""Feeds mutated PNG, JPEG, TIFF and DICOM files to ingest's readers: none may crash, hang or exhaust memory.

    python -m tools.fuzz_ingest --files 10000 --seed 0

Exits 1, naming seed and number, when a file ends its process, takes more than 10 seconds or more than 2 GiB. Linux
only: the peak memory of a process is read from /proc.
"""

import copy
import io
import tempfile
from functools import cache
from typing import Any

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
from stages.lib.ingest import readers
from stages.lib.ingest.file_table import FileTable
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.inspection import inspect_file
from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from tools.mutations import Result, command, measured, spoilt


def try_file(seed: int, number: int) -> Result:
    """Makes the file of this seed and number, and reads it as ingest would."""
    rng = np.random.default_rng([seed, number])
    samples = originals()
    content = spoilt(samples[number % len(samples)], rng)
    return measured(lambda: read(content))


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


@terminal.program()
def main() -> None:
    command(__doc__, try_file, 10_000)


if __name__ == "__main__":
    main()
