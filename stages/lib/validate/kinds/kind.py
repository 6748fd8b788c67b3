"""What validation knows of a kind of answer: which scores it has, what is a mistake, and how a case is told of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.model.deployed import Settings
from stages.lib.params.validate import MAIN_SCORE, ValidateParams
from stages.lib.splits import Table
from stages.lib.tensors import Asked, Split
from stages.lib.validate.answers import Answers
from stages.lib.validate.curves import Ranking
from stages.lib.validate.naming import Naming, Truth
from stages.lib.validate.scores import Scores

UNKNOWN = "unknown"  # a score that the cases don't have, as of labels that nobody knows
Proportion = tuple[np.ndarray, np.ndarray]
"""Which cases are right, and which count, (N,) bool each."""

Curves = Sequence[pd.DataFrame]
"""ROC, precision-recall and reliability, as `curves` gives them."""


Channels = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
"""`edges` and `counts` of each channel's intensities, in training and in another dataset."""


@dataclass(frozen=True)
class Look:
    """A case that is explained: where the network saw evidence for one of its outputs."""

    case: int
    output: int
    text: str
    right: bool | None = None  # as of `sheets.Tile`


@dataclass(frozen=True)
class Kind(ABC):
    """Judges what a deployed model says of a split's cases: `said`, (N, ...), as `Answers.deployed` gives it."""

    asked: Asked
    settings: Settings = field(default_factory=Settings)  # that the model is deployed with
    of: str = "test"  # what cases the titles of sheets say that these are

    quality = "accuracy"  # the column of history.csv that is drawn
    is_calibrated = True  # by temperatures
    by_threshold: ClassVar[
        Sequence[str]
    ] = ()  # the scores that depend on thresholds, which are for calibrated answers alone
    names_are = "classes"
    answer = "probabilities of one class of several"
    loss = "log_loss"  # the score by which the best of several trainings is told

    # Settings

    @classmethod
    @abstractmethod
    def choose(
        cls, training: Split, validation: Split, answers: Answers, settings: Settings, params: ValidateParams
    ) -> Self:
        """With what is to be fitted of the settings, on the validation split. In a study, these are the cases that were
        held out, of which several trainings may have answered one.

        Args:
            training: As of `kinds.choose`.
            answers: To the validation split.
            settings: All others.
        """

    @classmethod
    def of_file(cls, asked: Asked, settings: Settings, training: Mapping[str, Any], of: str) -> Self:
        """That of an exported file, with its own settings.

        Args:
            training: What statistics.json has of the target in the training split, by name.
            of: Whose cases it is asked about, for titles.
        """
        return cls(asked, settings, of)

    def by_case(self, kinds: "Sequence[Kind]") -> Self:
        """That which judges each of N cases with the settings of its own kind; what depends on them beyond the answers.

        Args:
            kinds: (N,) as this, with other settings.
        """
        return self

    # Scores

    @property
    @abstractmethod
    def overall_names(self) -> Sequence[str]:
        """The scores of a whole split, in the order of scores.csv."""

    @property
    def main(self) -> str:
        """The score that is told first."""
        return MAIN_SCORE.get(self.asked.kind, "accuracy")

    @abstractmethod
    def told(self, value: float) -> str:
        """The main score, for people."""

    def figure(self, value: float) -> str:
        """Its value alone."""
        return UNKNOWN if np.isnan(value) else f"{value:.4f}"

    @property
    def names(self) -> Sequence[str]:
        """What has scores of its own, K: each class, each label."""
        return self.asked.names

    @abstractmethod
    def scores(self, split: Split, said: np.ndarray, weight: np.ndarray) -> tuple[Scores, Scores]:
        """The scores with each row of weights, (R, N): overall (R,), and of each name (R, K)."""

    @abstractmethod
    def limits(self, score: str) -> tuple[float, float]:
        """The lowest and the highest value that a score can have."""

    def weighted(self, split: Split, said: np.ndarray, times: np.ndarray) -> tuple[Scores, Scores]:
        """As `scores`, where each case occurs so many times, (R, N), and counts as much as it does."""
        weight = times if split.weight is None else times * np.asarray(split.weight, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # what a resample does not define is nan
            return self.scores(split, said, weight)

    def overall(self, split: Split, said: np.ndarray) -> dict[str, float]:
        """The scores of a whole split; nan where it does not define one."""
        if not len(split.y):
            return dict.fromkeys(self.overall_names, float("nan"))
        found, _ = self.weighted(split, said, np.ones((1, len(split.y))))
        return {name: float(found[name][0]) for name in self.overall_names}

    @abstractmethod
    def by_name(self, split: Split, said: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each class or label, (K,) each, and how many cases it has; {} where there are none."""

    def proportions(
        self, split: Split, said: np.ndarray
    ) -> tuple[Mapping[str, Proportion], Mapping[str, Sequence[Proportion]]]:
        """The scores that are proportions of cases: overall, and of each name."""
        return {}, {}

    def trials(self, split: Split, score: str) -> Sequence[Sequence[int]]:
        """How many independent trials there are of each name, (K,), each in a list; [] of a score that has none.

        A score that has trials is 1 if nothing went wrong, and 0 if everything did.
        """
        return []

    def overall_trials(self, split: Split, score: str) -> Sequence[int]:
        """Likewise of an overall score: of each name, whose trials are independent of the others'."""
        return []

    # Tables

    @property
    @abstractmethod
    def outputs(self) -> Sequence[str]:
        """The columns of predictions.csv that the model's answers are in."""

    @abstractmethod
    def labels(self, split: Split) -> Sequence[str]:
        """What is true of each case, as text, (N,)."""

    @abstractmethod
    def predicted(self, said: np.ndarray) -> Sequence[str]:
        """What the model answers, as text, (N,)."""

    def truth(self, split: Split) -> pd.DataFrame:
        """Further columns of predictions.csv: what is true, where `labels` does not say all of it."""
        return pd.DataFrame(index=range(len(split.y)))

    @abstractmethod
    def confusion(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        """actual, predicted: what is counted in the matrix."""

    @abstractmethod
    def rankings(self, split: Split, said: np.ndarray) -> list[Ranking]:
        """What ROC and precision-recall curves are of."""

    @abstractmethod
    def reliability(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        """confidence, accuracy, cases: what the model claims against what is so."""

    @abstractmethod
    def evidence(self, split: Split, said: np.ndarray, curves: Curves) -> Figure:
        """The figure of a split."""

    @abstractmethod
    def found_by(self, positive: str) -> int:
        """Which of `rankings` an operating point is of, by name.

        Raises:
            UserError: There is none of that name.
        """

    @abstractmethod
    def ranking(self, k: int, split: Split, said: np.ndarray) -> Ranking:
        """What an operating point is about."""

    def sentence(self, measured: Mapping[str, float], cases: int) -> str:
        """The main score of the test split, for people."""
        return f"test {self.told(measured[self.main])} of {cases} cases"

    # Other datasets

    @abstractmethod
    def in_its_words(self, table: Table, naming: Naming) -> Truth:
        """What is true of another dataset's cases.

        Raises:
            UserError: They are not of what the model answers.
        """

    @abstractmethod
    def possible(self, said: np.ndarray) -> bool:
        """Whether these can be answers, (N, K) finite."""

    @abstractmethod
    def moved(self, classes: Mapping[str, int], training: Mapping[str, Any], split: Split) -> dict[str, Any]:
        """What is true of the cases in training and of those of another dataset, [in training, there] each.

        Args:
            classes: How many cases of each class there are in training.
            training: As of `of_file`.
        """

    @abstractmethod
    def shift(self, moved: Mapping[str, Any], channels: Channels, names: tuple[str, str]) -> Figure:
        """The figure of what `moved` gives, beside the intensities; the others as of `figures.shift`."""

    # Sheets of cases

    @abstractmethod
    def wrong(self, split: Split, said: np.ndarray) -> np.ndarray:
        """The cases that the sheet of the worst is of, the worst first."""

    @abstractmethod
    def worst_title(self, wrong: int, cases: int, most: int) -> str: ...

    @abstractmethod
    def unsure(self, said: np.ndarray, away: np.ndarray | None) -> np.ndarray:
        """The cases, the least certain first.

        Args:
            away: (N,) how unlike the training data each is; None where nobody knows.
        """

    def unsure_title(self, away: np.ndarray | None) -> str:
        return f"The least certain {self.of} cases: ✓ right, ✗ wrong"

    @abstractmethod
    def caption(self, split: Split, said: np.ndarray, i: int) -> tuple[str, bool]:
        """What a case is and what it was taken for, and whether that is right."""

    @abstractmethod
    def explained(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        """A title, and the cases that show what the model looks for."""

    @abstractmethod
    def explained_mistakes(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]: ...

    @abstractmethod
    def samples(self, split: Split) -> list[tuple[str, np.ndarray]]:
        """Of the training split, cases that are alike, and what they are called."""


MAX_NAMES = 10  # more would make a sheet that nobody looks through, and that git has to keep
MAX_MISTAKES = 10
CAPTION_NAME = 20  # characters of a name in a caption


def of_some(title: str, names: Sequence[str], what: str) -> str:
    """The title, which says where not all names are shown."""
    return title if len(names) <= MAX_NAMES else f"{title}: {MAX_NAMES} of {len(names)} {what}"
