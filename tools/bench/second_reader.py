"""Holds every volume that ingest makes against that of another reader, number by number.

    .venv-bench/bin/python -m tools.bench.second_reader ~/dcm_qa_nih/In ~/dcm_qa_mosaic/In
    python -m tools.bench.second_reader --volumes ~/dcm_qa_nih/Ref
    python -m tools.bench.second_reader --tiff ~/microscopy

DICOM files are held against dcm2niix; with --volumes the NIfTI files of a folder against nibabel, and its NRRD and
MetaImage files against SimpleITK, whose volumes lie in the patient where ours do; and with --tiff the TIFFs of a folder
against tifffile: stacks, channels and numbers.

dcm2niix gives the axes another order and direction and may keep slope and intercept apart, or, of Philips, take others,
so a volume is the same where all its numbers are, up to these. Volumes of dcm2niix that ingest has none of were
rejected, set aside or are a second form of one: the counts of ingest.json say which. Exits 1 where a volume of ingest
has no equal.
"""

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import SimpleITK

from stages.lib.cases import Cases
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.ingest.raw_files import LABELS_CSV
from stages.lib.ingest.readers.pictures.tiff import MAGIC_NUMBERS
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams
from stages.lib.workers import quietly
from tools.bench.ingest import run_stage
from tools.bench.tolerances import program

GIVEN = {
    **{"identifiers": "open", "max_rejected": 1.0, "kind": "volumes", "split_4d": "all", "burned_in": "keep"},
    "select": {"modality": ["CT", "MR", "PT"]},
}
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
MOST_APART_MM = 0.01  # affines of cases.csv have six digits
MOST_DIFFERENT = 2e-4  # of the range: slope and intercept in float32


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.second_reader", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of DICOM files, or with --volumes or --tiff of others")
    parser.add_argument("--volumes", action="store_true", help="hold files of whole volumes against other readers")
    parser.add_argument("--tiff", action="store_true", help="hold TIFFs against tifffile")
    given = parser.parse_args(argv)
    unequal = 0
    by = compare_volumes if given.volumes else compare_tiff if given.tiff else compare
    for folder in given.folders:
        try:
            unequal += by(folder)
        except UserError as error:
            say(f"{folder}: {error}")
    sys.exit(1 if unequal else 0)


def compare(folder: Path) -> int:
    """Prints how many volumes are equal; the number of those that are not.

    Raises:
        UserError: No volume can be made of the folder, or there is no dcm2niix.
    """
    with tempfile.TemporaryDirectory() as place:
        theirs = Path(place, "nii")
        theirs.mkdir()
        command = [program(), "-o", str(theirs), "-f", "%s_%j_%t", str(folder)]
        subprocess.run(command, capture_output=True, check=False)
        others = [volume for file in sorted(theirs.glob("*.nii")) for volume in volumes(file)]
        out, raw = Path(place, "out"), Path(place, "raw")
        shutil.copytree(folder, raw / "all")
        with redirect_stdout(StringIO()):
            run_stage(raw, out, check(IngestParams, GIVEN))
        counts = json.loads((out / "ingest.json").read_text())
        with Cases(out / "cases") as cases:
            equal = sum(any(is_same(pixels[0], other) for other in others) for pixels in cases)
            number = len(cases)
    left = {key: counts[key] for key in ("rejected", "set_aside", "ignored") if counts[key]}
    say(f"{folder}: {equal} of {number} volumes are equal to one of dcm2niix's {len(others)}; {json.dumps(left)}")
    return number - equal


def compare_volumes(folder: Path) -> int:
    """Prints how many volumes of single files are the second reader's; the number of those that are not.

    Raises:
        UserError: No volume can be made of the folder.
    """
    with tempfile.TemporaryDirectory() as place:
        out, raw = Path(place, "out"), Path(place, "raw")
        for i, file in enumerate(sorted(file for file in folder.rglob("*") if file.name.lower().endswith(ENDINGS))):
            target = raw / "all" / str(i) / file.name
            target.parent.mkdir(parents=True)
            shutil.copy(file, target)
        (raw / LABELS_CSV).write_text("path,label\nall,all\n")  # a folder in which all is refused is no class
        with redirect_stdout(StringIO()):
            run_stage(raw, out, check(IngestParams, {name: GIVEN[name] for name in GIVEN if name != "select"}))
        counts = json.loads((out / "ingest.json").read_text())
        table = pd.read_csv(out / "cases.csv", dtype=str, keep_default_na=False)
        paths = pd.read_csv(out / "files.csv", dtype=str, index_col="case")["path"]
        with Cases(out / "cases") as cases:
            equal = sum(
                is_theirs(pixels[0], row, raw / paths[row["case"]])
                for pixels, (_, row) in zip(cases, table.iterrows(), strict=True)
            )
    say(f"{folder}: {equal} of {len(table)} volumes are equal to the second reader's; {json.dumps(counts['rejected'])}")
    return len(table) - equal


