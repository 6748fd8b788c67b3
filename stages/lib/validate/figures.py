"""Figures of a dataset's results: the training's curves, and the test split's confusion and curves.

Their places are fixed beforehand, by the longest name: to let matplotlib find them takes longer than to draw them.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from stages.lib.core import tables
from stages.lib.core.reading import reading
from stages.lib.drawing.sheets import short, text_width

DPI = 100
MAX_CURVES = 10  # classes: more would be a tangle
MAX_NAMES = 20  # classes named along an axis: more would not be read
MAX_PERCENTAGES = 10  # classes: more leave no room for two lines in a cell
NAME = 16  # characters along an axis
QUARTER = 60  # characters of what is named by two numbers, of which none may be cut
LEGEND_NAME, LEGEND_LINE = 24, 28  # characters
SVG: Any = {"svg.hashsalt": "figures", "svg.fonttype": "none"}
"""Names inside the file that are the same twice, and text that stays text, to be searched and edited."""
QUALITIES = {False: "accuracy", True: "r2"}  # whether the model answers a number
LEAST_R2 = -1.0  # drawn: of first epochs it may be any negative number
QUALITY_TITLES = {"accuracy": "Accuracy", "r2": "R²: explained fraction of the variance"}
STYLES = ("-", "--", "-.", ":")


def save(stem: Path, figure: Figure) -> None:
    """Writes `stem`.png and `stem`.svg, the same bytes for the same figure.

    The PNG has a palette of 256 colours: git keeps it, and it is a third as large.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    small = drawn.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(stem.with_suffix(".png"), format="png", compress_level=9)
    written = io.StringIO()
    with mpl.rc_context(SVG):
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None, "Creator": None})
    stem.with_suffix(".svg").write_text(written.getvalue(), encoding="utf-8")


def read_history(history_csv: Path) -> pd.DataFrame:
    """history.csv.

    Raises:
        DamagedOut: It is missing, or is none that train could have written.
    """
    with reading(history_csv):
        quality = QUALITIES["train_r2" in tables.header(history_csv)]
    curves = (f"{split}_{quantity}" for split in ("train", "validation") for quantity in ("loss", quality))
    return tables.read_numbers(history_csv, ["epoch", *curves])


def history(table: pd.DataFrame) -> Figure:
    """Loss and accuracy (of numbers, R²) of the training and validation splits over the epochs.

    Args:
        table: history.csv; without a validation split its validation columns are nan.
    """
    figure = Figure(figsize=(10, 4), dpi=DPI)
    marker = "o" if len(table) == 1 else ""
    places = figure.subplots(1, 2, gridspec_kw={"left": 0.075, "right": 0.985, "bottom": 0.13, "top": 0.91})
    quality = QUALITIES["train_r2" in table]
    for axes, quantity in zip(places, ("loss", quality), strict=True):
        for split, style in (("train", "-"), ("validation", "--")):
            values = table[f"{split}_{quantity}"]
            if values.notna().any():
                axes.plot(table["epoch"], values, style, label=split, marker=marker)
        title = QUALITY_TITLES.get(quantity, quantity.capitalize())
        axes.set(title=title, xlabel="epoch", ylabel=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="best")
    losses, qualities = figure.axes
    both = table[["train_loss", "validation_loss"]].to_numpy()
    if (both[~np.isnan(both)] > 0).all():
        _logarithmic(losses)  # else the last epochs' losses lie on the axis
    qualities.set_ylim(top=1.01)
    if quality == "r2":
        qualities.set_ylim(bottom=max(qualities.get_ylim()[0], LEAST_R2))
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
    place = _Four([short(name, NAME) for name in classes])
    _confusion(place(0, 0), labels, predicted, classes)
    _curves(place, tables, classes, areas)
    return place.figure


def evidence_of_labels(
    counts: np.ndarray, names: Sequence[str], tables: Sequence[pd.DataFrame], areas: Mapping[str, np.ndarray]
) -> Figure:
    """As `evidence`, of labels that hold each by itself.

    Args:
        counts: (K, 4) cases of each label: with it and found, with it and missed, without it and taken for it, without.
    """
    place = _Four([short(name, NAME) for name in names])
    _answers(place(0, 0), counts, names)
    _curves(place, tables, names, areas)
    return place.figure


