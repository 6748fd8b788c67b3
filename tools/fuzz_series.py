"""Shuffles, cuts, doubles and merges DICOM series and ingests them: what becomes a volume must be right.

    python -m tools.fuzz_series --series 500 --seed 0

Every pixel says which series and slice it is of. A volume that ingest accepts must be of one series and one phase, with
every slice of it that is there, following each other in even steps, in its true spacing; all else has to be rejected,
ignored or set aside, file by file. Slices that are not there can't be noticed at an end, as nothing tells of them, nor
those of another patient that lie just where the next ones would and have all their identifiers, nor that one of two
slices alone was moved. Exits 1, naming seed and number, when a volume is wrong, a file is not accounted for, or ingest
fails in any other way than by a message.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

from stages.lib.cases import Cases
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from tools.ingested import ingest_into

DEPTH, SIDE, SPACING = 9, 8, 2.5
Slices = list[Dataset]
SOUND = 999  # number of a series that nothing is done to


def slice_of(series: int, i: int, phase: int = 0) -> Dataset:
    """A slice whose pixels are 1000 * series + 100 * phase + i."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.Modality, image.PatientID = CTImageStorage, "CT", f"p{series}"
    image.SOPInstanceUID = generate_uid(entropy_srcs=[str(series), str(phase), str(i)])
    image.StudyInstanceUID, image.SeriesInstanceUID = (generate_uid(entropy_srcs=[k, str(series)]) for k in "ab")
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", str(series)])
    image.ImageType, image.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], phase * DEPTH + i + 1
    image.AcquisitionNumber = phase + 1
    image.ImagePositionPatient, image.ImageOrientationPatient = [-10.0, -20.0, SPACING * i], [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [0.75, 0.75], 1, 0
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.PixelData = np.full((SIDE, SIDE), 1000 * series + 100 * phase + i, "<i2").tobytes()
    return image


def of_series(series: int, phases: int = 1) -> Slices:
    return [slice_of(series, i, phase) for phase in range(phases) for i in range(DEPTH)]


# What can happen to a series; each takes the slices and gives those that are there afterwards.


def lose(slices: Slices, rng: np.random.Generator) -> Slices:
    lost = set(rng.choice(len(slices), rng.integers(1, 4)).tolist())
    return [image for i, image in enumerate(slices) if i not in lost] or slices


def cut_end(slices: Slices, rng: np.random.Generator) -> Slices:
    return slices[: int(rng.integers(1, len(slices) + 1))]


def merge(slices: Slices, rng: np.random.Generator) -> Slices:
    """Some slices of another series under this one's UIDs, at places of this one or between them."""
    others = of_series(2)[: int(rng.integers(1, DEPTH))]
    for image in others:
        for keyword in ("SeriesInstanceUID", "PatientID", "FrameOfReferenceUID"):
            setattr(image, keyword, slices[0].get(keyword, image.get(keyword)))
        image.ImagePositionPatient[2] += float(rng.choice([0, 0.4, 1.25, 40]))
    return slices + others


def move(slices: Slices, rng: np.random.Generator) -> Slices:
    placed = [image for image in slices if "ImagePositionPatient" in image]
    image = placed[int(rng.integers(len(placed)))]
    image.ImagePositionPatient[int(rng.integers(3))] += float(rng.choice([-2.5, -0.6, 0.3, 1.2, 2.5]))
    return slices


def swap(slices: Slices, rng: np.random.Generator) -> Slices:
    """Two slices exchange their numbers, which say nothing of their places."""
    one, other = rng.choice(len(slices), 2).tolist()
    slices[one].InstanceNumber, slices[other].InstanceNumber = slices[other].InstanceNumber, slices[one].InstanceNumber
    return slices


def turn(slices: Slices, rng: np.random.Generator) -> Slices:
    degrees = np.radians(rng.choice([1, 5, 30, 90]))
    image = slices[int(rng.integers(len(slices)))]
    image.ImageOrientationPatient = [1, 0, 0, 0, round(float(np.cos(degrees)), 6), round(float(np.sin(degrees)), 6)]
    return slices


def double(slices: Slices, rng: np.random.Generator) -> Slices:
    """A slice again: the same, or with other pixels under its UID."""
    i = int(rng.integers(len(slices)))
    again = slice_of(1, i % DEPTH, i // DEPTH)
    again.SeriesInstanceUID = slices[0].get("SeriesInstanceUID", again.SeriesInstanceUID)
    again.ImagePositionPatient = slices[i].get("ImagePositionPatient", again.ImagePositionPatient)
    if rng.integers(2):
        again.PixelData = np.full((SIDE, SIDE), 1777, "<i2").tobytes()
    return [*slices, again]


def forget(slices: Slices, rng: np.random.Generator) -> Slices:
    keywords = ("ImagePositionPatient", "PixelSpacing", "SOPInstanceUID", "FrameOfReferenceUID", "RescaleSlope", "Rows")
    image = slices[int(rng.integers(len(slices)))]
    keyword = str(rng.choice([*keywords, "SeriesInstanceUID", "Modality", "PatientID", "StudyInstanceUID"]))
    if keyword in image:
        delattr(image, keyword)
    return slices


def compress(slices: Slices, rng: np.random.Generator) -> Slices:
    """Some slices again, in another transfer syntax."""
    again = of_series(1)[: int(rng.integers(1, DEPTH))]
    for image in again:
        image.compress(str(rng.choice([RLELossless, JPEGLSLossless])), generate_instance_uid=False)
    return slices + again


def repeat_phase(slices: Slices, rng: np.random.Generator) -> Slices:
    return slices + [slice_of(1, i, 1) for i in range(DEPTH) if rng.random() < 0.9]


CHANGES: tuple[Callable[[Slices, np.random.Generator], Slices], ...] = (
    *(lose, cut_end, merge, move, swap, turn, double, forget, compress, repeat_phase),
)


def try_series(seed: int, number: int) -> str:
    """What is wrong after a series of this seed and number was ingested; "" where nothing is."""
    rng = np.random.default_rng([seed, number])
    slices = of_series(1)
    changes = rng.choice(len(CHANGES), rng.integers(1, 4), replace=False).tolist()
    for i in changes:
        slices = CHANGES[i](slices, rng)
    names = [CHANGES[i].__name__ for i in changes]
    with tempfile.TemporaryDirectory() as place:
        raw, out = Path(place, "raw"), Path(place, "out")
        for folder, images in (("a", slices), ("a/sound", of_series(SOUND % 30)), ("b", of_series(SOUND % 31))):
            (raw / folder).mkdir(parents=True, exist_ok=True)
            for j, image in zip(rng.permutation(len(images)), images, strict=True):
                image.save_as(raw / folder / f"{j:03d}", enforce_file_format="SOPInstanceUID" in image)
        cut = rng.random() < 0.15
        if cut:
            path = raw / "a" / "000"
            path.write_bytes(path.read_bytes()[: int(rng.integers(1, path.stat().st_size))])
        given = {"identifiers": "open", "max_rejected": 1.0, "kind": "volumes", "split_4d": "all"}
        there = {int(np.frombuffer(image.PixelData, "<i2")[0]) for image in slices if not compressed(image)}
        wrong = found_wrong(raw, out, check(IngestParams, given), there)
    return f"{', '.join(names)}{' and a cut file' if cut else ''}: {wrong}" if wrong else ""


def compressed(image: Dataset) -> bool:
    return bool(image.file_meta.TransferSyntaxUID.is_compressed)


def found_wrong(raw: Path, out: Path, params: IngestParams, slices: set[int]) -> str:
    """Ingests, and says what is wrong with the outs.

    Args:
        slices: Those that are there, whole or damaged, by the value of their pixels.
    """
    try:
        with redirect_stdout(StringIO()):
            ingest_into(out, raw, params, workers=1)
    except UserError as error:
        return "" if "same pixels have different labels" in str(error) else f"an error: {error}"
    rejected, files = (pd.read_csv(out / f"{name}.csv", dtype=str) for name in ("rejected", "files"))
    there = {str(path.relative_to(raw)) for path in raw.rglob("*") if path.is_file()}
    if lost := there - set(rejected["path"]) - set(files["path"]):
        return f"{sorted(lost)} are in no table"
    with Cases(out / "cases") as cases:
        for pixels, spacing in zip(cases, cases.spacings_mm, strict=True):
            if why := wrong_volume(np.asarray(pixels)[0], spacing, slices):
                return why
    return ""


def wrong_volume(volume: np.ndarray, spacing: np.ndarray, slices: set[int]) -> str:
    """Args: volume: (D, H, W); spacing: (3,) mm; slices: As of `found_wrong`."""
    ids = volume[:, 0, 0].astype(int)
    if (volume != ids[:, None, None]).any():
        return "slices are mixed within themselves"
    if len(set(ids // 100)) > 1:
        return f"slices of several series or phases: {ids.tolist()}"
    if lost := sorted(i for i in slices - set(ids.tolist()) if i // 100 == ids[0] // 100):
        return f"slices that are there are not in their volume: {lost} not in {ids.tolist()}"
    steps = np.diff(ids)
    if steps[0] < 1 or (steps != steps[0]).any():
        return f"slices out of order or missing: {ids.tolist()}"
    if len(ids) == 2:  # whichever was moved, their distance is all that there is
        return ""
    return "" if abs(spacing[0] - SPACING * steps[0]) < 1e-6 else f"a spacing of {spacing[0]} mm"


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_series", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    found = {number: wrong for number in range(arguments.series) if (wrong := try_series(arguments.seed, number))}
    for number, wrong in found.items():
        print(f"seed {arguments.seed}, number {number}: {wrong}")
    print(f"{arguments.series} series, {len(found)} wrong")
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
