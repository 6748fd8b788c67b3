import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.lib.validate import curves, figures, scores


def test_a_long_name_is_shortened_in_the_middle_and_keeps_both_ends():
    assert figures.short("no_nodule", 18) == "no_nodule"
    assert figures.short("adenocarcinoma_grade_2", 16) == "adenocar…grade_2"


def test_a_caption_names_what_a_case_was_taken_for_and_fits_a_tile():
    names = ["cat", "dog"]
    assert figures.caption(0, np.array([0.96, 0.04]), names) == "cat: 96%"
    assert figures.caption(0, np.array([0.04, 0.96]), names) == "cat: 4%\nas dog: 96%"
    long = figures.caption(0, np.array([0.04, 0.96]), [f"{name}{'x' * 80}" for name in names])
    assert max(map(len, long.splitlines())) <= 30


@pytest.mark.parametrize("classes", [2, 15, 100])
def test_the_evidence_has_the_curves_of_at_most_ten_classes_those_with_the_least_area(classes):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(300) % classes)
    raw = np.exp(rng.normal(size=(300, classes)) + 3 * np.eye(classes)[y])
    p, names = raw / raw.sum(1, keepdims=True), [f"class_{i} of $many$" for i in range(classes)]
    tables = [curves.roc(y, p, names), curves.precision_recall(y, p, names), curves.reliability(y, p)]
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


def test_a_sheet_of_photographs_is_written_small_and_the_same_twice(tmp_path):
    ramp = np.linspace(0, 1, 32)
    photograph = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 0.5), -1)
    for name in "ab":
        figures.save(tmp_path / name, figures.sheet([photograph] * 20, ["class: 90%"] * 20, "Title"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 60_000
    with Image.open(tmp_path / "a") as picture:
        assert picture.mode == "P"
        colours = np.asarray(picture.convert("RGB"))
    assert colours[..., 0].max() == 255 and len(np.unique(colours.reshape(-1, 3), axis=0)) > 100
