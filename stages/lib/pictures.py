"""Pictures of cases: a sheet of tiles, each with its caption."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

TILE_INCHES = 1.3
COLUMNS = 5


def sheet(images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    """Images of one size in rows of five.

    Args:
        images: (H, W) or (H, W, 3) each, in [0, 1].
    """
    rows = max(1, -(-len(images) // COLUMNS))
    # A Figure of one's own needs no pyplot, so no display and no state shared with the tests.
    figure = Figure(
        figsize=(COLUMNS * TILE_INCHES * 1.15, rows * TILE_INCHES * 1.35 + 0.5), dpi=100, layout="constrained"
    )
    figure.suptitle(title, fontsize=10)
    for i, axes in enumerate(np.ravel(figure.subplots(rows, COLUMNS))):
        axes.set_axis_off()
        if i < len(images):
            axes.imshow(images[i], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(captions[i], fontsize=7)
    return figure


def displayable(sample: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """A sample as an image in [0, 1]: what the network's window shows of it; of a volume, the middle slice.

    Args:
        sample: (C, H, W) or (C, D, H, W).
        low, high: The window, a number a channel (or one for all).

    Returns:
        (H, W, 3) for three channels, else the first channel, (H, W).
    """
    if sample.ndim == 4:
        sample = sample[:, sample.shape[1] // 2]  # (C, H, W)
    bottom, top = (np.asarray(bound, np.float64).reshape(-1, 1, 1) for bound in (low, high))
    image = ((sample - bottom) / np.maximum(top - bottom, 1e-12)).clip(0, 1)
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
