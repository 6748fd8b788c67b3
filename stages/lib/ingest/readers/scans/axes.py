"""Where a volume's axes point: one convention for whatever format it comes from.

Axes are D, H, W: the slices, and a slice as a viewer shows it. Along W a slice runs to the patient's left or back,
along H to the back or the feet; the slices follow each other along the cross product of W and H. An axial volume so
runs to the head, the back and the left ("HPL"). Coordinates are those of DICOM (LPS): x to the left, y to the back, z
to the head.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

LETTERS = ("LPH", "RAF")
SURE_DIGITS = 6  # of cosines: what is equal up to them is equal, and the first order counts
SHOWN = np.array([1.0, 1.0, -1.0])  # along W and H: to the left, to the back, to the feet


def attributes(columns: np.ndarray) -> tuple[tuple[str, str], ...]:
    """Columns of cases.csv: where the axes point, and the affine from (d, h, w) to the patient's mm (LPS).

    Steps are given to a millionth of the smallest one, the place to a thousandth of it: what float32 adds is left out.

    Args:
        columns: (3, 4) steps along D, H and W, and the place of the first pixel's centre.
    """
    smallest = np.linalg.norm(columns[:, :3], axis=0).min()
    digits = -math.floor(math.log10(smallest))
    rounded = [[_text(value, digits + 6) for value in row[:3]] + [_text(row[3], digits + 3)] for row in columns]
    return ("orientation", letters(columns[:, :3])), ("affine", " ".join(text for row in rounded for text in row))


def _text(value: float, digits: int) -> str:
    """A number to so many digits behind the point, without zeros at its end."""
    return np.format_float_positional(round(float(value), digits) + 0.0, trim="-")


def letters(steps: np.ndarray) -> str:
    """The letters of the directions that three axes mostly run to, each of another pair: L, P, H or R, A, F.

    Args:
        steps: (3, 3) a column an axis, LPS.
    """
    return "".join(LETTERS[0 if steps[i, axis] > 0 else 1][i] for axis, i in enumerate(mostly(steps)))


def mostly(steps: np.ndarray) -> tuple[int, ...]:
    """For each of three axes, which of x, y and z it mostly runs along; no two along the same.

    Args:
        steps: (3, 3) a column an axis.
    """
    cosines = np.abs(steps / np.linalg.norm(steps, axis=0)).round(SURE_DIGITS)
    orders = list(itertools.permutations(range(3)))
    return orders[int(np.argmax([sum(cosines[order, range(3)]) for order in orders]))]


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
