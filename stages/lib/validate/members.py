"""Several trainings of one model: what each says of the cases that it was not trained on, and all of test.

A fold may have several trainings, one a seed; a case outside of the test split is then answered by the mean of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.lib.params.study import Member
from stages.lib.params.validate import ValidateParams
from stages.lib.tensors import Split
from stages.lib.validate import kinds
from stages.lib.validate.answers import Answers, joined, once, some
from stages.lib.validate.kinds.kind import Kind

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Asked:
    """What a training said."""

    member: Member
    held: Split  # the cases of its fold
    answers: Answers  # to these
    test: Answers  # to the test split


def fitted(asked: Sequence[Asked], params: ValidateParams) -> tuple[dict[int, Kind], Kind]:
    """With which settings each fold is judged, and those of all, which are deployed, alone or in an ensemble.

    A fold's own are fitted on the other folds, as else it would be measured on what they were fitted on. A study of
    seeds alone has one fold, the validation split, and fits and measures on it, as the stage validate does.
    """
    folds = list(dict.fromkeys(one.member.fold for one in asked))
    others = {fold: [one for one in asked if one.member.fold != fold] for fold in folds}
    own = {fold: fitted_on(of, params) for fold, of in others.items() if of}
    of_all = fitted_on(asked, params)
    return {fold: own.get(fold, of_all) for fold in folds}, of_all


def fitted_on(asked: Sequence[Asked], params: ValidateParams) -> Kind:
    """With the settings that are fitted on the folds of these trainings."""
    held, answers = joined([one.held for one in asked]), Answers.joined([one.answers for one in asked])
    return kinds.choose(held, held, answers, params)


def out_of_fold(asked: Sequence[Asked], kind_of: Mapping[int, Kind]) -> np.ndarray:
    """What is said of each case that is held out, ascending by name, (N, ...): the mean over the trainings that held it
    out.
    """
    said = [one.answers.deployed(kind_of[one.member.fold].settings) for one in asked]
    return once(joined([one.held for one in asked]), np.concatenate(said))[1]


def ensemble(asked: Sequence[Asked], kind: Kind) -> np.ndarray:
    """What is said of the test split, (N, ...): the mean over all trainings, as of `Ensemble`."""
    return np.mean([one.test.deployed(kind.settings) for one in asked], axis=0)


def table(asked: Sequence[Asked], kind_of: Mapping[int, Kind], deployed: Kind, test: Split) -> pd.DataFrame:
    """A row a training: its fold, its cases, and its scores on them (`held_...`) and on the test split (`test_...`)."""
    rows = []
    for one in asked:
        held, tested = held_scores(one, kind_of), deployed.overall(test, one.test.deployed(deployed.settings))
        about = {"member": one.member.name, "fold": one.member.fold, "cases": len(one.held.y)}
        rows.append(
            about | {f"held_{name}": held[name] for name in held} | {f"test_{name}": tested[name] for name in tested}
        )
    return pd.DataFrame(rows)


def held_scores(one: Asked, kind_of: Mapping[int, Kind]) -> dict[str, float]:
    """A training's scores on the cases of its fold."""
    kind = kind_of[one.member.fold]
    return kind.overall(one.held, one.answers.deployed(kind.settings))


def spread(found: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Of each score its mean, deviation, lowest and highest; of what some of them lack, over the others."""
    spreads = {}
    for name in found[0]:
        values = np.array([one[name] for one in found if np.isfinite(one[name])])
        if len(values):
            deviation = float(values.std(ddof=1)) if values.min() < values.max() else 0.0
            numbers = (float(values.mean()), deviation, float(values.min()), float(values.max()))
            spreads[name] = dict(zip(("mean", "deviation", "lowest", "highest"), numbers, strict=True))
    return spreads


def over_folds(kind_of: Mapping[int, Kind], cases: Split, fold_of: np.ndarray, said: np.ndarray) -> list[Scores]:
    """The scores of each fold's own cases."""
    of_folds = [(int(fold), fold_of == fold) for fold in np.unique(fold_of)]
    return [kind_of[fold].overall(some(cases, which), said[which]) for fold, which in of_folds]


def over_seeds(kind: Kind, asked: Sequence[Asked], kind_of: Mapping[int, Kind], cases: Split) -> list[Scores]:
    """The scores of all cases, by the trainings of each seed alone; empty where every fold has one training.

    Args:
        kind: That judges each case as its fold is.
    """
    by_fold: dict[int, list[Asked]] = {}
    for one in asked:
        by_fold.setdefault(one.member.fold, []).append(one)
    repeats = list(zip(*by_fold.values(), strict=True))  # the first training of every fold, the second, ...
    if len(repeats) < 2:
        return []
    return [kind.overall(cases, out_of_fold(own, kind_of)) for own in repeats]


def best(asked: Sequence[Asked], kind_of: Mapping[int, Kind]) -> Asked:
    """The training of lowest loss on the cases of its fold, as `Kind.loss`; of several the first."""

    def loss(one: Asked) -> float:
        found = held_scores(one, kind_of)[kind_of[one.member.fold].loss]
        return found if np.isfinite(found) else np.inf  # of labels that nobody knows there is none

    return min(asked, key=loss)