def evidence_of_numbers(
    truth: np.ndarray,
    said: np.ndarray,
    name: str,
    quarters: tuple[np.ndarray, np.ndarray, Sequence[str]],
    reliability: pd.DataFrame,
    weight: np.ndarray | None = None,
) -> Figure:
    """Predicted against true numbers, Bland and Altman's picture of their differences, the confusion of the training
    split's quarters, and the bounds' coverage.

    Args:
        truth: (N,); said: (N, 3) the number and its bounds; weight: (N,), None: all count alike.
        name: Of the number, with its unit.
        quarters: The quarter of each true and each predicted number, (N,) each, and what the quarters are called.
    """
    place = _Four(quarters[2])
    _confusion(place(0, 0), *quarters, characters=QUARTER)
    _against(place(1, 0), truth, said, name)
    _differences(place(0, 1), truth, said[:, 0], name, weight)
    _coverage(place(1, 1), reliability)
    return place.figure


class _Four:
    """Places of four axes in a figure, of which the upper left has names along both of its sides."""

    def __init__(self, names: Sequence[str]) -> None:
        longest = max(text_width(name, round(10 / 72 * DPI)) for name in names) / DPI  # inches, of 10 points
        self._left, self._gap = 0.6 + longest, 0.85
        self._slanted = 0.55 + (0.75 * longest if longest > 0.2 else 0.1)
        self.figure = Figure(figsize=(self._left + self._gap + 8.2, self._slanted + 8.9), dpi=DPI)

    def __call__(self, column: int, row: int) -> Axes:  # of 4 x 3.8 inches
        wide, high = self.figure.get_size_inches()
        below = 0.55
        bottom = below if row else below + 3.8 + 0.45 + self._slanted
        left = self._left + column * (4 + self._gap)
        return self.figure.add_axes((left / wide, bottom / high, 4 / wide, 3.8 / high))


def _curves(
    place: _Four, tables: Sequence[pd.DataFrame], names: Sequence[str], areas: Mapping[str, np.ndarray]
) -> None:
    roc, precision_recall, reliability = tables
    auroc, precision = (dict(zip(names, areas[name], strict=True)) for name in ("auroc", "average_precision"))
    _lines(place(1, 0), roc, "false_positive_rate", "true_positive_rate", "ROC", auroc)
    _lines(place(0, 1), precision_recall, "recall", "precision", "Precision and recall", precision, "steps-pre")
    _reliability(place(1, 1), reliability)


