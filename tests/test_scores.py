import numpy as np
import pytest
from sklearn import metrics

from stages.lib import scores
from stages.lib.errors import UserError


def random_case(seed, n=200, k=4, ties=False):
    rng = np.random.default_rng(seed)
    raw = rng.random((n, k))
    if ties:
        raw = np.round(raw * 3) + 1
    return rng.integers(0, k, n), raw / raw.sum(1, keepdims=True)


@pytest.mark.parametrize("ties", [False, True])
def test_scores_agree_with_scikit_learn(ties):
    y, p = random_case(0, ties=ties)
    measured, predicted = scores.overall(y, p), p.argmax(1)
    assert measured["accuracy"] == pytest.approx(metrics.accuracy_score(y, predicted))
    assert measured["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert measured["macro_f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro"))
    assert measured["macro_precision"] == pytest.approx(metrics.precision_score(y, predicted, average="macro"))
    assert measured["auroc"] == pytest.approx(metrics.roc_auc_score(y, p, multi_class="ovr"))
    assert measured["average_precision"] == pytest.approx(metrics.average_precision_score(np.eye(4)[y], p))
    assert measured["log_loss"] == pytest.approx(metrics.log_loss(y, p))
    assert measured["brier"] == pytest.approx(metrics.brier_score_loss(y, p, scale_by_half=False, labels=range(4)))


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


def test_a_probability_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="diverged"):
        scores.overall(np.array([0, 1]), np.array([[np.nan, np.nan], [0.5, 0.5]]))


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy():
    p = np.tile([0.8, 0.2], (10, 1))
    assert scores.calibration_error(np.array([0] * 8 + [1] * 2), p) == pytest.approx(0, abs=1e-12)
    assert scores.calibration_error(np.array([0] * 5 + [1] * 5), p) == pytest.approx(0.3)
