"""Pictures and series that the groups make on the spot."""

import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from stages.lib.sample import phantoms

SLICES, SIDE = 60, 512  # of a series
STEP_MM, IN_PLANE_MM = 1.25, 0.7


def waves(rng: np.random.Generator, side: int) -> np.ndarray:
    """A picture (H, W, 3) uint8: smooth waves and noise, so that decoding works as hard as for a camera's."""
    wave = np.linspace(0, 20, side)
    shape = np.sin(wave[:, None] * rng.uniform(0.5, 2)) * np.cos(wave * rng.uniform(0.5, 2)) * 80 + 128
    noisy = shape[..., None] + rng.normal(0, 12, (side, side, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def blocks(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A sample (C, H, W) or (C, D, H, W) of large blocks and noise."""
    coarse = rng.integers(0, 200, (shape[0], *[4] * (len(shape) - 1)))
    for axis, size in enumerate(shape[1:], 1):
        coarse = np.repeat(coarse, -(-size // 4), axis).take(range(size), axis)
    return (coarse + rng.integers(0, 50, shape)).astype(dtype)


def write_series(folder: Path) -> None:
    """Writes a chest CT of 60 slices of 512x512, with the header of a demo phantom; files in another order."""
    rng = np.random.default_rng(0)
    _, parts = phantoms.draw_body(rng, "solid")
    scan = phantoms.scan_body(rng, parts, (SLICES, SIDE, SIDE), (STEP_MM, IN_PLANE_MM, IN_PLANE_MM))
    image = _phantom_slice()
    image.Rows = image.Columns = SIDE
    image.PixelSpacing, image.SliceThickness = [IN_PLANE_MM, IN_PLANE_MM], STEP_MM
    folder.mkdir(parents=True)
    for i, name in enumerate(rng.permutation(SLICES)):
        image.SOPInstanceUID = generate_uid(entropy_srcs=["bench", str(i)])
        image.InstanceNumber, image.ImagePositionPatient = i + 1, [0, 0, i * STEP_MM]
        image.PixelData = (scan[i] - phantoms.INTERCEPT).astype("<u2").tobytes()
        image.save_as(folder / f"{name:06d}.dcm", enforce_file_format=True)


def _phantom_slice() -> pydicom.Dataset:
    with tempfile.TemporaryDirectory() as folder:
        phantoms.write(Path(folder), 1, 0)
        return pydicom.dcmread(min(Path(folder).rglob("*.dcm")))
