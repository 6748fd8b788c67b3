"""Several trainings of one model: what each says of the cases that it was not trained on, and all of test.

A fold may have several trainings, one a seed; a case outside of the test split is then answered by the mean of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.lib.model.deployed import Settings
from stages.lib.params.study import Member
from stages.lib.params.validate import ValidateParams
from stages.lib.tensors import Split
from stages.lib.validate import calibration, out_of_distribution
from stages.lib.validate.answers import Answers
from stages.lib.validate.kinds.kind import Kind

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Asked:
    """What a training said."""

    member: Member
    held: Split  # the cases of its fold
    answers: Answers  # to these
    test: Answers  # to the test split


def temperatures(asked: Sequence[Asked], params: ValidateParams) -> tuple[dict[int, float], float]:
    """The temperature that each fold is judged with, and the one of all, which is deployed.

    A fold's own is fitted on the other folds, as else it would be measured on what it was fitted on. A study of seeds
    alone has one fold, the validation split, and fits and measures on it, as the stage validate does.
    """
    folds = list(dict.fromkeys(one.member.fold for one in asked))
    others = {fold: [one for one in asked if one.member.fold != fold] or asked for fold in folds}
    return {fold: _temperature(others[fold], params) for fold in folds}, _temperature(asked, params)


def _temperature(asked: Sequence[Asked], params: ValidateParams) -> float:
    if not params.calibrate:
        return 1.0
    logits = np.concatenate([one.answers.logits[0] for one in asked])
    labels = np.concatenate([one.held.y for one in asked])
    groups = [group for one in asked for group in one.held.groups]
    shares, weight = (_together([getattr(one.held, name) for one in asked]) for name in ("target", "weight"))
    return calibration.temperature(logits, labels, groups, params.seed, shares, weight)


def _together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None


def out_of_fold(asked: Sequence[Asked], temperature_of: Mapping[int, float], cases: Split) -> np.ndarray:
    """The probabilities of each case that is held out, (N, K): the mean over the trainings that held it out.

    Args:
        cases: All that are held out, ascending by name.
    """
    place = {name: i for i, name in enumerate(cases.case.tolist())}
    total = np.zeros((len(cases.y), asked[0].answers.logits[0].shape[1]))
    number = np.zeros(len(cases.y))
    for one in asked:
        rows = [place[name] for name in one.held.case.tolist()]
        total[rows] += one.answers.probabilities(temperature_of[one.member.fold])
        number[rows] += 1
    return total / number[:, None]


def ensemble(asked: Sequence[Asked], temperature: float) -> np.ndarray:
    """The mean of all trainings' probabilities of the test split, (N, K)."""
    return np.mean([one.test.probabilities(temperature) for one in asked], axis=0)


def settings(asked: Sequence[Asked], temperature: float, params: ValidateParams) -> Settings:
    """What each of these trainings is deployed with, alone or in an ensemble."""
    measured = np.concatenate([one.answers.measures for one in asked])
    return out_of_distribution.with_threshold(measured, Settings(temperature, "".join(params.flips)))


def table(
    kind: Kind, asked: Sequence[Asked], temperature_of: Mapping[int, float], deployed: float, test: Split
) -> pd.DataFrame:
    """A row a training: its fold, its cases, and its scores on them (`held_...`) and on the test split (`test_...`)."""
    rows = []
    for one in asked:
        temperature = temperature_of[one.member.fold]
        held = kind.overall(one.held, one.answers.probabilities(temperature))
        tested = kind.overall(test, one.test.probabilities(deployed))
        about = {"member": one.member.name, "fold": one.member.fold, "cases": len(one.held.y)}
        rows.append(
            about | {f"held_{name}": held[name] for name in held} | {f"test_{name}": tested[name] for name in tested}
        )
    return pd.DataFrame(rows)


def spread(found: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Of each score its mean, deviation, lowest and highest; of what some of them lack, over the others."""
    spreads = {}
    for name in found[0]:
        values = np.array([one[name] for one in found if np.isfinite(one[name])])
        if len(values):
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            numbers = (float(values.mean()), deviation, float(values.min()), float(values.max()))
            spreads[name] = dict(zip(("mean", "deviation", "lowest", "highest"), numbers, strict=True))
    return spreads


def over_folds(kind: Kind, cases: Split, fold_of: np.ndarray, probabilities: np.ndarray) -> list[Scores]:
    """The scores of each fold's own cases."""
    of_folds = [fold_of == fold for fold in np.unique(fold_of)]
    return [kind.overall(_judged(cases, which), probabilities[which]) for which in of_folds]


def _judged(cases: Split, which: np.ndarray) -> Split:
    """Some of the cases, (N,) bool, without their pixels, which no score is of."""
    target, weight = (None if of is None else of[which] for of in (cases.target, cases.weight))
    return Split(np.empty((int(which.sum()), 0)), cases.y[which], cases.case[which], cases.group[which], target, weight)


def over_seeds(kind: Kind, asked: Sequence[Asked], temperature_of: Mapping[int, float], cases: Split) -> list[Scores]:
    """The scores of all cases, by the trainings of each seed alone; empty where every fold has one training."""
    by_fold: dict[int, list[Asked]] = {}
    for one in asked:
        by_fold.setdefault(one.member.fold, []).append(one)
    repeats = list(zip(*by_fold.values(), strict=True))  # the first training of every fold, the second, ...
    if len(repeats) < 2:
        return []
    return [kind.overall(cases, out_of_fold(own, temperature_of, cases)) for own in repeats]


def best(kind: Kind, asked: Sequence[Asked], temperature_of: Mapping[int, float]) -> Asked:
    """The training of lowest log loss on the cases of its fold; of several the first."""

    def loss(one: Asked) -> float:
        probabilities = one.answers.probabilities(temperature_of[one.member.fold])
        return kind.overall(one.held, probabilities)["log_loss"]

    return min(asked, key=loss)
