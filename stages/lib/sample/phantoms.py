"""Synthetic CT studies as real DICOM series: a noisy body with lungs, and inside a lung the label's structure.

    no_nodule     vessels alone
    solid         a soft-tissue ball of 40 HU
    calcified     the same ball around a dense core of 500 HU

All classes draw body, spacing, vessels and noise from the same distributions. The few voxels of a nodule change a
scan's mean by far less than it differs between patients, so the mean intensity says nothing of the class.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

CLASSES = ("no_nodule", "solid", "calcified")
ROWS = 48  # and columns
AIR, FAT, LUNG, TISSUE, CALCIUM, BONE = -1000, -90, -850, 40, 500, 600  # HU
NOISE = 30  # HU, standard deviation
SLOPE, INTERCEPT = 1, -1024  # stored value to HU


@dataclass(frozen=True)
class Ellipsoid:
    """A part of a body, of one intensity; positions in mm from the middle of the body, along z, y, x."""

    centre: np.ndarray  # (3,)
    radii: np.ndarray  # (3,)
    intensity: float  # HU

    def holds(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Which points lie inside: a mask of the shape that z, y and x broadcast to."""
        (cz, cy, cx), (rz, ry, rx) = self.centre, self.radii
        return ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def write(folder: Path, patients: int, seed: int) -> None:
    """Writes labels.csv (path, label) and <patient>/<series>/<file>.dcm; a third of the patients have two series.

    A series has slices of 48x48 pixels of 6 to 7.5 mm, 4 to 6 mm apart, in 12 of 16 bits with slope and intercept. The
    files' names do not follow the order of the slices.
    """
    rows = []
    for patient in range(patients):
        label = CLASSES[patient % len(CLASSES)]
        rng = np.random.default_rng([seed, patient])
        length_mm, parts = draw_body(rng, label)
        for series in range(2 if rng.random() < 1 / 3 else 1):
            path = f"P{patient:03d}/S{series}"
            z_step, in_plane = round(float(rng.uniform(4, 6)), 2), round(float(rng.uniform(6, 7.5)), 3)
            spacing_mm = (z_step, in_plane, in_plane)
            scan = scan_body(rng, parts, (int(length_mm / z_step), ROWS, ROWS), spacing_mm)
            _write_series(folder / path, scan, spacing_mm, rng.permutation(len(scan)), (seed, patient, series))
            rows.append((path, label))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "label"), *rows])


def draw_body(rng: np.random.Generator, label: str) -> tuple[float, list[Ellipsoid]]:
    """A body's length in mm, and its parts; a later part replaces an earlier one where they overlap."""
    length, size = rng.uniform(72, 84), rng.uniform(0.9, 1.05)
    endless = 10 * length  # along z: the trunk goes on beyond the scan
    centred = np.zeros(3)
    trunk = [
        Ellipsoid(centred, np.array([endless, 105, 135]) * size, FAT),
        Ellipsoid(centred, np.array([endless, 95, 125]) * size, TISSUE),
        Ellipsoid(np.array([0, 75, 0]) * size, np.array([endless, 16, 16]) * size, BONE),
    ]
    lungs = []
    for side in (-1, 1):
        centre = np.array([0, -5, side * 58]) + rng.normal(0, [2, 3, 3])
        radii = np.array([0.62 * length, 65, 42]) * size * rng.uniform(0.93, 1.07, 3)
        lungs.append(Ellipsoid(centre, radii, LUNG + rng.normal(0, 20)))
    vessels = []  # thin, along z, as bright as a solid nodule
    for lung in lungs:
        for _ in range(rng.integers(3, 6)):
            centre = lung.centre + rng.uniform(-0.6, 0.6, 3) * lung.radii
            vessels.append(Ellipsoid(centre, np.array([0.5 * length, 4.5, 4.5]), TISSUE))
    # Drawn for every class, so that all classes use the same random numbers.
    lung, radius = lungs[rng.integers(2)], rng.uniform(15, 19)
    centre = lung.centre + rng.uniform(-0.5, 0.5, 3) * lung.radii
    solid, core = (Ellipsoid(centre, np.full(3, r), hu) for r, hu in ((radius, TISSUE), (0.65 * radius, CALCIUM)))
    nodule = {"no_nodule": [], "solid": [solid], "calcified": [solid, core]}[label]
    return length, [*trunk, *lungs, *vessels, *nodule]


def scan_body(
    rng: np.random.Generator,
    parts: list[Ellipsoid],
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> np.ndarray:
    """A noisy scan in Hounsfield units, (D, H, W) int16."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    z, y, x = ((i - (n - 1) / 2) * step for i, n, step in zip((z, y, x), shape, spacing_mm, strict=True))
    scan = np.full(shape, AIR, np.float64)
    for part in parts:
        scan[part.holds(z, y, x)] = part.intensity
    return np.clip(np.round(scan + rng.normal(0, NOISE, shape)), -1024, 3071).astype(np.int16)


def _write_series(
    folder: Path,
    scan: np.ndarray,  # (D, H, W)
    spacing_mm: tuple[float, float, float],
    names: np.ndarray,  # (D,) one number per slice
    source: tuple[int, int, int],  # seed, patient, series
) -> None:
    seed, patient, series = source
    z_step, in_plane, _ = spacing_mm
    study = f"phantom {seed} {patient}"
    folder.mkdir(parents=True)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.Modality = "CT"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Manufacturer = "Synthetic"
    image.BodyPartExamined = "CHEST"
    image.PatientID = image.PatientName = f"PHANTOM-{seed}-{patient:03d}"
    image.StudyInstanceUID = generate_uid(entropy_srcs=[study])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[study, str(series)])
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=[study, str(series), "frame"])
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [in_plane, in_plane]
    image.SliceThickness = z_step
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = SLOPE, INTERCEPT, "HU"
    image.Rows = image.Columns = ROWS
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    for i, pixels in enumerate(scan):
        image.SOPInstanceUID = generate_uid(entropy_srcs=[study, str(series), str(i)])
        image.InstanceNumber = i + 1
        image.ImagePositionPatient = [-ROWS / 2 * in_plane, -ROWS / 2 * in_plane, round(i * z_step, 2)]
        image.PixelData = (pixels - INTERCEPT).astype("<u2").tobytes()
        image.save_as(folder / f"{names[i]:06d}.dcm", enforce_file_format=True)
