import numpy as np
import pytest
from scipy import stats

from stages.lib.tensors import Asked, Split
from stages.lib.validate import bootstrap, proportions, scores
from stages.lib.validate import intervals as by_kind
from stages.lib.validate.kinds.classes import Classes


def intervals(labels, probabilities, groups, resamples, seed):
    """Of one class of several."""
    named = np.array(groups, "S16")
    split = Split(np.zeros((len(labels), 1, 1, 1)), labels, named, named)
    kind = Classes(Asked("classes", [f"class{k}" for k in range(probabilities.shape[1])]))
    return by_kind.intervals(kind, split, probabilities, resamples, seed)


def names(n):
    return [str(i) for i in range(n)]


def random_split(seed):
    """Labels, probabilities and groups of a small split: some are perfect, some lack a class, some have few groups."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 60)), int(rng.integers(2, 5))
    labels = rng.integers(0, k if seed % 3 else k - 1, n)
    raw = np.exp(rng.choice([0, 1, 3, 30]) * np.eye(k)[labels] + rng.normal(size=(n, k)))
    return labels, raw / raw.sum(1, keepdims=True), rng.integers(0, max(2, n // rng.integers(1, 4)), n).astype(str)


def test_an_interval_holds_its_value_and_is_never_of_one_number():
    perfect = 0
    for seed in range(60):
        y, p, groups = random_split(seed)
        overall, per_class = intervals(y, p, groups, 60, seed)
        value, of_class = scores.overall(y, p), scores.per_class(y, p)
        perfect += value["accuracy"] == 1
        for name, (low, high) in overall.items():
            assert np.isnan(low) or (0 <= low <= value[name] + 1e-12 and value[name] <= high + 1e-12), (seed, name)
            assert low != high, (seed, name)
        for name, (low, high) in per_class.items():
            there = np.isfinite(low)
            assert (low <= of_class[name] + 1e-12)[there].all() and (of_class[name] <= high + 1e-12)[there].all(), (
                seed,
                name,
            )
            assert (low != high).all(), (seed, name)
        assert np.isfinite(overall["accuracy"]).all()
    assert perfect > 5


def test_the_interval_of_a_calibration_error_holds_it_where_all_resamples_have_more():
    sure = np.repeat([0.55, 0.65, 0.75, 0.85, 0.95], 20)
    y = np.concatenate([np.arange(20) >= right for right in (11, 13, 15, 17, 18)]).astype(int)
    p = np.stack([sure, 1 - sure], 1)
    (block,) = bootstrap.weights(names(100), 500, 0)
    raw = np.percentile(scores.weighted(y, p, block)[0]["calibration_error"], [2.5, 97.5])
    low, high = intervals(y, p, names(100), 500, 0)[0]["calibration_error"]
    assert scores.overall(y, p)["calibration_error"] == pytest.approx(0.01)
    assert raw[0] > 0.02, "the case that the bias is taken away for"
    assert low == 0 and 0.03 < high < raw[1]


@pytest.mark.parametrize("truth", [0.5, 0.8, 0.98])
def test_the_interval_of_a_proportion_covers_the_truth_at_least_as_often_as_it_says(truth):
    rng = np.random.default_rng(0)
    for size in (1, 5):  # cases per group, all right or all wrong together
        covered = 0
        for _ in range(300):
            right = np.repeat(rng.random(60) < truth, size)
            groups = np.repeat(np.arange(60), size)
            low, high = proportions.interval(right, np.ones(len(right), bool), groups, 0.95)
            covered += low <= truth <= high
        assert covered >= 0.93 * 300, (truth, size)


def test_the_interval_of_independent_cases_is_that_of_clopper_and_pearson():
    for hits, n in ((0, 7), (7, 7), (3, 10), (267, 269)):
        right = np.arange(n) < hits
        found = proportions.interval(right, np.ones(n, bool), np.arange(n), 0.95)
        expected = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
        assert found == pytest.approx([expected.low, expected.high], rel=1e-6)
    assert np.isnan(proportions.interval(right, np.zeros(n, bool), np.arange(n), 0.95)).all()


def test_scans_of_one_patient_widen_the_interval_as_far_as_they_go_together():
    rng = np.random.default_rng(0)
    groups, counted = np.repeat(np.arange(20), 10), np.ones(200, bool)
    apart = proportions.interval(rng.random(200) < 0.8, counted, groups, 0.95)
    together = proportions.interval(np.repeat(rng.random(20) < 0.8, 10), counted, groups, 0.95)
    assert np.diff(together) > 2 * np.diff(apart)
    twenty = proportions.interval(np.ones(20, bool), np.ones(20, bool), np.arange(20), 0.95)
    assert proportions.interval(counted, counted, groups, 0.95) == pytest.approx(twenty)


def test_nothing_that_went_wrong_in_three_classes_bounds_the_mean_of_their_recalls():
    assert proportions.least_mean([20], 0.95) == pytest.approx(0.025 ** (1 / 20))
    assert proportions.least_mean([5, 0, 0], 0.95) == pytest.approx(0.025 ** (1 / 5))
    trials, surprise = np.array([17, 17, 6]), -np.log(0.025)
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 20_000)
    means = np.exp(-surprise * shares / trials).mean(1)  # of recalls under which all goes right with that probability
    assert proportions.least_mean(trials, 0.95) == pytest.approx(means.min(), abs=2e-3)
    assert proportions.least_mean(trials, 0.95) <= means.min()
    assert np.isnan(proportions.least_mean([0, 0], 0.95))


def test_a_perfect_score_is_not_known_to_be_one_and_a_ranking_is_worth_its_pairs():
    y = np.repeat([0, 1], [16, 34])
    p = np.where(y[:, None] == [0, 1], 0.9, 0.1)
    overall, per_class = intervals(y, p, names(50), 100, 0)
    assert overall["accuracy"] == pytest.approx([0.025 ** (1 / 50), 1])
    assert per_class["recall"][:, 0] == pytest.approx([0.025 ** (1 / 16), 1])
    assert per_class["f1"][:, 1] == pytest.approx([0.025 ** (1 / 34), 1])
    assert per_class["auroc"][:, 1] == pytest.approx([0.025 ** (1 / 16), 1])
    assert overall["macro_f1"][0] == pytest.approx(proportions.least_mean([16, 34], 0.95))
    wrong, _ = intervals(1 - y, p, names(50), 100, 0)
    assert wrong["accuracy"] == pytest.approx([0, 1 - 0.025 ** (1 / 50)])
    assert wrong["auroc"][0] == 0 < wrong["auroc"][1] < 0.25


def test_the_same_seed_gives_the_same_intervals_and_a_split_of_one_class_has_none_of_auroc():
    y, p, groups = random_split(4)
    first, second = (intervals(y, p, groups, 100, 7)[0] for _ in range(2))
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)
    overall, per_class = intervals(np.zeros(6, int), np.tile([0.7, 0.3], (6, 1)), list("abcdef"), 50, 0)
    assert np.isnan(overall["auroc"]).all() and np.isnan(per_class["recall"][:, 1]).all()
    assert np.isnan(overall["log_loss"]).all(), "six times the same loss says nothing of another case's"
