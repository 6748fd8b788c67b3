"""Pictures a person looks at first: sheets of cases, and the curves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TILE_INCHES = 1.5
COLUMNS = 5
CURVES = 10  # classes with a curve of their own: more would be a tangle


def sheet(images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    """Images in rows of five.

    Args:
        images: (H, W) or (H, W, 3) each, in [0, 1].
    """
    rows = max(1, -(-len(images) // COLUMNS))
    # A Figure of one's own needs no pyplot, so no display and no state shared with the tests.
    figure = Figure(figsize=(COLUMNS * TILE_INCHES, rows * TILE_INCHES * 1.2 + 0.4), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=10)
    for i, axes in enumerate(np.ravel(figure.subplots(rows, COLUMNS))):
        axes.set_axis_off()
        if i < len(images):
            axes.imshow(images[i], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(captions[i], fontsize=7, parse_math=False)
    return figure


def displayable(sample: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """A sample as an image in [0, 1]: what the network's window shows of it; of a volume, the middle slice.

    Args:
        sample: (C, H, W) or (C, D, H, W).
        low, high: The window, a number a channel (or one for all).

    Returns:
        (H, W, 3) for three channels, else the first channel, (H, W).
    """
    sample = np.asarray(sample, np.float64)
    if sample.ndim == 4:
        sample = sample[:, sample.shape[1] // 2]  # (C, H, W)
    bottom, top = (np.asarray(bound, np.float64).reshape(-1, 1, 1) for bound in (low, high))
    image = ((sample - bottom) / np.maximum(top - bottom, 1e-12)).clip(0, 1)
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image in grey with what the network looked at in red: (H, W) or (H, W, 3), and (H, W), both in [0, 1]."""
    grey = image.mean(-1) if image.ndim == 3 else image
    coloured = np.stack([grey] * 3, -1)  # (H, W, 3)
    weight = 0.6 * heat[..., None]
    return coloured * (1 - weight) + np.array([1.0, 0.1, 0.0]) * weight


def evidence(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], tables: Sequence[pd.DataFrame]
) -> Figure:
    """Confusion matrix, ROC, precision-recall and reliability of the test split in one picture.

    Args:
        tables: Those of `stages.lib.curves`: ROC, precision-recall, reliability.
    """
    roc, precision_recall, reliability = tables
    figure = Figure(figsize=(10, 9), dpi=100, layout="constrained")
    quarters = np.ravel(figure.subplots(2, 2))
    _confusion(quarters[0], labels, predicted, classes)
    _lines(quarters[1], roc, "false_positive_rate", "true_positive_rate", "ROC")
    _lines(quarters[2], precision_recall, "recall", "precision", "Precision and recall")
    quarters[3].plot([0, 1], [0, 1], color="0.7", linestyle="--")
    quarters[3].plot(reliability["confidence"], reliability["accuracy"], marker="o")
    quarters[3].set(title="Reliability", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def _confusion(axes: Axes, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    count = np.zeros((len(classes), len(classes)), int)
    np.add.at(count, (labels, predicted), 1)
    axes.imshow(count, cmap="Blues")
    axes.set(title="Confusion", xlabel="predicted", ylabel="actual")
    if len(classes) <= 20:  # more would not be read
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(ticks, classes, parse_math=False)
        for (row, column), n in np.ndenumerate(count):
            colour = "white" if n > count.max() / 2 else "black"
            axes.text(column, row, str(n), ha="center", va="center", fontsize=8, color=colour)


def _lines(axes: Axes, table: pd.DataFrame, x: str, y: str, title: str) -> None:
    for name, part in list(table.groupby("class", sort=False))[:CURVES]:
        axes.plot(part[x], part[y], label=str(name).replace("$", r"\$").replace("_", " ").strip())
    axes.set(
        title=title, xlabel=x.replace("_", " "), ylabel=y.replace("_", " "), xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    if len(table):
        axes.legend(fontsize=7)
