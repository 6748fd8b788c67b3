import numpy as np
import pytest

from stages.lib.validate import operating_point


def test_the_threshold_finds_the_wanted_share_and_no_lower_one_is_needed():
    rng = np.random.default_rng(0)
    positive, chance = rng.random(500) < 0.3, rng.random(500)
    for wanted in (0.5, 0.9, 1.0):
        fixed = operating_point.threshold(positive, chance, wanted)
        assert operating_point.rates(positive, chance, fixed)["sensitivity"] >= wanted
        assert operating_point.rates(positive, chance, fixed + 2e-6)["sensitivity"] < wanted


def test_the_threshold_finds_as_much_after_it_was_written_with_six_digits():
    chance = np.array([1 / 3, 2 / 3])
    fixed = operating_point.threshold(np.array([True, True]), chance, 1.0)
    assert fixed == float(f"{fixed:.6g}") <= 1 / 3


def test_the_report_counts_alarms_and_silences():
    positive = np.array([True, True, True, False, False])
    found = operating_point.rates(positive, np.array([0.9, 0.8, 0.1, 0.7, 0.2]), 0.5)
    assert found == pytest.approx(
        {
            "sensitivity": 2 / 3,
            "specificity": 1 / 2,
            "positive_predictive_value": 2 / 3,
            "negative_predictive_value": 1 / 2,
        }
    )


def test_without_a_positive_case_there_is_no_threshold():
    assert np.isnan(operating_point.threshold(np.array([False]), np.array([0.5]), 0.9))
