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


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        correct = rng.random(200) < 0.8
        p = np.where(correct[:, None], [0.9, 0.1], [0.1, 0.9])
        overall, _ = bootstrap.intervals(np.zeros(200, int), p, [str(i) for i in range(200)], 300, trial)
        low, high = overall["accuracy"]
        covered += low <= 0.8 <= high
    assert 88 <= covered <= 100


def test_scans_of_one_patient_are_drawn_together_and_widen_the_interval():
    y, p = random_case(3, n=200)
    alone, _ = bootstrap.intervals(y, p, [str(i) for i in range(200)], 500, 0)
    together, _ = bootstrap.intervals(np.repeat(y[:20], 10), np.repeat(p[:20], 10, 0), np.repeat(range(20), 10), 500, 0)
    assert np.diff(together["accuracy"]) > 2 * np.diff(alone["accuracy"])
    block = next(bootstrap.weights(["a", "b", "a", "c"], 50, 0))
    assert (block[:, 0] == block[:, 2]).all()


def test_the_same_seed_gives_the_same_interval_however_large_the_blocks(monkeypatch):
    y, p = random_case(4)
    groups = [str(i) for i in range(len(y))]
    first, _ = bootstrap.intervals(y, p, groups, 100, 7)
    monkeypatch.setattr(bootstrap, "BLOCK_WEIGHTS", 10 * len(y))
    second, _ = bootstrap.intervals(y, p, groups, 100, 7)
    assert np.array_equal(first["auroc"], second["auroc"])


def test_a_split_of_one_class_has_no_interval_of_auroc():
    overall, per_class = bootstrap.intervals(np.zeros(6, int), np.tile([0.7, 0.3], (6, 1)), list("abcdef"), 50, 0)
    assert np.isnan(overall["auroc"]).all()
    assert overall["accuracy"].tolist() == [1, 1]
    assert np.isnan(per_class["recall"][:, 1]).all()
