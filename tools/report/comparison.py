"""Compares two models on test cases: what changed, and whether that is more than chance.

Accuracy is judged by McNemar's test (the mid-p variant; Fagerland, Lydersen, Laake 2013, doi:10.1186/1471-2288-13-91),
exact, and extended to groups: where a patient has several cases, all of them change sides together. The other scores
are judged by a paired bootstrap that draws groups. Of equal models, both say "better" or "worse" about one time in
twenty; `python -m tools.report.simulation` measures how often, and how often a real difference is found.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pandas as pd

from stages.lib.params.validate import LOWER_IS_BETTER
from stages.lib.validate import bootstrap
from tools.report.judging import Asked

PLAIN = Asked()
LEVEL = 0.95  # of an interval; equal models get a wrong verdict with probability 1 - LEVEL
POWER = 0.8  # probability of finding a difference of the size `Change.smallest`
RESAMPLES = 1000
FEWEST_GROUPS = 5  # all changing one way, that are more than chance: 2 * 0.5**5 / 2 < 1 - LEVEL


@dataclass(frozen=True)
class Change:
    """A score of two models on the same cases."""

    old: float
    new: float
    low: float  # of the interval of new - old
    high: float
    smallest: float  # difference that so many cases would show 4 times in 5
    verdict: str  # "better", "worse" or "no difference"


def compare(
    old: pd.DataFrame, new: pd.DataFrame, was_asked: Asked = PLAIN, is_asked: Asked = PLAIN
) -> dict[str, Change]:
    """Every score's change between two predictions.csv.

    A group that is in both tables is drawn into both at once, so that what they have in common cancels out: in full if
    the cases are the same, in part if they overlap.

    Args:
        old: Rows of one split of predictions.csv.
        new: The same of the later revision; it may hold other cases.
        was_asked, is_asked: What the models were asked.

    Returns:
        By name of the score; none where the two were asked something else.
    """
    if was_asked.kind != is_asked.kind:
        return {}
    weights = bootstrap.weights([*old["group"], *new["group"]], RESAMPLES, seed=0)
    drawn: dict[str, list[np.ndarray]] = {}
    judges = was_asked.judge(old), is_asked.judge(new)
    for block in weights:
        found = [judges[0](block[:, : len(old)]), judges[1](block[:, len(old) :])]
        for name in found[0]:
            drawn.setdefault(name, []).append(found[1][name] - found[0][name])
    whole = [judge(np.ones((1, len(table)))) for judge, table in zip(judges, (old, new), strict=True)]
    changes = {
        name: _change(name, float(whole[0][name][0]), float(whole[1][name][0]), np.concatenate(blocks))
        for name, blocks in drawn.items()
    }
    if same_cases(old, new) and "accuracy" in changes and not (was_asked.weighted or is_asked.weighted):
        changes["accuracy"] = _by_flipping(changes["accuracy"], correct_by_group(old, new), len(new))
    return changes


def shared(old: pd.DataFrame, new: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the cases that are in both, in the same order, with the groups of the later revision."""
    both = sorted(set(old["case"]) & set(new["case"]))
    rows = [table.set_index("case", drop=False).loc[both].reset_index(drop=True) for table in (old, new)]
    return rows[0].assign(group=rows[1]["group"]), rows[1]


def same_cases(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    return len(old) > 0 and old["case"].tolist() == new["case"].tolist()


def correct_by_group(old: pd.DataFrame, new: pd.DataFrame) -> np.ndarray:
    """How many more cases of each group the later model has right, (groups,) integers; rows must be the same cases."""
    gained = _correct(new).astype(int) - _correct(old).astype(int)
    return gained.groupby(new["group"]).sum().to_numpy()


def mid_p(gained: np.ndarray) -> float:
    """The mid-p value under the hypothesis of equal models: each group's change has either sign with probability 1/2.

    With one case a group this is McNemar's test.

    Args:
        gained: (groups,) integers, see `correct_by_group`.
    """
    steps = np.abs(gained[gained != 0])
    total, seen = int(steps.sum()), abs(int(gained.sum()))
    if seen == 0:
        return 1.0
    probabilities = np.ones(1)  # of every sum from -total to total, one more group each time
    for step in steps:
        probabilities = np.convolve(probabilities, np.r_[0.5, np.zeros(2 * int(step) - 1), 0.5])
    upper = probabilities[total + seen :]
    return float(2 * upper[1:].sum() + upper[0])


def _by_flipping(change: Change, gained: np.ndarray, cases: int) -> Change:
    verdict = "no difference"
    if mid_p(gained) < 1 - LEVEL:
        verdict = "better" if gained.sum() > 0 else "worse"
    smallest = max(_factor() * float(np.sqrt(np.square(gained).sum())), FEWEST_GROUPS) / cases
    return replace(change, smallest=smallest, verdict=verdict)


def _change(name: str, old: float, new: float, drawn: np.ndarray) -> Change:
    drawn = drawn[np.isfinite(drawn)]  # a resample without a class has no AUROC
    if not (len(drawn) and math.isfinite(old) and math.isfinite(new)):
        return Change(old, new, math.nan, math.nan, math.nan, "no difference")
    low, high = (float(x) for x in np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]))
    verdict = "no difference"
    if low > 0 or high < 0:
        verdict = "better" if (low > 0) != (name in LOWER_IS_BETTER) else "worse"
    smallest = _factor() * float(drawn.std()) or math.nan  # from equal predictions the spread is unknown
    return Change(old, new, low, high, smallest, verdict)


def _factor() -> float:
    """How many standard errors a true difference must be from 0 to be found with probability POWER: 2.8."""
    return NormalDist().inv_cdf(0.5 + LEVEL / 2) + NormalDist().inv_cdf(POWER)


def _correct(table: pd.DataFrame) -> pd.Series:
    return table["label"] == table["predicted"]
