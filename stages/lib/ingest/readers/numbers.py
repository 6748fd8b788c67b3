"""Numbers that cases can't hold as they are, as float32: fractions of any width, whole ones of more than 16 bits."""

import numpy as np

from stages.lib.ingest.readers.contract import Rejected

WHOLE_FLOAT32 = 1 << 24  # float32 holds all whole numbers up to here
WAY = "write them in steps that float32 holds, as divided by a power of ten"


def as_float32(values: np.ndarray) -> np.ndarray:
    """Integers or floats of any width, as float32; a fraction is rounded, a whole number is not.

    Args:
        values: Of one page or slice: floats are taken for whole numbers where all of these are.

    Raises:
        Rejected: One is nan or infinite, or float32 can't hold it.
    """
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if low < -WHOLE_FLOAT32 or high > WHOLE_FLOAT32:
            raise Rejected("out_of_range", f"whole numbers from {low} to {high}, which float32 would round: {WAY}")
        return values.astype(np.float32)
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    if not np.isfinite(found).all():
        raise Rejected(
            "not_finite", "a pixel is nan or infinite, or too large for float32: write a number in its place"
        )
    if values.dtype.itemsize > found.dtype.itemsize and (found != values).any() and (values == np.rint(values)).all():
        raise Rejected("out_of_range", f"whole numbers beyond 2^24, which float32 would round: {WAY}")
    return found
