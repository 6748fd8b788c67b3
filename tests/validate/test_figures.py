import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from stages.lib.validate import curves, figures, scores

CURVE = ("false_positive_rate", "true_positive_rate")


@pytest.mark.parametrize("classes", [2, 15, 100])
def test_the_evidence_has_the_curves_of_at_most_ten_classes_those_with_the_least_area(classes):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(300) % classes)
    raw = np.exp(rng.normal(size=(300, classes)) + 3 * np.eye(classes)[y])
    p, names = raw / raw.sum(1, keepdims=True), [f"class_{i} of $many$" for i in range(classes)]
    tables = [
        curves.roc(curves.one_against_the_rest(y, p, names)),
        curves.precision_recall(curves.one_against_the_rest(y, p, names)),
        curves.reliability(p.max(1), p.argmax(1) == y),
    ]
    areas = scores.per_class(y, p)
    confusion, roc, *_ = figures.evidence(y, p.argmax(1), names, tables, areas).axes
    shown = [float(text.get_text().split()[-1]) for text in roc.get_legend().get_texts()]
    least = areas["auroc"] if classes <= figures.MAX_CURVES else np.sort(areas["auroc"])[: figures.MAX_CURVES]
    assert shown == pytest.approx(least, abs=6e-4)
    assert len(confusion.get_xticks()) <= figures.MAX_NAMES


def test_the_training_curves_show_both_splits_and_without_a_validation_split_one():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "train_accuracy": [0.5, 0.75]})
    history["validation_loss"], history["validation_accuracy"] = [1.25, 0.75], [0.25, 0.5]
    loss, accuracy = figures.history(history).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[1.0, 0.5], [1.25, 0.75]]
    assert [line.get_label() for line in accuracy.lines] == ["train", "validation"]
    history[["validation_loss", "validation_accuracy"]] = np.nan
    assert [len(axes.lines) for axes in figures.history(history).axes] == [1, 1]


def table(**curve_of):
    """Points of a curve per class: (0, 0), (x, y), (1, 1)."""
    rows = [(name, *point) for name, middle in curve_of.items() for point in ((0, 0), middle, (1, 1))]
    return pd.DataFrame(rows, columns=["class", "false_positive_rate", "true_positive_rate"])


def drawn_roc(roc, classes):
    reliability = pd.DataFrame({"confidence": [0.5], "accuracy": [0.5], "cases": [2]})
    precision_recall = pd.DataFrame(columns=["class", "recall", "precision"])
    areas = {name: np.linspace(0.5, 1, len(classes)) for name in ("auroc", "average_precision")}
    y = np.arange(len(classes))
    return figures.evidence(y, y, classes, [roc, precision_recall, reliability], areas)


def test_classes_whose_curves_coincide_share_a_line_that_names_them_and_others_differ_in_more_than_colour():
    roc = drawn_roc(table(a=(0, 1), b=(0.2, 0.8), c=(0, 1), d=(0.2, 0.7)), list("abcd")).axes[1]
    assert [text.get_text() for text in roc.get_legend().get_texts()] == ["a, c  0.500", "b  0.667", "d  1.000"]
    assert len({line.get_linestyle() for line in roc.lines}) == 3
    assert np.diff([line.get_linewidth() for line in roc.lines]).max() < 0, "the wider is below"


def test_a_legend_has_the_names_of_classes_as_they_are_written(tmp_path):
    names = ["_a_b", "$x$ <b>", "c--d"]
    roc = table(**dict(zip(names, ((0, 1), (0.2, 0.8), (0.3, 0.8)), strict=True)))
    figure = drawn_roc(roc, names)
    assert [text.get_text().split("  ")[0] for text in figure.axes[1].get_legend().get_texts()] == names
    figures.save(tmp_path / "a", figure)
    texts = {
        "".join(one.itertext()).strip() for one in ElementTree.parse(tmp_path / "a.svg").iter() if "text" in one.tag
    }
    assert {"_a_b 0.500", "$x$ <b> 0.750", "c--d 1.000"} <= {re.sub(r"\s+", " ", text) for text in texts}


def test_a_cell_of_the_confusion_matrix_has_the_count_and_the_percentage_of_the_actual_class():
    y, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1])
    empty = [pd.DataFrame(columns=["class", *xy]) for xy in (CURVE, ("recall", "precision"))]
    reliability = pd.DataFrame({"confidence": [], "accuracy": [], "cases": []})
    areas = {name: np.ones(2) for name in ("auroc", "average_precision")}
    confusion = figures.evidence(y, predicted, ["a", "b"], [*empty, reliability], areas).axes[0]
    told = [(*map(int, text.get_position()), text.get_text()) for text in confusion.texts]
    assert told == [(0, 0, "3\n75%"), (1, 0, "1\n25%"), (1, 1, "1\n100%")]


@pytest.mark.parametrize(("first", "last"), [(1.3, 0.0009), (0.7, 0.3), (0.69, 0.61), (2e5, 1)])
def test_the_axis_of_losses_has_ticks_that_are_read_as_they_stand(first, last):
    history = pd.DataFrame({"epoch": range(9), "train_loss": np.geomspace(first, last, 9), "train_accuracy": 0.5})
    history["validation_loss"], history["validation_accuracy"] = np.nan, np.nan
    axis = figures.history(history).axes[0].yaxis
    low, high = sorted(axis.get_view_interval())
    shown = [
        text for at, text in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True) if low <= at <= high
    ]
    assert 2 <= len(shown) <= 9
    assert all(re.fullmatch(r"[\d.]+|\de\+\d+", text.get_text()) for text in shown)


@pytest.mark.parametrize("name", ["a", "no_nodule", "W" * 40])
def test_nothing_of_the_evidence_is_cut_off_or_covers_another_axes(name):
    classes = [f"{name}{i}" for i in range(3)]
    roc = table(**{one: (0.1, 0.5 + 0.1 * i) for i, one in enumerate(classes)})
    figure = drawn_roc(roc, classes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]
    width, height = canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_figure_is_written_as_png_and_svg_the_same_twice_and_without_a_date(tmp_path):
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "train_accuracy": [0.5, 0.75]})
    history["validation_loss"], history["validation_accuracy"] = [1.25, 0.75], [0.25, 0.5]
    for name in "ab":
        figures.save(tmp_path / name, figures.history(history))
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
    drawn = (tmp_path / "a.svg").read_text()
    assert ">validation</text>" in drawn and "dc:date" not in drawn
