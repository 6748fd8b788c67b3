"""Where a volume's axes point: one convention for whatever format it comes from.

Axes are D, H, W: the slices, and a slice as a viewer shows it. Along W a slice runs to the patient's left or back,
along H to the back or the feet; the slices follow each other along the cross product of W and H. An axial volume so
runs to the head, the back and the left ("HPL"). Coordinates are those of DICOM (LPS): x to the left, y to the back, z
to the head.
"""

import math
from collections.abc import Sequence

import numpy as np

LETTERS = ("LPH", "RAF")
SHOWN = np.array([1.0, 1.0, -1.0])  # along W and H: to the left, to the back, to the feet


def attributes(columns: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Columns of cases.csv: where the axes point, and the affine from (d, h, w) to the patient's mm (LPS).

    Args:
        columns: (3, 4) steps along D, H and W, and the place of the first pixel's centre.
    """
    affine = " ".join(f"{round(float(value), 6) + 0.0:.6g}" for value in columns.reshape(-1))
    return ("orientation", "".join(_letter(axis) for axis in columns[:, :3].T)), ("affine", affine)


def _letter(axis: np.ndarray) -> str:
    """The letter of the direction that an axis mostly runs to: L, P, H or R, A, F."""
    i = int(np.abs(axis).argmax())
    return LETTERS[0][i] if axis[i] > 0 else LETTERS[1][i]


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Degrees between two lines."""
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(one, other))), abs(float(one @ other))))


def mean_of(phases: Sequence[np.ndarray], number: int) -> list[np.ndarray]:
    """The mean slices of that many phases, which follow each other; integers are rounded, halves to even ones."""
    depth = len(phases) // number
    found = []
    for i in range(depth):
        mean = np.mean([phases[phase * depth + i] for phase in range(number)], axis=0, dtype=np.float64)
        found.append((mean if phases[i].dtype.kind == "f" else np.rint(mean)).astype(phases[i].dtype))
    return found
