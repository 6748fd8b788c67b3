"""Pictures a person looks at first: sheets of cases, and the curves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TILE_INCHES = 1.5
TALLER = 1.2  # a tile is higher than wide by its caption
TITLE_INCHES = 0.35
COLUMNS = 5
CURVES = 10  # classes with a curve of their own: more would be a tangle


def sheet(images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    """Images in rows of five, each with its caption above.

    Args:
        images: (H, W) or (H, W, 3) each, in [0, 1].
    """
    rows = max(1, -(-len(images) // COLUMNS))
    size = (COLUMNS * TILE_INCHES, rows * TILE_INCHES * TALLER + TITLE_INCHES)
    # A Figure of one's own needs no pyplot, so no display and no state shared with the tests. One Axes for all tiles:
    # fifty of them take seconds to lay out.
    figure = Figure(figsize=size, dpi=100)
    axes = figure.add_axes((0, 0, 1, 1 - TITLE_INCHES / size[1]))
    axes.set_axis_off()
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(i, COLUMNS)
        height, width = (n / max(image.shape[:2]) * 0.92 for n in image.shape[:2])
        left, top = column + (1 - width) / 2, row * TALLER + TALLER - 0.96 + (0.92 - height) / 2
        extent = (left, left + width, top + height, top)
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)
        axes.text(column + 0.5, row * TALLER + 0.2, caption, fontsize=7, ha="center", va="bottom", parse_math=False)
    axes.set(xlim=(0, COLUMNS), ylim=(rows * TALLER, 0), aspect="auto")
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / size[1], va="top")
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
    return (coloured * (1 - weight) + np.array([1.0, 0.1, 0.0]) * weight).clip(0, 1)  # the last bit may be above


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
    area = 300 * reliability["cases"] / max(1, reliability["cases"].sum())  # a dot of few cases is no evidence
    quarters[3].plot(reliability["confidence"], reliability["accuracy"], color="C0", linewidth=0.8)
    quarters[3].scatter(reliability["confidence"], reliability["accuracy"], s=area + 8)
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
