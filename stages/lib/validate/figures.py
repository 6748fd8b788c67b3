"""Figures of a dataset's results: sheets of cases, the training's curves, the test split's curves."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.lib.core import tables

TILE_INCHES = 1.5
TILE_HEIGHT = 1.2  # in tile widths: the caption is above the image
TITLE_INCHES = 0.35
COLUMNS = 5
MAX_CURVES = 10  # classes: more would be a tangle
MAX_NAMES = 20  # classes named along an axis: more would not be read


def save(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG, the one of matplotlib's formats that gives the same bytes twice.

    The file has a palette of 256 colours, all that greys need: git keeps it, and it is a third as large.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as picture:
        small = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.save(path, format="png", optimize=True)


def sheet(images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    """Images in rows of five, each with its caption above.

    Args:
        images: (H, W) or (H, W, 3) each, in [0, 1].
    """
    rows = max(1, -(-len(images) // COLUMNS))
    size = (COLUMNS * TILE_INCHES, rows * TILE_INCHES * TILE_HEIGHT + TITLE_INCHES)
    # Figure, not pyplot: needs no display and shares no state between tests. One Axes for all tiles, since fifty take
    # seconds to lay out.
    figure = Figure(figsize=size, dpi=100)
    axes = figure.add_axes((0, 0, 1, 1 - TITLE_INCHES / size[1]))
    axes.set_axis_off()
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(i, COLUMNS)
        height, width = (n / max(image.shape[:2]) * 0.92 for n in image.shape[:2])
        left, top = column + (1 - width) / 2, row * TILE_HEIGHT + TILE_HEIGHT - 0.96 + (0.92 - height) / 2
        extent = (left, left + width, top + height, top)
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)
        axes.text(
            column + 0.5, row * TILE_HEIGHT + 0.2, caption, fontsize=7, ha="center", va="bottom", parse_math=False
        )
    axes.set(xlim=(0, COLUMNS), ylim=(rows * TILE_HEIGHT, 0), aspect="auto")
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / size[1], va="top")
    return figure


def displayable(sample: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """A sample as an image in [0, 1], in the network's intensity window; of a volume, the middle slice.

    Args:
        sample: (C, H, W) or (C, D, H, W).
        low, high: The window, one number per channel (or one for all).

    Returns:
        (H, W, 3), the first three channels; of fewer the first, (H, W).
    """
    sample = np.asarray(sample, np.float64)
    if sample.ndim == 4:
        sample = sample[:, sample.shape[1] // 2]  # (C, H, W)
    bottom, top = (np.asarray(bound, np.float64).reshape(-1, 1, 1) for bound in (low, high))
    image = ((sample - bottom) / np.maximum(top - bottom, 1e-12)).clip(0, 1)
    return np.moveaxis(image[:3], 0, -1) if len(image) >= 3 else image[0]


def overlaid(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A grey image with a heat map in red: (H, W) or (H, W, 3), and (H, W), both in [0, 1] -> (H, W, 3)."""
    grey = image.mean(-1) if image.ndim == 3 else image
    coloured = np.stack([grey] * 3, -1)  # (H, W, 3)
    weight = 0.6 * heat[..., None]
    return (coloured * (1 - weight) + np.array([1.0, 0.1, 0.0]) * weight).clip(0, 1)  # rounding may exceed 1


def read_history(history_csv: Path) -> pd.DataFrame:
    """history.csv.

    Raises:
        DamagedOut: It is missing, or is none that train could have written.
    """
    curves = (f"{split}_{quantity}" for split in ("train", "validation") for quantity in ("loss", "accuracy"))
    return tables.read_numbers(history_csv, ["epoch", *curves])


