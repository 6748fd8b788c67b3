"""How often the report's verdict is right: false alarms of equal models, and real losses that it finds.

    python -m tools.report.simulation

A simulated case has a difficulty, of which both models have a part in common (`correlation`). With `groups_of` cases
per patient, a patient's cases are similarly difficult, and each model has its own difficult patients.
"""

import argparse
from statistics import NormalDist

import numpy as np
import pandas as pd

from stages.lib.core import terminal
from tools.report import comparison

CASES = 300
LOSS = 0.05


def rates(
    pairs: int,
    cases: int,
    accuracy: float,
    loss: float,
    correlation: float,
    seed: int,
    groups_of: int = 1,
    score: str = "accuracy",
) -> dict[str, float]:
    """The fraction of each verdict over simulated pairs of models.

    Args:
        accuracy: Expected, of the older model.
        loss: By how much the newer model's is lower.
        correlation: Of a case's difficulty for the two models, 0 to 1.
        groups_of: Cases per patient.
    """
    rng = np.random.default_rng(seed)
    verdicts = [_verdict(rng, cases, (accuracy, accuracy - loss), correlation, groups_of, score) for _ in range(pairs)]
    return {verdict: verdicts.count(verdict) / pairs for verdict in ("better", "worse", "no difference")}


def _verdict(
    rng: np.random.Generator,
    cases: int,
    accuracies: tuple[float, float],
    correlation: float,
    groups_of: int,
    score: str,
) -> str:
    groups = np.arange(cases) // groups_of
    common = _difficulty(rng, groups, groups_of)
    tables = []
    for accuracy in accuracies:
        difficulty = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * _difficulty(rng, groups, groups_of)
        margin = NormalDist().inv_cdf(accuracy) - difficulty  # above 0: right; the larger, the surer
        tables.append(_table(groups, 1 / (1 + np.exp(-3 * margin))))
    if score == "accuracy":  # as `compare`, without the resamples, which accuracy does not need
        gained = comparison.correct_by_group(*tables)
        if comparison.mid_p(gained) >= 1 - comparison.LEVEL:
            return "no difference"
        return "better" if gained.sum() > 0 else "worse"
    return comparison.compare(tables[0], tables[1])[score].verdict


def _difficulty(rng: np.random.Generator, groups: np.ndarray, groups_of: int) -> np.ndarray:
    """A standard normal number per case; if groups have several cases, half of the variance is the group's."""
    own = rng.standard_normal(len(groups))
    if groups_of == 1:
        return own
    return np.sqrt(0.5) * rng.standard_normal(groups.max() + 1)[groups] + np.sqrt(0.5) * own


def _table(groups: np.ndarray, of_truth: np.ndarray) -> pd.DataFrame:
    labels = np.arange(len(groups)) % 2
    one = np.where(labels == 1, of_truth, 1 - of_truth)
    names = np.array(["no", "yes"])
    keys = {"case": [f"{i:05d}" for i in range(len(groups))], "group": [f"{g:05d}" for g in groups], "split": "test"}
    answers = {"label": names[labels], "predicted": names[(one > 0.5).astype(int)], "no": 1 - one, "yes": one}
    return pd.DataFrame(keys | answers)


@terminal.program()
def main(pairs: int) -> None:
    print(
        f"{pairs} pairs of models per row, {CASES} test cases; false alarms are of equal models, seen: {LOSS:.0%} lost"
    )
    print(f"{'score':20}{'accuracy':>9}{'correlation':>12}{'cases a patient':>16}{'false alarms':>14}{'seen':>8}")
    rows = [("accuracy", a, c, 1) for a in (0.97, 0.95, 0.9, 0.8) for c in (0.5, 0.7, 0.9)]
    rows += [
        ("accuracy", 0.95, 0.7, 3),
        ("log_loss", 0.95, 0.7, 1),
        ("auroc", 0.95, 0.7, 1),
        ("macro_f1", 0.95, 0.7, 3),
    ]
    for seed, (score, accuracy, correlation, groups_of) in enumerate(rows):
        equal, lost = (rates(pairs, CASES, accuracy, loss, correlation, seed, groups_of, score) for loss in (0, LOSS))
        alarms = equal["better"] + equal["worse"]
        print(f"{score:20}{accuracy:9}{correlation:12}{groups_of:16}{alarms:14.1%}{lost['worse']:8.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.report.simulation", description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="pairs of models per row")
    main(parser.parse_args().pairs)
