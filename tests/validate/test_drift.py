import numpy as np
import pytest
from scipy.stats import ks_2samp

from stages.lib.validate.drift import drift


def channel(values, bins):
    counts, edges = np.histogram(values, bins)
    return {"counts": counts.tolist(), "edges": edges.tolist()}


def test_on_common_edges_the_distance_and_p_are_those_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(0)
    old, new = rng.normal(0, 1, 400), rng.normal(0.3, 1, 300)
    bins = np.sort(np.r_[-9, old, new, 9])  # bins so fine that they lose nothing
    found = drift(channel(old, bins), channel(new, bins), 400, 300)
    expected = ks_2samp(old, new, method="asymp")
    assert found.distance == pytest.approx(expected.statistic, abs=0.005)
    assert found.p == pytest.approx(expected.pvalue, rel=0.3)


def test_other_bins_of_the_same_values_are_no_drift():
    values = np.random.default_rng(0).integers(0, 200, 5000)
    assert drift(channel(values, 64), channel(values, 50), 1000, 1000).distance == pytest.approx(0, abs=0.01)
    heavy = np.r_[np.zeros(5000), values]  # most pixels lie in one bin, and where in it is unknown
    assert drift(channel(heavy, 64), channel(heavy, 32), 1000, 1000).p > 0.9


def test_the_same_shift_convinces_more_with_more_patients():
    values = np.random.default_rng(0).normal(0, 1, 5000)
    bins = np.linspace(-6, 7, 100)
    few, many = (drift(channel(values, bins), channel(values + 0.2, bins), n, n).p for n in (20, 2000))
    assert few > 0.5 and many < 0.001


def test_ranges_that_do_not_meet_are_as_far_apart_as_can_be():
    assert drift(channel([1, 2, 3], 3), channel([11, 12, 13], 3), 50, 50).distance == 1
