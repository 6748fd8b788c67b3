"""The values of interest of a DICOM picture as a viewer shows them: its VOI LUT or its first window, PS3.3 C.11.2."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_voi

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.ingest.readers.scans.dicom_tags import numbers, text

WAYS = "ingest.intensity can be bits or stored"


def shown(values: np.ndarray, dataset: Dataset, frame: int, may_be_negative: bool) -> np.ndarray:
    """From 0 for the darkest value that is shown to 1 for the brightest, as float64.

    Args:
        values: (H, W), by slope and intercept.
        may_be_negative: Whether slope and intercept can give negative values: then a table's first value is signed,
            which only the VR of an explicit transfer syntax would say.

    Raises:
        Rejected: The picture has neither a VOI LUT nor a window, or one that can't be.
    """
    groups = [dataset, *_frame_groups(dataset, frame)]
    for of in groups:
        if of.get("VOILUTSequence"):
            try:
                table = of.VOILUTSequence[0]
                entries, first, bits = map(int, table.LUTDescriptor)
                table.LUTDescriptor = [entries, first - 65536 if may_be_negative and first > 32767 else first, bits]
                mapped = apply_voi(np.rint(values).astype(np.int32), of)
            except NotImplementedError:
                raise Rejected("malformed", f"a VOI LUT of {bits} bits is not read; {WAYS}") from None
            except Exception:  # damaged tables raise many types
                raise Rejected("malformed", f"the VOI LUT is damaged; {WAYS}") from None
            return np.clip(mapped / ((1 << bits) - 1), 0, 1)
    for of in groups:
        centres, widths = numbers(of, "WindowCenter"), numbers(of, "WindowWidth")
        if centres and widths:
            return windowed(values, centres[0], widths[0], text(of, "VOILUTFunction") or "LINEAR")
    raise Rejected("voi_missing", f"neither a VOI LUT nor a window; {WAYS}")


def windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Raises:
    Rejected: The width can't be, or the function is none of the standard's.
    """
    if not width >= 1 and function == "LINEAR" or not width > 0:
        raise Rejected("malformed", f"WindowWidth is {width:g}; {WAYS}")
    if function == "LINEAR":  # of whole pixel values: half a value off the exact one
        return np.clip((values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5, 0, 1)
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    raise Rejected("malformed", f"VOILUTFunction is none of LINEAR, LINEAR_EXACT and SIGMOID; {WAYS}")


def _frame_groups(dataset: Dataset, frame: int) -> list[Dataset]:
    """The windows of a multi-frame object's functional groups, the frame's own first."""
    found = []
    for keyword, i in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        groups = dataset.get(keyword)
        if groups and len(groups) > i and (windows := groups[i].get("FrameVOILUTSequence")):
            found.append(windows[0])
    return found
