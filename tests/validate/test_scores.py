import numpy as np
import pytest
from sklearn import metrics

from stages.lib.params.validate import LOWER_IS_BETTER
from stages.lib.validate import scores


def random_case(seed, n=200, k=4, ties=False):
    rng = np.random.default_rng(seed)
    raw = rng.random((n, k))
    if ties:
        raw = np.round(raw * 3) + 1
    return rng.integers(0, k, n), raw / raw.sum(1, keepdims=True)


@pytest.mark.slow
def test_scores_agree_with_scikit_learn_on_many_random_splits():
    """Any number of cases and classes, with and without ties, classes that are absent or never predicted among them."""
    rng = np.random.default_rng(0)
    absences = 0
    for seed in range(40):
        k, n = int(rng.integers(2, 7)), int(rng.integers(1, 30))
        y, p = random_case(seed, n, k, ties=seed % 2 == 1)
        measured, table, predicted = scores.overall(y, p), scores.per_class(y, p), p.argmax(1)
        present, occurring = np.unique(y), np.union1d(y, predicted)
        absences += len(present) < k
        expected = {
            "accuracy": metrics.accuracy_score(y, predicted),
            "balanced_accuracy": metrics.recall_score(y, predicted, labels=present, average="macro"),
            "macro_precision": metrics.precision_score(
                y, predicted, labels=occurring, average="macro", zero_division=0
            ),
            "macro_f1": metrics.f1_score(y, predicted, labels=occurring, average="macro"),
            "log_loss": metrics.log_loss(y, p, labels=range(k)),
            "brier": metrics.brier_score_loss(y, p, scale_by_half=False, labels=range(k)),
        }
        if len(present) > 1:
            against = [(y == c, p[:, c]) for c in present]
            expected["auroc"] = np.mean([metrics.roc_auc_score(*one) for one in against])
            expected["average_precision"] = np.mean([metrics.average_precision_score(*one) for one in against])
        else:
            expected |= {"auroc": np.nan, "average_precision": np.nan}
        for name, value in expected.items():
            assert measured[name] == pytest.approx(value, nan_ok=True), (seed, name)
        scored = metrics.precision_recall_fscore_support(y, predicted, labels=range(k), zero_division=0)
        for name, values in zip(("precision", "recall", "f1", "cases"), scored, strict=True):
            there = np.isfinite(table[name])
            assert there.all() or name == "recall"
            assert table[name][there] == pytest.approx(values[there]), (seed, name)
    assert absences > 5


def test_two_classes_have_the_scores_of_the_binary_case():
    y, p = random_case(1, k=2)
    assert scores.overall(y, p)["auroc"] == pytest.approx(metrics.roc_auc_score(y, p[:, 1]))
    assert scores.per_class(y, p)["f1"][1] == pytest.approx(metrics.f1_score(y, p.argmax(1)))


def test_a_class_absent_from_the_split_does_not_enter_averages_of_recall_and_curves():
    y, p = random_case(2)
    y[y == 3] = 0
    measured, predicted = scores.overall(y, p), p.argmax(1)
    present = metrics.recall_score(y, predicted, labels=[0, 1, 2], average="macro")
    assert measured["balanced_accuracy"] == pytest.approx(present)
    assert measured["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert measured["auroc"] == pytest.approx(np.mean([metrics.roc_auc_score(y == k, p[:, k]) for k in range(3)]))
    assert np.isnan(scores.per_class(y, p)["recall"][3])


def test_a_split_of_one_class_has_an_accuracy_and_no_auroc():
    y, p = np.zeros(5, int), np.full((5, 2), [0.75, 0.25])
    measured = scores.overall(y, p)
    assert measured["accuracy"] == 1
    assert np.isnan(measured["auroc"])
    assert measured["log_loss"] == pytest.approx(-np.log(0.75))


def test_an_empty_split_has_no_scores():
    assert all(np.isnan(v) for v in scores.overall(np.empty(0, int), np.empty((0, 3))).values())


def test_a_certain_mistake_has_a_large_but_finite_log_loss():
    measured = scores.overall(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert 10 < measured["log_loss"] < 100


def test_a_model_that_is_right_and_sure_beats_one_that_is_wrong_and_sure_in_every_scores_own_direction():
    y = np.arange(30) % 3
    right, wrong = (0.05 + 0.85 * np.eye(3)[(y + shift) % 3] for shift in (0, 1))
    good, bad = scores.overall(y, right), scores.overall(y, wrong)
    assert {*good} & LOWER_IS_BETTER == {"log_loss", "brier", "calibration_error"}
    for name in scores.OVERALL:
        assert (good[name] < bad[name]) == (name in LOWER_IS_BETTER), name
        assert good[name] != bad[name], name


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy():
    p = np.tile([0.8, 0.2], (10, 1))
    assert scores.overall(np.array([0] * 8 + [1] * 2), p)["calibration_error"] == pytest.approx(0, abs=1e-12)
    assert scores.overall(np.array([0] * 5 + [1] * 5), p)["calibration_error"] == pytest.approx(0.3)