def is_theirs(volume: np.ndarray, row: "pd.Series[str]", file: Path) -> bool:
    """Whether a volume has the second reader's numbers at its places.

    Args:
        volume: (D, H, W).
        row: Of cases.csv.
    """
    phases, theirs = _by_nibabel(file) if ".nii" in file.name.lower() else _by_simpleitk(file)
    lps = np.array(row["affine"].split(), float).reshape(3, 4)[:, [2, 1, 0, 3]]  # steps along W, H, D
    affine = np.vstack([np.diag([-1, -1, 1]) @ lps, [0, 0, 0, 1]])
    wanted = _upright(phases[..., int(row["phase"] or 0)], theirs)
    ours = _upright(volume.T, affine)
    same_place = np.allclose(ours.affine, wanted.affine, atol=MOST_APART_MM)
    return same_place and np.array_equal(ours.get_fdata(dtype=np.float32), wanted.get_fdata(dtype=np.float32))


def _by_nibabel(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """(W, H, D, phases), and the affine from there to RAS."""
    found = nibabel.load(file)
    phases = np.asarray(found.dataobj)  # type: ignore[attr-defined]
    return phases.reshape(*phases.shape[:3], -1), found.affine  # type: ignore[attr-defined]


def _by_simpleitk(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Likewise. ITK takes the phases of NRRD for a vector's numbers, and those of MetaImage for a fourth axis."""
    image = SimpleITK.ReadImage(str(file))
    number = image.GetDimension()
    pixels = SimpleITK.GetArrayFromImage(image)
    is_vector = image.GetNumberOfComponentsPerPixel() > 1
    phases = np.moveaxis(pixels, -1, 0) if is_vector else pixels.reshape(-1, *pixels.shape[-3:])
    steps = np.array(image.GetDirection()).reshape(number, number)[:3, :3] * image.GetSpacing()[:3]
    affine = np.eye(4)
    affine[:3] = np.diag([-1, -1, 1]) @ np.column_stack([steps, image.GetOrigin()[:3]])
    return phases.T, affine


def compare_tiff(folder: Path) -> int:
    """Prints how many TIFFs are tifffile's, and why others are not compared; the number of those that differ."""
    from tools.bench.second_tiff_reader import verdict

    counts = Counter[str]()
    different = 0
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if content.startswith(MAGIC_NUMBERS):
            outcome = quietly(lambda content=content: verdict(content))  # type: ignore[misc]
            counts[outcome] += 1
            if outcome == "different":
                different += 1
                say(f"{file}: different")
    say(f"{folder}: {json.dumps(dict(counts.most_common()))}")
    return different


def _upright(volume: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(volume.astype(np.float64), affine)
    return nibabel.as_closest_canonical(image)


def volumes(file: Path) -> Iterator[np.ndarray]:
    """Each volume of a NIfTI file, three-dimensional."""
    pixels = np.asarray(nibabel.load(file).dataobj)  # type: ignore[attr-defined]
    if pixels.ndim >= 3 and not pixels.dtype.names:  # colours have names
        flat = pixels.reshape(*pixels.shape[:3], -1)
        yield from (flat[..., i] for i in range(flat.shape[3]))


def is_same(volume: np.ndarray, other: np.ndarray) -> bool:
    """Whether all numbers of two volumes are the same, up to order and direction of axes, slope and intercept."""
    if sorted(volume.shape) != sorted(other.shape):
        return False
    ours, wanted = _scaled(volume), _scaled(other)
    for axes in itertools.permutations(range(3)):
        turned = ours.transpose(axes)
        if turned.shape != other.shape:
            continue
        for flips in itertools.product((1, -1), repeat=3):
            if np.abs(turned[tuple(slice(None, None, step) for step in flips)] - wanted).max() < MOST_DIFFERENT:
                return True
    return False


def _scaled(volume: np.ndarray) -> np.ndarray:
    numbers = volume.astype(np.float64)
    return (numbers - numbers.min()) / (np.ptp(numbers) or 1)


if __name__ == "__main__":
    main()