def history(table: pd.DataFrame) -> Figure:
    """Loss and accuracy of the training and validation splits over the epochs.

    Args:
        table: history.csv; without a validation split its validation columns are nan.
    """
    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    marker = "o" if len(table) == 1 else ""
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split in ("train", "validation"):
            values = table[f"{split}_{quantity}"]
            if values.notna().any():
                axes.plot(table["epoch"], values, label=split, marker=marker)
        axes.set(title=quantity.capitalize(), xlabel="epoch", ylabel=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    losses, accuracies = figure.axes
    if (table[["train_loss", "validation_loss"]].stack() > 0).all():
        losses.set_yscale("log")  # else the last epochs' losses lie on the axis
    accuracies.set_ylim(top=1.01)
    return figure


def evidence(
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    tables: Sequence[pd.DataFrame],
    areas: Mapping[str, np.ndarray],
) -> Figure:
    """Confusion matrix, ROC, precision-recall and reliability of the test split in one figure.

    Args:
        tables: ROC, precision-recall and reliability, as `curves` gives them.
        areas: `auroc` and `average_precision` of each class, (K,), as `scores.per_class` gives them.
    """
    roc, precision_recall, reliability = tables
    figure = Figure(figsize=(10, 9), dpi=100, layout="constrained")
    quarters = np.ravel(figure.subplots(2, 2))
    _confusion(quarters[0], labels, predicted, classes)
    auroc, precision = (dict(zip(classes, areas[name], strict=True)) for name in ("auroc", "average_precision"))
    _lines(quarters[1], roc, "false_positive_rate", "true_positive_rate", "ROC", auroc)
    _lines(quarters[2], precision_recall, "recall", "precision", "Precision and recall", precision, "steps-pre")
    _reliability(quarters[3], reliability)
    return figure


def short(name: str, length: int) -> str:
    """A name of at most so many characters that keeps both ends, as "adenocar…grade_2"."""
    head = length // 2
    return name if len(name) <= length else f"{name[:head]}…{name[head + 1 - length :]}"


def caption(label: int, probabilities: np.ndarray, classes: Sequence[str]) -> str:
    """A case's caption: "cat: 3%", and below it "as dog: 96%", is a cat that the model classifies as a dog."""
    predicted = int(probabilities.argmax())
    text = f"{short(classes[label], 18)}: {probabilities[label]:.0%}"
    if predicted == label:
        return text
    return f"{text}\nas {short(classes[predicted], 18)}: {probabilities[predicted]:.0%}"


def _confusion(axes: Axes, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    count = np.zeros((len(classes), len(classes)), int)
    np.add.at(count, (labels, predicted), 1)
    recall = count / np.maximum(count.sum(1, keepdims=True), 1)  # so that a rare class is visible
    axes.imshow(recall, cmap="Blues", vmin=0, vmax=1)
    axes.set(title="Confusion", xlabel="predicted", ylabel="actual")
    ticks = range(0, len(classes), -(-len(classes) // MAX_NAMES))
    names = [short(classes[k], 16) for k in ticks]
    upright = max(map(len, names)) <= 2
    axes.set_xticks(ticks, names, rotation=0 if upright else 45, ha="center" if upright else "right", parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    for row, column in np.argwhere(count) if len(classes) <= MAX_NAMES else []:
        colour = "white" if recall[row, column] > 0.5 else "black"
        axes.text(column, row, str(count[row, column]), ha="center", va="center", fontsize=8, color=colour)


def _lines(
    axes: Axes, table: pd.DataFrame, x: str, y: str, title: str, areas: Mapping[str, float], style: str = "default"
) -> None:
    """One curve per class, with its area; of many classes, those with the smallest areas."""
    parts = {str(name): part for name, part in table.groupby("class", sort=False)}
    names = list(parts)
    if len(names) > MAX_CURVES:
        title += f": the lowest {MAX_CURVES} of {len(names)} classes"
        names = sorted(names, key=lambda name: areas[name])[:MAX_CURVES]
    for name in names:
        shown = short(name, 24).replace("$", r"\$").replace("_", " ").strip()
        axes.plot(parts[name][x], parts[name][y], drawstyle=style, label=f"{shown}  {areas[name]:.3f}")
    axes.set(
        title=title, xlabel=x.replace("_", " "), ylabel=y.replace("_", " "), xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    if names:
        axes.legend(fontsize=7)


def _reliability(axes: Axes, table: pd.DataFrame) -> None:
    """One dot per bin of confidence: its distance from the diagonal is the error of the confidence."""
    confidence, accuracy, cases = table["confidence"], table["accuracy"], table["cases"]
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    axes.vlines(confidence, confidence, accuracy, color="C0", linewidth=0.8)
    fraction = cases / max(1, cases.sum())
    axes.scatter(confidence, accuracy, s=300 * fraction + 8)  # a bin of few cases is little evidence
    error = (fraction * (accuracy - confidence).abs()).sum()
    title = f"Reliability: calibration error {error:.3f}" if len(table) else "Reliability"
    axes.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(-0.03, 1.04), ylim=(-0.03, 1.04))