def _answers(axes: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """What became of the cases with and without each label."""
    of_truth = counts.reshape(-1, 2, 2)
    fractions = (of_truth / np.maximum(of_truth.sum(2, keepdims=True), 1)).reshape(-1, 4)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1, interpolation="none", aspect="auto")
    axes.set(title="Labels: cases, and % of those with, or without it")
    axes.set_xticks(range(4), ["found", "missed", "false alarm", "rightly not"], fontsize=8)
    ticks = range(0, len(names), -(-len(names) // MAX_NAMES))
    axes.set_yticks(ticks, [short(names[k], NAME) for k in ticks], parse_math=False)
    for row, column in np.ndindex(counts.shape) if len(names) <= MAX_NAMES else []:
        colour = "white" if fractions[row, column] > 0.5 else "black"
        text = f"{counts[row, column]} ({fractions[row, column]:.0%})"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _against(axes: Axes, truth: np.ndarray, said: np.ndarray, name: str) -> None:
    """Predicted against true numbers: those on the diagonal are right."""
    axes.set_title("Predicted and true, with the 90 % interval")
    axes.set_xlabel(f"true {short(name, LEGEND_NAME)}", parse_math=False)
    axes.set_ylabel(f"predicted {short(name, LEGEND_NAME)}", parse_math=False)
    if not len(truth):
        return
    value, low, high = said.T
    ends = [min(truth.min(), value.min()), max(truth.max(), value.max())]
    axes.plot(ends, ends, color="0.7", linestyle="--")
    axes.vlines(truth, low, high, color="C0", linewidth=0.5, alpha=0.4)
    axes.scatter(truth, value, s=10)
    axes.grid(alpha=0.3)


def _differences(axes: Axes, truth: np.ndarray, value: np.ndarray, name: str, weight: np.ndarray | None) -> None:
    """Differences over means, with their mean and the limits of agreement (Bland and Altman 1986, Lancet 327, 307)."""
    axes.set_xlabel(f"mean of true and predicted {short(name, LEGEND_NAME)}", parse_math=False)
    axes.set_ylabel("predicted - true")
    mean, low, high = limits_of_agreement(value - truth, weight)
    axes.set_title("Bland-Altman")
    if not np.isfinite(mean):
        return
    axes.set_title(f"Bland-Altman: {mean:.3g}, from {low:.3g} to {high:.3g}")
    axes.scatter((value + truth) / 2, value - truth, s=10)
    for at, style in ((mean, "-"), (low, "--"), (high, "--")):
        axes.axhline(at, color="C1", linestyle=style, linewidth=1)
    axes.grid(alpha=0.3)


def limits_of_agreement(differences: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float, float]:
    """The mean difference, and 1.96 standard deviations below and above it; nan without a case that counts.

    Args:
        differences: (N,)
        weight: (N,), how much each counts; None: all alike.
    """
    counts = np.ones(len(differences)) if weight is None else np.asarray(weight, np.float64)
    number = int((counts > 0).sum())
    if not number:
        return np.nan, np.nan, np.nan
    counts = counts / counts.sum()
    mean = float(counts @ differences)
    variance = float(counts @ np.square(differences - mean)) * number / max(number - 1, 1)
    deviation = float(np.sqrt(variance))
    return mean, mean - 1.96 * deviation, mean + 1.96 * deviation


def _coverage(axes: Axes, table: pd.DataFrame) -> None:
    """The fraction of numbers within bounds that are to hold so many."""
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    axes.plot(table["confidence"], table["accuracy"], marker="o")
    axes.set(title="Reliability: numbers within their bounds", xlabel="wanted fraction", ylabel="observed fraction")
    axes.set(xlim=(-0.03, 1.04), ylim=(-0.03, 1.04))


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis whose ticks are numbers as one writes them, at least two or three of them."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    marks = (
        (1,) if decades > 3 else (1, 3) if decades > 1.5 else (1, 2, 5) if decades > 0.7 else (1, 1.5, 2, 3, 4, 5, 7)
    )
    axes.yaxis.set_major_locator(LogLocator(subs=marks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _confusion(
    axes: Axes, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], characters: int = NAME
) -> None:
    count = np.zeros((len(classes), len(classes)), int)
    np.add.at(count, (labels, predicted), 1)
    recall = count / np.maximum(count.sum(1, keepdims=True), 1)  # so that a rare class is visible
    axes.imshow(recall, cmap="Blues", vmin=0, vmax=1, interpolation="none", aspect="auto")
    axes.set(title="Confusion: cases, and % of the actual class", xlabel="predicted", ylabel="actual")
    ticks = range(0, len(classes), -(-len(classes) // MAX_NAMES))
    names = [short(classes[k], characters) for k in ticks]
    upright = max(map(len, names)) <= 2
    turned: dict[str, Any] = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, names, parse_math=False, **turned)
    axes.set_yticks(ticks, names, parse_math=False)
    for row, column in np.argwhere(count) if len(classes) <= MAX_NAMES else []:
        colour = "white" if recall[row, column] > 0.5 else "black"
        text = f"{count[row, column]}"
        if len(classes) <= MAX_PERCENTAGES:
            text += f"\n{recall[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _lines(
    axes: Axes, table: pd.DataFrame, x: str, y: str, title: str, areas: Mapping[str, float], style: str = "default"
) -> None:
    """One curve per class, with its area; of many classes, those with the smallest areas.

    Classes whose curves coincide have one line, which names them all; of the others, no two have colour, width and
    dashes in common.
    """
    parts = {str(name): part[[x, y]].to_numpy() for name, part in table.groupby("class", sort=False)}
    names = list(parts)
    if len(names) > MAX_CURVES:
        title += f": the lowest {MAX_CURVES} of {len(names)} classes"
        names = sorted(names, key=lambda name: areas[name])[:MAX_CURVES]
    together: dict[bytes, list[str]] = {}
    for name in names:
        together.setdefault(parts[name].tobytes(), []).append(name)
    texts, drawn = [], []
    for i, same in enumerate(together.values()):
        points, width = parts[same[0]], 3.2 - 2.2 * i / MAX_CURVES  # the later, the thinner, and above the others
        drawn += axes.plot(*points.T, linestyle=STYLES[i % len(STYLES)], linewidth=width, drawstyle=style)
        listed = ", ".join(short(name, LEGEND_NAME) for name in same)
        texts.append(f"{textwrap.fill(listed, LEGEND_LINE)}  {areas[same[0]]:.3f}")
    axes.set(
        title=title, xlabel=x.replace("_", " "), ylabel=y.replace("_", " "), xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    if names:
        # Set afterwards: a legend leaves out what begins with an underscore, and takes $ for mathematics.
        legend = axes.legend(
            drawn,
            ["." for _ in texts],
            fontsize=7,
            handlelength=3.5,
            loc="lower left" if style != "default" else "lower right",
        )
        for label, text in zip(legend.get_texts(), texts, strict=True):
            label.set_parse_math(False)
            label.set_text(text)


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


def shift(
    shares: Mapping[str, tuple[float, float]],
    channels: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    names: tuple[str, str],
    title: str = "Classes",
    fraction: str = "fraction of the cases",
) -> Figure:
    """How another dataset differs from what a model was trained on: the fraction of each class, and the intensities.

    Args:
        shares: Of each class, in training and in the other.
        channels: `edges` and `counts` of each channel, in training and in the other.
        names: What these two are called.
        title, fraction: Above and below the shares.
    """
    shown = dict(list(shares.items())[:MAX_NAMES])
    figure, bars = _shift(channels, names)
    at = np.arange(len(shown))
    for i, name in enumerate(names):
        bars.barh(at - 0.2 + 0.4 * i, [pair[i] for pair in shown.values()], 0.38, color=f"C{i}", label=name)
    bars.set_yticks(at, [short(name, NAME) for name in shown], parse_math=False)
    more = f", the first {MAX_NAMES} of {len(shares)}" if len(shares) > len(shown) else ""
    bars.set(title=f"{title}{more}", xlabel=fraction)
    bars.invert_yaxis()
    _name_colours(figure)
    return figure


def shift_of_number(
    quartiles: Sequence[Sequence[float]],
    name: str,
    channels: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    names: tuple[str, str],
) -> Figure:
    """As `shift`, where a number is true of each case.

    Args:
        quartiles: The least number, three quartiles and the greatest, in training and in the other.
        name: Of the number, with its unit.
    """
    figure, boxes = _shift(channels, names)
    keys = ("whislo", "q1", "med", "q3", "whishi")
    for i, of in enumerate(quartiles):
        line = {"color": f"C{i}"}
        styles: dict[str, Any] = {f"{part}props": line for part in ("box", "whisker", "cap", "median")}
        one = dict(zip(keys, of, strict=True))
        boxes.bxp([one], positions=[i], widths=0.5, orientation="horizontal", showfliers=False, **styles)
    boxes.set_yticks(range(len(names)), [short(one, NAME) for one in names], parse_math=False)
    boxes.set(title="Numbers: quartiles, least and greatest", ylim=(len(names) - 0.4, -0.6))
    boxes.set_xlabel(short(name, LEGEND_NAME), parse_math=False)
    _name_colours(figure)
    return figure


def _shift(
    channels: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], names: tuple[str, str]
) -> tuple[Figure, Axes]:
    """The figure with the intensities, and the axes for what is true of the cases."""
    figure = Figure(figsize=(10, 4), dpi=DPI)
    places = {"left": 0.16, "right": 0.985, "bottom": 0.13, "top": 0.91, "wspace": 0.2}
    cases, curves = figure.subplots(1, 2, gridspec_kw=places)
    for k, pair in enumerate(channels[:MAX_CURVES]):
        for i, one in enumerate(pair):
            below = np.r_[0, np.cumsum(one["counts"])] / max(1, np.sum(one["counts"]))
            label = names[i] if not k else None
            curves.plot(one["edges"], below, STYLES[k % len(STYLES)], color=f"C{i}", label=label)
    curves.set(title="Intensities" if channels else "Intensities: of other channels", xlabel="value")
    curves.set(ylabel="fraction of the pixels below", ylim=(-0.02, 1.02))
    curves.grid(alpha=0.3)
    return figure, cases


def _name_colours(figure: Figure) -> None:
    for axes in figure.axes:
        if axes.get_legend_handles_labels()[0]:
            legend = axes.legend(fontsize=8, loc="best")
            for text in legend.get_texts():
                text.set_parse_math(False)
