"""Labels that hold each by itself, of which some may not be known of a case: what is not known counts nowhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.core.errors import UserError
from stages.lib.drawing.sheets import COLUMNS, short
from stages.lib.model.deployed import Settings
from stages.lib.params.validate import ValidateParams
from stages.lib.splits import Table
from stages.lib.tensors import Split
from stages.lib.validate import calibration, curves, figures, label_scores, operating_point, scores
from stages.lib.validate.answers import Answers, once
from stages.lib.validate.curves import Ranking
from stages.lib.validate.kinds.kind import (
    CAPTION_NAME,
    MAX_MISTAKES,
    MAX_NAMES,
    Channels,
    Curves,
    Kind,
    Look,
    Proportion,
    of_some,
)
from stages.lib.validate.naming import Naming, Truth, of_labels
from stages.lib.validate.scores import Scores

FEWEST = 5  # known cases with a label, and without it, from which on a threshold is chosen for it
NO_CHOICE = 0.5
NEVER = 1e-7  # about the least probability that float32 tells from 0 and, at its other end, from 1
BETWEEN = " | "  # the labels that hold, in a table
ANSWERS = {True: "with", False: "without"}


def threshold(one: Ranking) -> float:
    """From which probability on a label is taken to hold for the highest F1; 0.5 where the cases are too few to say.

    It is midway, in log odds, between the last case that is taken and the next one: at the last case itself, a new case
    would have to be as sure as the least sure of these few, and where both kinds lie far apart many would be missed.
    """
    if min(one.positive.sum(), (~one.positive).sum()) < FEWEST:
        return NO_CHOICE
    true, false, thresholds = scores.ranked(one.positive, one.score, one.weight[None])
    last = int((2 * true[0] / (true[0, -1] + true[0] + false[0])).argmax())
    around = thresholds[last : last + 2].astype(np.float64).clip(NEVER, 1 - NEVER)
    between = 1 / (1 + np.exp(-np.log(around / (1 - around)).mean()))
    return operating_point.rounded_down(min(float(between), float(thresholds[last])))


@dataclass(frozen=True)
class Labels(Kind):
    """`said` is (N, K), the probability of each label."""

    thresholds_of: np.ndarray | None = None  # (N, K), where each case is judged with its own

    by_threshold = ("macro_f1", "macro_sensitivity", "macro_specificity")
    names_are = "labels"
    answer = "a probability for each label"

    @classmethod
    def choose(
        cls, training: Split, validation: Split, answers: Answers, settings: Settings, params: ValidateParams
    ) -> Self:
        """With a temperature for each label that the validation split shows to be better than none, and thresholds."""
        truth, weight, groups = truth_of(validation), validation.weight, np.asarray(validation.groups)
        if params.calibrate:
            temperatures = []
            for k in range(truth.shape[1]):
                known = ~np.isnan(truth[:, k])
                views = [view[known, k] for view in answers.logits]
                found = calibration.temperature(
                    # the softmax of these two is the label's sigmoid
                    [np.stack([np.zeros_like(logits), logits], 1) for logits in views],
                    truth[known, k].astype(int),
                    groups[known],
                    params.seed,
                    weight=None if weight is None else weight[known],
                )
                temperatures.append(found)
            settings = replace(settings, temperatures=temperatures)
        rankings = cls(answers.asked, settings).rankings(*once(validation, answers.deployed(settings)))
        return cls(answers.asked, replace(settings, thresholds=[threshold(one) for one in rankings]))

    def by_case(self, kinds: Sequence[Kind]) -> Self:
        return replace(self, thresholds_of=np.stack([cast(Labels, kind).thresholds for kind in kinds]))

    @property
    def overall_names(self) -> Sequence[str]:
        return label_scores.OVERALL

    @property
    def thresholds(self) -> np.ndarray:  # (K,) or (N, K)
        if self.thresholds_of is not None:
            return self.thresholds_of
        return np.array(list(self.settings.thresholds) or [NO_CHOICE] * len(self.names))

    def scores(self, split: Split, said: np.ndarray, weight: np.ndarray) -> tuple[Scores, Scores]:
        return label_scores.weighted(truth_of(split), said, self.thresholds, weight)

    def limits(self, score: str) -> tuple[float, float]:
        return 0.0, np.inf if score == "log_loss" else 1.0

    def by_name(self, split: Split, said: np.ndarray) -> dict[str, np.ndarray]:
        """`cases` are those with a label, `known` those of which it is known whether they have it."""
        truth = truth_of(split)
        counts = {"cases": (truth == 1).sum(0), "known": (~np.isnan(truth)).sum(0)}
        if not len(truth):
            return {name: np.full(len(self.names), np.nan) for name in label_scores.PER_LABEL} | counts
        _, table = self.weighted(split, said, np.ones((1, len(truth))))
        return {name: table[name][0] for name in label_scores.PER_LABEL} | counts

    def proportions(
        self, split: Split, said: np.ndarray
    ) -> tuple[Mapping[str, Proportion], Mapping[str, Sequence[Proportion]]]:
        truth, holds = truth_of(split), said >= self.thresholds
        there, absent, known = truth == 1, truth == 0, ~np.isnan(truth)
        right = holds == there
        counted = {"precision": holds & known, "recall": there, "specificity": absent}
        return {}, {
            name: [(right[:, k], among[:, k]) for k in range(truth.shape[1])] for name, among in counted.items()
        }

    def trials(self, split: Split, score: str) -> Sequence[Sequence[int]]:
        """Of each label the groups with it; and of ranking, pairs of a group with it and one without."""
        truth, groups = truth_of(split), np.asarray(split.groups)
        found = []
        for column in truth.T:
            there, absent = (len(np.unique(groups[column == answer])) for answer in (1, 0))
            most = len(np.unique(groups[~np.isnan(column)])) // 2  # no group is in two pairs
            found.append([there if score == "f1" else min(there, absent, most)])
        return found

    @property
    def outputs(self) -> Sequence[str]:
        return self.names

    def labels(self, split: Split) -> Sequence[str]:
        return self._joined(truth_of(split) == 1)

    def predicted(self, said: np.ndarray) -> Sequence[str]:
        return self._joined(said >= self.thresholds)

    def _joined(self, holds: np.ndarray) -> list[str]:
        return [BETWEEN.join(name for name, there in zip(self.names, row, strict=True) if there) for row in holds]

    def truth(self, split: Split) -> pd.DataFrame:
        return pd.DataFrame(truth_of(split), columns=[f"true {name}" for name in self.names]).astype("Int64")

    def confusion(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        """A row for each answer that is known, label after label: "with a" or "without a"."""
        truth, holds = truth_of(split), said >= self.thresholds
        rows = []
        for k, name in enumerate(self.names):
            known = ~np.isnan(truth[:, k])
            pairs = zip(truth[known, k] == 1, holds[known, k], strict=True)
            rows += [(f"{ANSWERS[bool(there)]} {name}", f"{ANSWERS[bool(said)]} {name}") for there, said in pairs]
        return pd.DataFrame(rows, columns=["actual", "predicted"], dtype=object)

    def rankings(self, split: Split, said: np.ndarray) -> list[Ranking]:
        return [self.ranking(k, split, said) for k in range(len(self.names))]

    def reliability(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        """The probabilities of all known answers against how often the labels hold."""
        truth = truth_of(split)
        case, label = np.nonzero(~np.isnan(truth))
        return curves.reliability(
            said[case, label], truth[case, label] == 1, None if split.weight is None else split.weight[case]
        )

    def evidence(self, split: Split, said: np.ndarray, curves: Curves) -> Figure:
        truth, holds = truth_of(split), said >= self.thresholds
        counts = [((truth == answer) & (holds == told)).sum(0) for answer in (1, 0) for told in (True, False)]
        return figures.evidence_of_labels(np.stack(counts, 1), self.names, curves, self.by_name(split, said))

    def found_by(self, positive: str) -> int:
        if positive not in self.names:
            raise UserError(
                f"validate.operating_point.positive is '{positive}': the labels are {', '.join(self.names)}"
            )
        return list(self.names).index(positive)

    def ranking(self, k: int, split: Split, said: np.ndarray) -> Ranking:
        truth = truth_of(split)[:, k]
        known: np.ndarray = ~np.isnan(truth)
        weight = None if split.weight is None else split.weight[known]
        return curves.ranking(self.names[k], truth[known] == 1, said[known, k], weight)

    def told(self, value: float) -> str:
        return f"mean AUROC {self.figure(value)}"

    def in_its_words(self, table: Table, naming: Naming) -> Truth:
        return of_labels(table, self.asked, naming)

    def possible(self, said: np.ndarray) -> bool:
        return bool(((said >= -1e-6) & (said <= 1 + 1e-6)).all())

    def moved(self, classes: Mapping[str, int], training: Mapping[str, Any], split: Split) -> dict[str, Any]:
        """The fraction of the known cases that have each label, weighted as they are."""
        truth = truth_of(split)
        weight = np.ones(len(truth)) if split.weight is None else np.asarray(split.weight, np.float64)
        counts = weight[:, None] * ~np.isnan(truth)
        with np.errstate(invalid="ignore"):
            here = (counts * np.nan_to_num(truth)).sum(0) / counts.sum(0)
        return {"labels": {name: [training[name]["share"], float(here[k])] for k, name in enumerate(self.names)}}

    def shift(self, moved: Mapping[str, Any], channels: Channels, names: tuple[str, str]) -> Figure:
        return figures.shift(moved["labels"], channels, names, "Labels", "fraction of the known cases")

    def wrong(self, split: Split, said: np.ndarray) -> np.ndarray:
        """The cases with a wrong answer, first those whose most wrong one was the surest."""
        right = self._right(split, said)
        surest = np.where(right, 0.0, self._beyond(said)).max(1, initial=0.0)
        order = np.argsort(-surest, kind="stable")
        mistaken = np.asarray((~right).any(axis=1))
        return order[mistaken[order]]

    def _right(self, split: Split, said: np.ndarray) -> np.ndarray:  # (N, K); what is not known is not wrong
        truth = truth_of(split)
        return np.isnan(truth) | ((said >= self.thresholds) == (truth == 1))

    def _beyond(self, said: np.ndarray) -> np.ndarray:
        """How far each probability is from its threshold, on its side of it: 0 to 1, (N, K)."""
        above, below = (
            (said - self.thresholds) / (1 - self.thresholds).clip(1e-9),
            1 - said / self.thresholds.clip(1e-9),
        )
        return np.where(said >= self.thresholds, above, below)

    def worst_title(self, wrong: int, cases: int, most: int) -> str:
        counted = f"{wrong} of {cases} {self.of} cases have a wrong label"
        return f"The {most} most wrong: {counted}" if wrong > most else f"All that are wrong: {counted}"

    def unsure(self, said: np.ndarray, away: np.ndarray | None) -> np.ndarray:
        """First those with a label whose probability is nearest its threshold."""
        return np.argsort(self._beyond(said).min(1, initial=1.0), kind="stable")

    def caption(self, split: Split, said: np.ndarray, i: int) -> tuple[str, bool]:
        """The label that is most wrong, or else least certain: "with mass: 3%"."""
        right, beyond = self._right(split, said)[i], self._beyond(said)[i]
        k = int(np.where(right, -1.0, beyond).argmax()) if not right.all() else int(beyond.argmin())
        truth = truth_of(split)[i, k]
        known = "unknown" if np.isnan(truth) else ANSWERS[bool(truth == 1)]
        return f"{known} {short(self.names[k], CAPTION_NAME)}: {said[i, k]:.0%}", bool(right.all())

    def explained(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        looks, right = [], self._right(split, said)
        for k in range(min(len(self.names), MAX_NAMES) if len(split.y) else 0):
            i = int(said[:, k].argmax())
            known = ~np.isnan(truth_of(split)[i, k])
            looks.append(self._look(said, i, k, "", bool(right[i, k]) if known else None))
        title = "What the network looked at, in the surest case of each label"
        return of_some(title, self.names, self.names_are), looks

    def explained_mistakes(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        """Where the network saw the label that it is most wrong about in each case."""
        wrong, looks = self.wrong(split, said)[: 2 * MAX_MISTAKES], []
        for i in wrong:
            k = int(np.where(self._right(split, said)[i], -1.0, self._beyond(said)[i]).argmax())
            known = ANSWERS[bool(truth_of(split)[i, k] == 1)]
            looks.append(self._look(said, int(i), k, f"{known} ", False))
        title = "Mistakes: what looked like the label that is wrong"
        return (title if len(wrong) else f"No wrong label in {len(split.y)} {self.of} cases"), looks

    def _look(self, said: np.ndarray, i: int, k: int, verb: str, right: bool | None) -> Look:
        return Look(i, k, f"{verb}{short(self.names[k], CAPTION_NAME)}: {said[i, k]:.0%}", right)

    def samples(self, split: Split) -> list[tuple[str, np.ndarray]]:
        truth = truth_of(split)
        return [
            (short(name, CAPTION_NAME), np.flatnonzero(truth[:, k] == 1)[:COLUMNS])
            for k, name in enumerate(self.names[:MAX_NAMES])
        ]


def truth_of(split: Split) -> np.ndarray:  # (N, K) float64
    assert split.target is not None
    return np.asarray(split.target, np.float64)
