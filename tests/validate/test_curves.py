import numpy as np
import pytest
from sklearn import metrics

from stages.lib.validate import curves


def drawn(n=20_000, k=4, seed=0):
    """Labels, and probabilities that tell them, but not well."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    raw = np.exp(rng.normal(size=(n, k)) + 2 * np.eye(k)[labels])
    return labels, raw / raw.sum(1, keepdims=True), [f"class {i}" for i in range(k)]


def test_a_curve_of_a_large_split_has_few_points_and_the_shape_of_all():
    y, p, classes = drawn()
    for table in (
        curves.roc(curves.one_against_the_rest(y, p, classes)),
        curves.precision_recall(curves.one_against_the_rest(y, p, classes)),
    ):
        assert len(table) <= curves.TABLE_POINTS
        assert table["class"].unique().tolist() == classes
    roc = curves.roc(curves.one_against_the_rest(y, p, classes))
    for k, name in enumerate(classes):
        part = roc[roc["class"] == name]
        false, true, _ = metrics.roc_curve(y == k, p[:, k])
        along = part["false_positive_rate"] + part["true_positive_rate"]  # grows along the curve
        off = np.interp(false + true, along, part["true_positive_rate"]) - true
        assert np.abs(off).max() < 0.002, name
        area = metrics.auc(part["false_positive_rate"], part["true_positive_rate"])
        assert area == pytest.approx(metrics.roc_auc_score(y == k, p[:, k]), abs=1e-4)


def test_a_point_that_stays_is_one_of_the_curve_with_its_threshold():
    y, p, classes = drawn(k=2)
    part = curves.precision_recall(curves.one_against_the_rest(y, p, classes)).query("`class` == 'class 1'").dropna()
    for row in part[::50].itertuples():
        alarm = p[:, 1] >= row.threshold
        assert row.recall == pytest.approx(metrics.recall_score(y, alarm))
        assert row.precision == pytest.approx(metrics.precision_score(y, alarm))


def test_a_small_splits_curve_keeps_every_corner():
    y, p, classes = drawn(60)
    roc = curves.roc(curves.one_against_the_rest(y, p, classes))
    for k, name in enumerate(classes):
        part = roc[roc["class"] == name]
        area = metrics.auc(part["false_positive_rate"], part["true_positive_rate"])
        assert area == pytest.approx(metrics.roc_auc_score(y == k, p[:, k]))


def test_points_on_one_line_become_its_ends_and_no_two_points_are_lost():
    line = np.linspace(0, 1, 100)
    assert curves.thinned(line, line, 50).tolist() == [0, 99]
    assert curves.thinned(np.zeros(2), np.ones(2), 50).tolist() == [0, 1]
    corner = np.minimum(2 * line, 1)
    assert curves.thinned(line, corner, 3)[1] in (49, 50)


def test_a_hundred_classes_have_a_bounded_table_and_an_absent_class_has_no_curve():
    y, p, classes = drawn(3000, k=100)
    y[y == 7] = 8
    table = curves.roc(curves.one_against_the_rest(y, p, classes))
    assert table["class"].nunique() == 99 and "class 7" not in set(table["class"])
    assert table.groupby("class").size().max() <= curves.MIN_CLASS_POINTS


def test_ties_and_a_single_class_are_no_trouble():
    y = np.array([0, 1, 0, 1])
    p = np.full((4, 2), 0.5)
    assert curves.roc(curves.one_against_the_rest(y, p, ["a", "b"]))["true_positive_rate"].tolist() == [0, 1, 0, 1]
    assert len(curves.precision_recall(curves.one_against_the_rest(np.zeros(4, int), p, ["a", "b"]))) == 0


def test_a_precision_recall_curve_is_the_same_however_it_is_sorted_by_recall_and_its_area_is_the_average_precision():
    y, p = np.repeat([0, 1], [33, 17]), np.repeat([[0.9, 0.1], [0.2, 0.8]], [33, 17], axis=0)
    perfect = curves.precision_recall(curves.one_against_the_rest(y, p, ["a", "b"])).query("`class` == 'b'")
    assert perfect[["recall", "precision"]].to_numpy().tolist() == [[0, 1], [1, 1]], "no diagonal: no recall twice"
    for n, tolerance in ((60, 1e-9), (20_000, 2e-3)):
        y, p, classes = drawn(n)
        table = curves.precision_recall(curves.one_against_the_rest(y, p, classes))
        for k, name in enumerate(classes):
            part = table[table["class"] == name]
            assert (np.diff(part["recall"]) > 0).all()
            area = (np.diff(part["recall"]) * part["precision"][1:]).sum()
            assert area == pytest.approx(metrics.average_precision_score(y == k, p[:, k]), abs=tolerance)


def test_steps_that_hide_most_are_cut_first_and_equal_heights_are_one_step():
    assert curves.thinned_steps(np.ones(100), 50).tolist() == [0, 99]
    assert curves.thinned_steps(np.repeat([1.0, 0.5], 50), 50).tolist() == [0, 49, 99]
    assert curves.thinned_steps(np.linspace(1, 0, 1000), 50).tolist()[0] == 0
    kept = curves.thinned_steps(np.linspace(1, 0, 1000), 50)
    assert len(kept) == 50 and np.diff(kept).max() <= 32
