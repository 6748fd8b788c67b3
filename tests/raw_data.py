"""Raw data for tests: pictures, and DICOM series whose slices can be damaged one by one."""

import copy
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from stages.lib.cases import Cases
from stages.lib.params.ingest import IngestParams
from tools.ingested import ingest_into

SHARED = Path(os.environ.get("SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


class Ingested:
    """What an ingest wrote, read back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases_csv = folder / "cases.csv"
        self.table = pd.read_csv(self.cases_csv, dtype=str, keep_default_na=False)
        self.rejected = pd.read_csv(folder / "rejected.csv", dtype=str, keep_default_na=False)
        self.counts = json.loads((folder / "ingest.json").read_text())
        with Cases(folder / "cases") as cases:
            self.axes, self.units, self.spacings_mm = cases.axes, cases.units, cases.spacings_mm
            self.pixels = [np.array(pixels) for pixels in cases]

    def reason(self, path: str) -> str:
        return self.rejected.set_index("path").loc[path, "reason"]

    def bytes(self) -> dict[str, bytes]:
        return bytes_below(self.folder)


def bytes_below(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder of outs, by relative path; the store of .ingest/ is no out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".ingest" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def ingest(raw: Path, out: Path, workers: int = 1, **params: object) -> Ingested:
    """Runs the stage's main, in this process alone unless `workers` is given."""
    given = {"identifiers": "open", "max_rejected": 1.0} | params
    ingest_into(out, raw, IngestParams(**given), workers)  # type: ignore[arg-type]
    return Ingested(out)


def write_pictures(raw: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 4, seed: int = 0) -> None:
    """Class folders with grey PNG and colour JPEG files of mixed sizes."""
    rng = np.random.default_rng(seed)
    for label in classes:
        (raw / label).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            height, width = 9 + i % 7, 12 - i % 5
            colour = rng.integers(0, 256, (height, width, 3), np.uint8)
            if i % 2:
                imageio.imwrite(raw / label / f"{i}.jpg", colour)
            else:
                imageio.imwrite(raw / label / f"{i}.png", colour[..., 0])


def settle() -> None:
    """Lets files become old: one changed within a tenth of a second is not taken for unchanged."""
    time.sleep(0.12)


def make_slice(i: int, pixels: np.ndarray, series: str = "one", patient: str = "Doe") -> Dataset:
    """The i-th slice of an axial CT, 2.5 mm apart, from pixels in Hounsfield units."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality = CTImageStorage, "CT"
    image.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(i)])
    image.PatientID = patient
    image.StudyInstanceUID = generate_uid(entropy_srcs=[patient])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=[series, "frame"])
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = i + 1
    image.ImagePositionPatient = [-10.0, -20.0, round(2.5 * i, 4)]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [0.75, 0.5]
    image.RescaleSlope, image.RescaleIntercept = 1, -1024
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = (pixels + 1024).astype("<u2").tobytes()
    return image


def scan(depth: int = 8, rows: int = 7, columns: int = 6, seed: int = 0) -> np.ndarray:
    """Random Hounsfield units, (D, H, W) int16."""
    return np.random.default_rng(seed).integers(-1024, 3072, (depth, rows, columns)).astype(np.int16)


def write_series(
    folder: Path,
    pixels: np.ndarray | None = None,
    spoil: Callable[[list[Dataset]], None] | None = None,
    series: str = "one",
    patient: str = "Doe",
) -> np.ndarray:
    """Writes a series whose file names are in no order; `spoil` may change the list of slices first."""
    pixels = scan() if pixels is None else pixels
    slices = [make_slice(i, one, series, patient) for i, one in enumerate(pixels)]
    if spoil:
        spoil(slices)
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(1).permutation(len(slices))
    for name, image in zip(order, slices, strict=True):
        image.save_as(folder / f"{name:03d}", enforce_file_format=True)
    return pixels


def as_one_object(slices: list[Dataset], series: str) -> Dataset:
    """An enhanced CT of the slices."""
    whole = copy.deepcopy(slices[0])
    del whole.ImagePositionPatient, whole.ImageOrientationPatient, whole.PixelSpacing
    del whole.RescaleSlope, whole.RescaleIntercept
    whole.SOPClassUID, whole.SOPInstanceUID = EnhancedCTImageStorage, generate_uid(entropy_srcs=[series, "whole"])
    whole.SeriesInstanceUID, whole.NumberOfFrames = series, len(slices)
    whole.PixelData = b"".join(image.PixelData for image in slices)
    whole.PerFrameFunctionalGroupsSequence = []
    for image in slices:
        group, position, scale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = image.ImagePositionPatient
        scale.RescaleSlope, scale.RescaleIntercept = image.RescaleSlope, image.RescaleIntercept
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [scale]
        whole.PerFrameFunctionalGroupsSequence.append(group)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing = slices[0].PixelSpacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    whole.SharedFunctionalGroupsSequence = [shared]
    return whole
