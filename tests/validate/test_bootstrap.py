import numpy as np
import pytest
from sklearn import metrics

from stages.lib.validate import bootstrap, scores


def random_case(seed=0, n=120, k=4, ties=False):
    rng = np.random.default_rng(seed)
    raw = np.round(rng.random((n, k)) * 3) + 1 if ties else rng.random((n, k))
    return rng.integers(0, k, n), raw / raw.sum(1, keepdims=True)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("absent", [False, True])
def test_a_weight_is_how_often_a_case_is_there(ties, absent):
    y, p = random_case(ties=ties)
    y[y == 3] = 0 if absent else 3
    weight = np.random.default_rng(1).integers(0, 3, (2, len(y)))
    overall, per_class = scores.weighted(y, p, weight.astype(float))
    for row, times in enumerate(weight):
        labels, probabilities = np.repeat(y, times), np.repeat(p, times, axis=0)
        for name, value in scores.overall(labels, probabilities).items():
            assert overall[name][row] == pytest.approx(value), name
        for name in ("recall", "auroc", "average_precision"):
            expected = scores.per_class(labels, probabilities)[name]
            assert per_class[name][row] == pytest.approx(expected, nan_ok=True), name


@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_has_the_scores_that_scikit_learn_gives_its_weights(ties):
    y, p = random_case(1, ties=ties)
    w = np.random.default_rng(2).integers(0, 3, (3, len(y))).astype(float)
    overall, per_class = scores.weighted(y, p, w)
    for row, weight in enumerate(w):
        assert overall["accuracy"][row] == pytest.approx(metrics.accuracy_score(y, p.argmax(1), sample_weight=weight))
        f1 = metrics.f1_score(y, p.argmax(1), average="macro", sample_weight=weight)
        assert overall["macro_f1"][row] == pytest.approx(f1)
        assert overall["log_loss"][row] == pytest.approx(metrics.log_loss(y, p, sample_weight=weight))
        area = metrics.roc_auc_score(y == 1, p[:, 1], sample_weight=weight)
        assert per_class["auroc"][row, 1] == pytest.approx(area)
        precision = metrics.average_precision_score(y == 1, p[:, 1], sample_weight=weight)
        assert per_class["average_precision"][row, 1] == pytest.approx(precision)


def test_cases_of_a_group_are_drawn_together_and_blocks_change_nothing(monkeypatch):
    block = next(bootstrap.weights(["a", "b", "a", "c"], 50, 0))
    assert (block[:, 0] == block[:, 2]).all() and (block.sum(1) != 4).any()
    monkeypatch.setattr(bootstrap, "BLOCK_WEIGHTS", 10 * 4)
    assert np.array_equal(np.concatenate(list(bootstrap.weights(["a", "b", "a", "c"], 50, 0))), block)


def test_a_bias_of_the_resamples_is_taken_from_them_and_the_value_lies_between():
    drawn = np.linspace(0.05, 0.15, 1001)[:, None]
    low, high = bootstrap.bounds(np.array([0.04]), drawn, 0.9)[:, 0]
    assert (low, high) == (pytest.approx(-0.005), pytest.approx(0.085))
    unbiased = bootstrap.bounds(np.array([0.1]), drawn, 0.9)[:, 0]
    assert unbiased == pytest.approx(np.percentile(drawn, [5, 95]))
    skewed = np.repeat([0.0, 1.0], [99, 1])[:, None]
    assert bootstrap.bounds(np.array([0.3]), skewed, 0.9)[:, 0].tolist() == pytest.approx([0.29, 0.3])


def test_resamples_that_are_alike_say_nothing():
    resampled = np.array([[0.5, np.nan, 0.1], [0.5, np.nan, np.nan], [0.5, np.nan, 0.3]])
    found = bootstrap.bounds(np.array([0.5, np.nan, 0.2]), resampled, 0.9)
    assert np.isnan(found[:, :2]).all() and np.isfinite(found[:, 2]).all()
