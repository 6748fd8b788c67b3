"""One class of several, in order or not; of each case the class alone is known, or how much of each class it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.core.errors import UserError
from stages.lib.drawing.sheets import COLUMNS, short
from stages.lib.model.deployed import Settings
from stages.lib.params.validate import ValidateParams
from stages.lib.splits import Table
from stages.lib.tensors import Split
from stages.lib.validate import calibration, curves, figures, predictions, scores
from stages.lib.validate.answers import Answers
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
from stages.lib.validate.naming import Naming, Truth, of_classes
from stages.lib.validate.scores import Scores

ORDINAL = ("quadratic_kappa", "mae")
LIMITS = {"log_loss": (0.0, np.inf), "brier": (0.0, 2.0), "mae": (0.0, np.inf), "quadratic_kappa": (-1.0, 1.0)}
NO_TRIALS = ("log_loss", "brier", "calibration_error", *ORDINAL)
RANKED = ("auroc", "average_precision")


@dataclass(frozen=True)
class Classes(Kind):
    """`said` is (N, K) probabilities that add up to 1."""

    @classmethod
    def choose(
        cls, training: Split, validation: Split, answers: Answers, settings: Settings, params: ValidateParams
    ) -> Self:
        """With a temperature that the validation split shows to be better than none."""
        if params.calibrate:
            truth, groups, shares, weight = validation.y, validation.groups, validation.target, validation.weight
            found = calibration.temperature(answers.logits, truth, groups, params.seed, shares, weight)
            settings = replace(settings, temperature=found)
        return cls(answers.asked, settings)

    @property
    def overall_names(self) -> Sequence[str]:
        return (*scores.OVERALL, *(ORDINAL if self.asked.kind == "ordinal" else ()))

    def scores(self, split: Split, said: np.ndarray, weight: np.ndarray) -> tuple[Scores, Scores]:
        overall, per_class = scores.weighted(split.y, said, weight, split.target)
        if self.asked.kind == "ordinal":
            overall |= scores.in_grades(split.y, said.argmax(1), said.shape[1], weight)
        return overall, per_class

    def limits(self, score: str) -> tuple[float, float]:
        return LIMITS.get(score, (0.0, 1.0))

    def by_name(self, split: Split, said: np.ndarray) -> dict[str, np.ndarray]:
        return scores.per_class(split.y, said, split.weight, split.target)

    def proportions(
        self, split: Split, said: np.ndarray
    ) -> tuple[Mapping[str, Proportion], Mapping[str, Sequence[Proportion]]]:
        right, answer = said.argmax(1) == split.y, said.argmax(1)
        of_classes = {
            "precision": [(right, answer == k) for k in range(said.shape[1])],
            "recall": [(right, split.y == k) for k in range(said.shape[1])],
        }
        return {"accuracy": (right, np.ones(len(right), bool))}, of_classes

    def trials(self, split: Split, score: str) -> Sequence[Sequence[int]]:
        return [[number] for number in self.overall_trials(split, score)]

    def overall_trials(self, split: Split, score: str) -> Sequence[int]:
        """Of each class its groups; and of ranking, pairs of a group of it and another."""
        if score in NO_TRIALS:
            return []
        groups = np.asarray(split.groups)
        of_class = [len(np.unique(groups[split.y == k])) for k in range(len(self.names))]
        if score not in RANKED:
            return of_class
        of_others = [len(np.unique(groups[split.y != k])) for k in range(len(self.names))]
        most = len(np.unique(groups)) // 2  # no group is in two pairs
        return [min(*pair, most) for pair in zip(of_class, of_others, strict=True)]

    @property
    def outputs(self) -> Sequence[str]:
        return self.names

    def labels(self, split: Split) -> Sequence[str]:
        return [self.names[k] for k in split.y]

    def predicted(self, said: np.ndarray) -> Sequence[str]:
        return [self.names[k] for k in said.argmax(1)]

    def truth(self, split: Split) -> pd.DataFrame:
        if split.target is None:
            return super().truth(split)
        return pd.DataFrame(np.asarray(split.target, np.float64), columns=[f"true {name}" for name in self.names])

    def confusion(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame({"actual": self.labels(split), "predicted": self.predicted(said)}, dtype=object)

    def rankings(self, split: Split, said: np.ndarray) -> list[Ranking]:
        return curves.one_against_the_rest(split.y, said, self.names, split.weight)

    def reliability(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        return curves.reliability(said.max(1), scores.right(split.y, said, split.target), split.weight)

    def evidence(self, split: Split, said: np.ndarray, curves: Curves) -> Figure:
        return figures.evidence(split.y, said.argmax(1), self.names, curves, self.by_name(split, said))

    def found_by(self, positive: str) -> int:
        if positive not in self.names:
            raise UserError(
                f"validate.operating_point.positive is '{positive}': the classes are {', '.join(self.names)}"
            )
        return list(self.names).index(positive)

    def ranking(self, k: int, split: Split, said: np.ndarray) -> Ranking:
        return self.rankings(split, said)[k]

    def told(self, value: float) -> str:
        return f"accuracy {self.figure(value)}"

    def in_its_words(self, table: Table, naming: Naming) -> Truth:
        return of_classes(table, self.asked, naming)

    def possible(self, said: np.ndarray) -> bool:
        return bool((np.abs(said.sum(axis=1) - 1) <= 1e-3).all())

    def moved(self, classes: Mapping[str, int], training: Mapping[str, Any], split: Split) -> dict[str, Any]:
        """The fraction of each class."""
        number = dict(zip(self.names, np.bincount(split.y, minlength=len(self.names)).tolist(), strict=True))
        totals = [max(1, sum(of.values())) for of in (classes, number)]
        pairs = {name: [classes.get(name, 0), number[name]] for name in self.names}
        return {"classes": {name: [n / of for n, of in zip(pair, totals, strict=True)] for name, pair in pairs.items()}}

    def shift(self, moved: Mapping[str, Any], channels: Channels, names: tuple[str, str]) -> Figure:
        return figures.shift(moved["classes"], channels, names)

    def wrong(self, split: Split, said: np.ndarray) -> np.ndarray:
        return predictions.mistakes(split.y, said)

    def worst_title(self, wrong: int, cases: int, most: int) -> str:
        counted = f"{wrong} wrong of {cases} {self.of} cases"
        return f"The {most} most wrong: {counted}" if wrong > most else f"All that are wrong: {counted}"

    def unsure(self, said: np.ndarray, away: np.ndarray | None) -> np.ndarray:
        return predictions.uncertainty(said)

    def caption(self, split: Split, said: np.ndarray, i: int) -> tuple[str, bool]:
        """ "cat: 3%" above "as dog: 96%" is a cat that was taken for a dog."""
        label, chances = int(split.y[i]), said[i]
        predicted = int(chances.argmax())
        text = f"{short(self.names[label], CAPTION_NAME)}: {chances[label]:.0%}"
        if predicted == label:
            return text, True
        return f"{text}\nas {short(self.names[predicted], CAPTION_NAME)}: {chances[predicted]:.0%}", False

    def explained(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        looks = []
        for k in range(min(len(self.names), MAX_NAMES) if len(split.y) else 0):
            i = int(said[:, k].argmax())
            looks.append(self._look(said, i, k, "", bool(split.y[i] == k)))
        title = "What the network looked at, in the surest case of each class"
        return of_some(title, self.names, self.names_are), looks

    def explained_mistakes(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        """Where the network saw the class that it answered, and where the true one."""
        looks = []
        wrong = self.wrong(split, said)[:MAX_MISTAKES]
        for i in wrong:
            looks.append(self._look(said, int(i), int(said[i].argmax()), "answer ", False))
            looks.append(self._look(said, int(i), int(split.y[i]), "label ", None))
        title = "Mistakes: what looked like the answer, and what like the label"
        return (title if len(wrong) else f"0 wrong of {len(split.y)} {self.of} cases"), looks

    def _look(self, said: np.ndarray, i: int, k: int, verb: str, right: bool | None) -> Look:
        return Look(i, k, f"{verb}{short(self.names[k], CAPTION_NAME)}: {said[i, k]:.0%}", right)

    def samples(self, split: Split) -> list[tuple[str, np.ndarray]]:
        return [
            (short(name, CAPTION_NAME), np.flatnonzero(split.y == k)[:COLUMNS])
            for k, name in enumerate(self.names[:MAX_NAMES])
        ]
