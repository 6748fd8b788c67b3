"""Numbers that cases can't hold as they are, as float32: fractions of any width, whole ones of more than 16 bits."""

import numpy as np

from stages.lib.ingest.readers.contract import Rejected

WHOLE_FLOAT32 = 1 << 24  # float32 holds all whole numbers up to here
WAY = "write them in steps that float32 holds, as divided by a power of ten, or where they were measured as float32"


def as_float32(values: np.ndarray) -> np.ndarray:
    """Integers or floats of any width, as float32; a fraction is rounded, a whole number is not.

    Floats are taken for whole numbers, as labels and counts are, where most of those beyond 2^24 are whole: of what was
    measured, few are by chance, from one in 2^28 there to one in two at 2^52. Beyond 2^53 all are, and whether they
    were counted nobody can see: those are refused, too.

    Args:
        values: Of one page or slice.

    Raises:
        Rejected: One is nan or infinite, or float32 can't hold it: it is too large, would become 0, or is whole and
            would be another whole number.
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
    if values.dtype.itemsize <= found.dtype.itemsize or not (changed := found != values).any():
        return found
    if (found[changed] == 0).any():
        raise Rejected("out_of_range", "a number that is not 0 and so small that float32 makes 0 of it: multiply them")
    beyond = np.abs(values) > WHOLE_FLOAT32
    whole = beyond & (values == np.rint(values))
    if 2 * np.count_nonzero(whole) > np.count_nonzero(beyond) and (whole & changed).any():
        raise Rejected("out_of_range", f"whole numbers beyond 2^24, which float32 would round: {WAY}")
    return found
