"""Numbers that cases can't hold as they are, as float32: fractions of any width, whole ones of more than 16 bits."""

import numpy as np

from stages.lib.ingest.readers.contract import Rejected

WHOLE_FLOAT32 = 1 << 24  # float32 holds all whole numbers up to here
WAY = "write them in steps that float32 holds, as divided by a power of ten, or where they were measured as float32"


def as_float32(values: np.ndarray, nan: float | None = None) -> np.ndarray:
    """Integers or floats of any width, as float32; a fraction is rounded, a whole number is not.

    Floats are taken for whole numbers, as labels and counts are, where most of those beyond 2^24 are whole: of what was
    measured, few are by chance, from one in 2^28 there to one in two at 2^52. Beyond 2^53 all are, and whether they
    were counted nobody can see: those are refused, too.

    Args:
        values: Of one page or slice.
        nan: `ingest.nan`.

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
    if nan is not None and (lost := np.isnan(found)).any():
        values, found = np.where(lost, nan, values), np.where(lost, np.float32(nan), found)
    if not np.isfinite(found).all():
        raise Rejected("not_finite", _not_finite(values, nan))
    if values.dtype.itemsize <= found.dtype.itemsize or not (changed := found != values).any():
        return found
    if (found[changed] == 0).any():
        raise Rejected("out_of_range", "a number that is not 0 and so small that float32 makes 0 of it: multiply them")
    beyond = np.abs(values) > WHOLE_FLOAT32
    whole = beyond & (values == np.rint(values))
    if 2 * np.count_nonzero(whole) > np.count_nonzero(beyond) and (whole & changed).any():
        raise Rejected("out_of_range", f"whole numbers beyond 2^24, which float32 would round: {WAY}")
    return found


def _not_finite(values: np.ndarray, nan: float | None) -> str:
    """How many numbers of a page or slice are none, and what to do about it."""
    kinds = {"nan": np.isnan(values), "infinite": np.isinf(values)}
    kinds["too large for float32"] = np.abs(np.where(np.isfinite(values), values, 0)) > np.finfo(np.float32).max
    found = [f"{np.count_nonzero(of)} {name}" for name, of in kinds.items() if of.any()]
    asks = nan is None and kinds["nan"].any()
    way = "ingest.nan says what stands for nan" if asks else "write numbers in their place"
    return f"of {values.size} numbers, {' and '.join(found)}: {way}"
