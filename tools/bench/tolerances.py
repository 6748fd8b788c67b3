"""How far a series may be off before readers object: dcm2niix, ITK (by SimpleITK) and ingest, on the same slices.

    .venv-bench/bin/python -m tools.bench.tolerances

The defaults of ingest's tolerances are held against it: docs/data.md. A reader "objects" where it makes several volumes
of the series, warns, or refuses.
"""

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset

from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.params.ingest import IngestParams
from tools.fuzz_series import slice_of
from tools.survey import survey

DEPTH, STEP_MM = 10, 2.5
ITK = """import sys, SimpleITK
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(sys.argv[1]))
reader.Execute()"""


def gap(image: Dataset, i: int, error: float) -> None:
    x, y, z = image.ImagePositionPatient
    image.ImagePositionPatient = [x, y, round(z + (STEP_MM * error if i >= DEPTH // 2 else 0), 9)]


def direction(image: Dataset, i: int, error: float) -> None:
    if i == DEPTH // 2:
        cos, sin = math.cos(math.radians(error)), math.sin(math.radians(error))
        image.ImageOrientationPatient = [round(x, 12) for x in (cos, sin, 0.0, -sin, cos, 0.0)]


def spacing(image: Dataset, i: int, error: float) -> None:
    if i == DEPTH // 2:
        image.PixelSpacing = [round(float(step) * (1 + error), 9) for step in image.PixelSpacing]


def tilt(image: Dataset, i: int, error: float) -> None:
    x, y, z = image.ImagePositionPatient
    image.ImagePositionPatient = [x, round(y + STEP_MM * i * math.tan(math.radians(error)), 9), z]


FAULTS: dict[str, tuple[Callable[[Dataset, int, float], None], tuple[float, ...]]] = {
    "one gap off, fraction": (gap, (1e-4, 5e-4, 1e-3, 5e-3, 0.009, 0.02, 0.05, 0.1)),
    "one slice turned, degrees": (direction, (1e-3, 0.01, 0.03, 0.1, 0.5)),
    "one slice's pixels larger, fraction": (spacing, (1e-4, 5e-4, 2e-3, 0.01, 0.05)),
    "all slices tilted, degrees": (tilt, (0.01, 0.05, 0.2, 0.5, 1.0)),
}


@terminal.program()
def main() -> None:
    dcm2niix = program()
    say(f"{'fault':36} {'size':>8}  dcm2niix  ITK      ingest")
    for name, (spoil, errors) in FAULTS.items():
        for error in errors:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place, "raw")
                folder.mkdir()
                for i in range(DEPTH):
                    image = slice_of(1, i)
                    spoil(image, i, error)
                    image.save_as(folder / f"{i}.dcm", enforce_file_format=True)
                found = (by_dcm2niix(dcm2niix, folder), by_itk(folder), by_ingest(folder))
            say(f"{name:36} {error:8g}  " + "  ".join(f"{'objects' if objects else '-':7}" for objects in found))


def program() -> str:
    """Where dcm2niix is.

    Raises:
        UserError: It is nowhere.
    """
    found = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not found:
        raise UserError("no dcm2niix: make bench installs it, into .venv-bench")
    return found


def by_dcm2niix(program: str, folder: Path) -> bool:
    """Whether it makes several volumes of the series, or takes it for tilted."""
    out = folder.with_name("out")
    out.mkdir()
    done = subprocess.run([program, "-o", str(out), str(folder)], capture_output=True, text=True)
    return len(list(out.glob("*.nii"))) != 1 or "gantry tilt" in done.stdout


def by_itk(folder: Path) -> bool:
    """Whether it warns, as it reads the volume all the same."""
    done = subprocess.run([sys.executable, "-c", ITK, str(folder)], capture_output=True, text=True)
    return bool(done.returncode) or "WARNING" in done.stderr.upper()


def by_ingest(folder: Path) -> bool:
    """Whether it rejects the series with its defaults."""
    table, _ = survey(folder, IngestParams())
    return not table["result"].str.startswith("volume").all()


if __name__ == "__main__":
    main()
