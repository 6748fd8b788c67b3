"""What ingest makes of a TIFF against what tifffile makes of it: all slices, channels and numbers.

Of files whose numbers a viewer changes (palettes, transparency, high values for black, few bits, a picture that lies on
its side) nothing can be said so.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile

from stages.lib.ingest.case_table import Template
from stages.lib.ingest.decoding import decode, reason_of
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers import image
from stages.lib.ingest.readers.contract import Inspected, Options, Rejected
from stages.lib.params import check
from stages.lib.params.ingest import IngestParams

PLAIN = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
NO_STACK = ("single_slice", "several_frames", "mixed_sizes", "mixed_pixels")
SAYING = ("ome", "imagej", "shaped")  # kinds of series whose axes are told


def verdict(content: bytes) -> str:
    """equal as a stack, equal as pictures, different, or why nothing is compared."""
    try:
        kind, ours = by_ingest(content)
    except Exception as error:  # as ingest takes it
        return f"refused: {reason_of(error)[0]}"
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            if not all(_is_plain(page.keyframe) for page in file.pages):
                return "not compared"
            theirs = [frame for pixels, axes in _arrays(file) for frame in frames(pixels, axes)]
    except Exception:  # of many types
        return "not read by tifffile"
    same = len(ours) == len(theirs) and all(map(_is_same, ours, theirs))
    return f"equal, as {kind}" if same else "different"


def _is_same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether all numbers are the same; of floating point, as float32 has them."""
    return np.array_equal(ours, theirs.astype(np.float32) if theirs.dtype.kind == "f" else theirs)


def by_ingest(content: bytes) -> tuple[str, list[np.ndarray]]:
    """A stack's slices, or else the pictures, each (C, H, W), time after time.

    Raises:
        Rejected: It is not read.
    """
    try:
        return "a stack", list(_cases(content, "stack"))
    except Rejected as error:
        if error.reason not in NO_STACK:
            raise
        return "pictures", list(_cases(content, "split"))


def _cases(content: bytes, how: str) -> Iterator[np.ndarray]:
    given = {"frames": how, "split_4d": "all", "transparency": "black", "min_side": 1}
    options = Options(check(IngestParams, given), OPEN)
    common, own = image.inspect(content, options)
    for case in image.assemble([Inspected("file", b"", common, own)], [], options).cases:
        blocks = list(decode(Template("image", case), 0, case.blocks, lambda file: content, options))
        yield from np.array(blocks).reshape(case.shape).swapaxes(0, 1) if len(case.shape) == 4 else blocks


def _is_plain(page: Any) -> bool:
    alpha = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA} & set(page.extrasamples)
    upright = getattr(page.tags.get(274), "value", 1) in (0, 1)
    return page.photometric in PLAIN and page.bitspersample >= 8 and not alpha and upright


def _arrays(file: tifffile.TiffFile) -> Iterator[tuple[np.ndarray, str]]:
    """What belongs together, and its axes."""
    if file.series[0].kind in SAYING:
        yield from ((series.levels[0].asarray(squeeze=False), series.get_axes(squeeze=False)) for series in file.series)
    else:
        for page in file.pages:
            first: Any = page.keyframe
            if not first.subfiletype & 5:  # smaller copies, masks
                yield page.asarray(), first.axes


def frames(pixels: np.ndarray, axes: str) -> np.ndarray:
    """(N, C, H, W): time after time, slice after slice; samples of a pixel are the last channels.

    Args:
        axes: As tifffile calls them: T, Z, C, Y, X, S; all others are frames, too.
    """
    rank = {"T": 1, "Z": 2, "C": 3, "S": 4, "Y": 5, "X": 6}
    order = sorted(range(len(axes)), key=lambda i: (rank.get(axes[i], 0), i))
    ordered, names = pixels.transpose(order), [axes[i] for i in order]
    channels = int(np.prod([n for n, name in zip(ordered.shape, names, strict=True) if name in "CS"]))
    return ordered.reshape(-1, channels, *ordered.shape[-2:])
