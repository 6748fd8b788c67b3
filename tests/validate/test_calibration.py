import numpy as np
import pytest
from scipy.special import softmax

from stages.lib.validate import calibration, scores


def drawn(scale, n=4000):
    """Labels drawn from a softmax, and its logits multiplied by `scale`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_temperature_undoes_over_and_under_confidence(scale):
    logits, labels = drawn(scale)
    assert calibration.temperature([logits], labels, range(len(labels))) == pytest.approx(scale, rel=0.1)


def test_a_split_without_a_mistake_asks_for_no_more_certainty_than_its_size_supports():
    rng = np.random.default_rng(1)
    for count in (10, 100):
        logits = np.stack([rng.uniform(1, 3, count), np.zeros(count)], 1)
        found = calibration.temperature([logits], np.zeros(count, int), range(count))
        confidence = 1 / (1 + np.exp(-logits[:, 0] / found))
        assert confidence.mean() == pytest.approx((count + 1 / 2) / (count + 1), abs=0.03)


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_a_hundred_cases_are_enough_to_mend_a_badly_calibrated_model_for_other_cases(scale):
    logits, labels = drawn(scale)
    known, other = slice(0, 100), slice(100, None)
    found = calibration.temperature([logits[known]], labels[known], range(100))
    assert found != 1
    errors = [
        scores.overall(labels[other], softmax(logits[other] / divisor, axis=1))["calibration_error"]
        for divisor in (1, found)
    ]
    assert errors[1] < errors[0] / 2


def test_a_well_calibrated_model_is_left_alone_by_nearly_every_split_of_a_hundred_cases():
    logits, labels = drawn(1.0)
    splits = [slice(start, start + 100) for start in range(0, 4000, 100)]
    taken = [calibration.temperature([logits[part]], labels[part], range(100)) != 1 for part in splits]
    assert sum(taken) <= 2  # of 40


def test_without_cases_the_temperature_is_one():
    assert calibration.temperature([np.empty((0, 3))], np.empty(0, int), []) == 1.0


def test_a_temperature_that_chance_may_have_asked_for_is_not_taken():
    logits, labels = drawn(1.0)
    assert calibration.temperature([logits], labels, range(len(labels))) == pytest.approx(1.0, abs=0.1)
    few = slice(0, 20)
    assert calibration.temperature([logits[few] * 1.1], labels[few], range(20)) == 1.0
    # 400 copies of the same 20 cases are no more evidence than the 20, as their groups tell.
    copies, names = np.tile(logits[few] * 1.1, (400, 1)), np.tile(np.arange(20), 400)
    assert calibration.temperature([copies], np.tile(labels[few], 400), names) == 1.0


def test_what_is_averaged_over_views_is_calibrated_as_it_is_deployed():
    """Each view alone is too sure; their mean, which is deployed, is less so."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 4000)
    truth = np.eye(3)[labels] * 2
    views = [3 * (truth + rng.normal(0, 1.5, truth.shape)) for _ in range(2)]

    def log_loss(temperature: float) -> float:
        mean = np.mean([softmax(view / temperature, axis=1) for view in views], axis=0)
        return -np.log(mean[np.arange(len(labels)), labels]).mean()

    found = calibration.temperature(views, labels, range(len(labels)))
    alone = calibration.temperature(views[:1], labels, range(len(labels)))
    best = min(np.linspace(0.5, 6, 551), key=log_loss)
    assert found == pytest.approx(best, abs=0.02)
    assert log_loss(found) < log_loss(alone) - 1e-3


def test_the_slope_of_several_views_is_that_of_their_mean_probability():
    rng = np.random.default_rng(4)
    views, targets = rng.normal(0, 2, (3, 50, 4)), rng.dirichlet(np.ones(4), 50)

    def losses(log_temperature: float) -> np.ndarray:
        mean = np.mean([softmax(view / np.exp(log_temperature), axis=1) for view in views], axis=0)
        return -(targets * np.log(mean)).sum(1)

    numeric = (losses(1e-5) - losses(-1e-5)) / 2e-5
    np.testing.assert_allclose(calibration._slopes(list(views), targets), numeric, atol=1e-7)
    np.testing.assert_allclose(calibration._slopes([views[0]] * 2, targets), calibration._slopes(views[:1], targets))
