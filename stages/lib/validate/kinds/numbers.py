"""A number, with the bounds between which 90 % of such numbers lie.

The bounds are those of split conformal prediction (Lei et al. 2018, doi:10.1080/01621459.2017.1307116): as far to both
sides of the answer as the answers to the validation split are off, so that they hold for any network. Where the model
learns a number's logarithm, that is a factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.lib.core.errors import UserError
from stages.lib.drawing.sheets import COLUMNS
from stages.lib.model.deployed import Settings
from stages.lib.params.validate import ValidateParams
from stages.lib.splits import Table
from stages.lib.tensors import Asked, Split
from stages.lib.validate import curves, figures, number_scores
from stages.lib.validate.answers import Answers, once
from stages.lib.validate.curves import Ranking
from stages.lib.validate.kinds.kind import MAX_MISTAKES, UNKNOWN, Channels, Curves, Kind, Look, Proportion
from stages.lib.validate.naming import Naming, Truth, of_number
from stages.lib.validate.scores import Scores

COVERED = 0.9  # fraction of the numbers between the bounds
NOMINAL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, COVERED, 0.95)  # of reliability.csv
QUARTILES = (0.25, 0.5, 0.75)
LIMITS = {"r2": (-np.inf, 1.0), "spearman": (-1.0, 1.0), "bias": (-np.inf, np.inf), "coverage": (0.0, 1.0)}
SPREAD = ("mean", "deviation", "minimum", "lower_quartile", "median", "upper_quartile", "maximum")
DIGITS = 6  # significant ones


def half_width(off: np.ndarray, level: float, weight: np.ndarray | None = None) -> float:
    """How far from the answer the bounds lie: of n cases, as far as the one of rank (n + 1) * level is off.

    Args:
        off: (n,) how far each answer to the validation split is off.
        level: Fraction of other cases that is to lie within.
        weight: (n,) how much each case counts; None: all alike. A new case counts as much as these do on average.

    Returns:
        6 significant digits, rounded up; the largest where there are too few cases for the rank; 0 without a case.
    """
    counts = np.ones(len(off)) if weight is None else np.asarray(weight, np.float64)
    off, counts = off[counts > 0], counts[counts > 0]
    if not len(off):
        return 0.0
    order = np.argsort(off, kind="stable")
    upto = np.cumsum(counts[order]) / counts.mean()
    rank = int(np.searchsorted(upto, (len(off) + 1) * level - 1e-9))
    exact = float(off[order][min(rank, len(off) - 1)])
    written = float(f"{exact:.{DIGITS}g}")
    return written if written >= exact else float(f"{exact * (1 + 1e-6):.{DIGITS}g}")


def quartiles(values: np.ndarray) -> tuple[float, ...]:
    """Of the training split, each once."""
    return tuple(np.unique(np.quantile(values, QUARTILES)).tolist()) if len(values) else ()


@dataclass(frozen=True)
class Numbers(Kind):
    """`said` is (N, 3): the number and its bounds."""

    quartiles: Sequence[float] = ()  # of the training split
    half_widths: Sequence[float] = ()  # of the bounds of each `NOMINAL`

    quality = "r2"
    is_calibrated = False
    answer = "a number and its bounds"
    loss = "mae"

    @classmethod
    def choose(
        cls, training: Split, validation: Split, answers: Answers, settings: Settings, params: ValidateParams
    ) -> Self:
        """With bounds from the validation split."""
        found = cls(answers.asked, settings, quartiles=quartiles(truth_of(training)))
        cases, said = once(validation, answers.deployed(settings))
        off = np.abs(found.learnt(said[:, 0]) - found.learnt(truth_of(cases)))
        widths = tuple(half_width(off, level, cases.weight) for level in NOMINAL)
        return replace(found, settings=replace(settings, half_width=widths[NOMINAL.index(COVERED)]), half_widths=widths)

    @classmethod
    def of_file(cls, asked: Asked, settings: Settings, training: Mapping[str, Any], of: str) -> Self:
        cuts = tuple(dict.fromkeys(training[asked.names[0]]["quartiles"][1:-1]))
        widths = tuple(settings.half_width if level == COVERED else 0.0 for level in NOMINAL)  # the file has no others
        return cls(asked, settings, of, cuts, widths)

    @property
    def overall_names(self) -> Sequence[str]:
        return number_scores.OVERALL

    @property
    def names(self) -> Sequence[str]:
        return []

    def scores(self, split: Split, said: np.ndarray, weight: np.ndarray) -> tuple[Scores, Scores]:
        return number_scores.weighted(truth_of(split), said, weight), {}

    def limits(self, score: str) -> tuple[float, float]:
        return LIMITS.get(score, (0.0, np.inf))

    def by_name(self, split: Split, said: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def proportions(
        self, split: Split, said: np.ndarray
    ) -> tuple[Mapping[str, Proportion], Mapping[str, Sequence[Proportion]]]:
        within = number_scores.inside(truth_of(split), said)
        return {"coverage": (within, np.ones(len(within), bool))}, {}

    def learnt(self, values: np.ndarray) -> np.ndarray:
        """Numbers in the scale that the model learns."""
        return np.log(values) if self.asked.kind == "log_regression" else values

    @property
    def _unit(self) -> str:
        return f" {self.asked.unit}" if self.asked.unit else ""

    @property
    def _with_unit(self) -> str:
        return self.asked.target.outputs_with_unit[0]

    def text(self, value: float) -> str:
        """For people, with the unit."""
        return f"{value:.4g}{self._unit}"

    @property
    def outputs(self) -> Sequence[str]:
        name = self.asked.names[0]
        return [name, f"{name} low", f"{name} high"]

    def labels(self, split: Split) -> Sequence[str]:
        return [f"{value:.{DIGITS}g}" for value in truth_of(split)]

    def predicted(self, said: np.ndarray) -> Sequence[str]:
        return [f"{value:.{DIGITS}g}" for value in said[:, 0]]

    @property
    def _cuts(self) -> list[str]:
        """The quartiles as text, each another one."""
        cuts = [f"{cut:.4g}" for cut in self.quartiles]
        return cuts if len(set(cuts)) == len(cuts) else [repr(cut) for cut in self.quartiles]

    @property
    def quarters(self) -> list[str]:
        """The names of the parts that the quartiles of the training split cut numbers into, each about a quarter."""
        cuts = self._cuts
        if not cuts:
            return ["all"]
        between = [f"{low} to {high}{self._unit}" for low, high in zip(cuts, cuts[1:], strict=False)]
        return [f"below {cuts[0]}{self._unit}", *between, f"{cuts[-1]}{self._unit} or more"]

    def _quarter(self, values: np.ndarray) -> np.ndarray:  # (N,) index into `quarters`
        return np.searchsorted(np.asarray(self.quartiles, np.float64), values, side="right")

    def confusion(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        names = np.array(self.quarters, object)
        return pd.DataFrame(
            {"actual": names[self._quarter(truth_of(split))], "predicted": names[self._quarter(said[:, 0])]},
            dtype=object,
        )

    def rankings(self, split: Split, said: np.ndarray) -> list[Ranking]:
        """The numbers of at least each quartile among all, by the answer, which is the curves' threshold."""
        return [
            curves.ranking(f"{text}{self._unit} or more", truth_of(split) >= cut, said[:, 0], split.weight)
            for text, cut in zip(self._cuts, self.quartiles, strict=True)
        ]

    def reliability(self, split: Split, said: np.ndarray) -> pd.DataFrame:
        """The fractions of numbers that are to lie within bounds (`confidence`), and those that do (`accuracy`)."""
        truth = truth_of(split)
        counts = np.ones(len(truth)) if split.weight is None else np.asarray(split.weight, np.float64)
        rows = []
        for level, width in zip(NOMINAL, self.half_widths, strict=False):
            if counts.any() and width > 0:
                off = np.abs(self.learnt(said[:, 0]) - self.learnt(truth))
                rows.append((level, float(counts[off <= width].sum() / counts.sum()), int((counts > 0).sum())))
        return pd.DataFrame(rows, columns=["confidence", "accuracy", "cases"])

    def evidence(self, split: Split, said: np.ndarray, curves: Curves) -> Figure:
        return figures.evidence_of_numbers(
            truth_of(split),
            said,
            self._with_unit,
            (self._quarter(truth_of(split)), self._quarter(said[:, 0]), self.quarters),
            curves[-1],
            split.weight,
        )

    def found_by(self, positive: str) -> int:
        raise UserError(
            f"validate.operating_point finds a class or a label, and {self.asked.names[0]} is a number: leave it "
            "out, or ask for classes of it (a column of labels.csv that says which numbers are meant, as ingest.target)"
        )

    def ranking(self, k: int, split: Split, said: np.ndarray) -> Ranking:
        return self.rankings(split, said)[k]

    def told(self, value: float) -> str:
        return f"mean absolute error {self.figure(value)}"

    def figure(self, value: float) -> str:
        return UNKNOWN if np.isnan(value) else self.text(value)

    def in_its_words(self, table: Table, naming: Naming) -> Truth:
        return of_number(table, self.asked, naming)

    def possible(self, said: np.ndarray) -> bool:
        return bool(number_scores.inside(said[:, 0], said).all())

    def moved(self, classes: Mapping[str, int], training: Mapping[str, Any], split: Split) -> dict[str, Any]:
        """Mean and deviation, weighted as the cases are, and quartiles."""
        ours, truth = training[self.asked.names[0]], truth_of(split)
        weight = np.ones(len(truth)) if split.weight is None else np.asarray(split.weight, np.float64)
        with np.errstate(invalid="ignore"):
            mean = (weight * truth).sum() / weight.sum()
            deviation = np.sqrt((weight * np.square(truth - mean)).sum() / weight.sum())
        here = [mean, deviation, *np.quantile(truth, np.arange(5) / 4)]
        pairs = zip([ours["mean"], ours["deviation"], *ours["quartiles"]], map(float, here), strict=True)
        return {"number": dict(zip(SPREAD, map(list, pairs), strict=True))}

    def shift(self, moved: Mapping[str, Any], channels: Channels, names: tuple[str, str]) -> Figure:
        pairs = [moved["number"][name] for name in SPREAD[2:]]
        return figures.shift_of_number([list(of) for of in zip(*pairs, strict=True)], self._with_unit, channels, names)

    def wrong(self, split: Split, said: np.ndarray) -> np.ndarray:
        """All cases, the largest errors first."""
        return np.argsort(-np.abs(said[:, 0] - truth_of(split)), kind="stable")

    def worst_title(self, wrong: int, cases: int, most: int) -> str:
        counted = f"{min(most, cases)} largest errors of {cases} {self.of} cases"
        return f"The {counted}: ✗ outside of the {COVERED:.0%} interval"

    def unsure(self, said: np.ndarray, away: np.ndarray | None) -> np.ndarray:
        """First those that are least like the training data: the bounds are as wide for these as for all others."""
        return np.empty(0, int) if away is None else np.argsort(-away, kind="stable")

    def unsure_title(self, away: np.ndarray | None) -> str:
        if away is None:
            return f"Nobody measured which of the {self.of} cases are like the training data"
        return f"The {self.of} cases that are least like the training data: ✗ outside of the interval"

    def caption(self, split: Split, said: np.ndarray, i: int) -> tuple[str, bool]:
        within = number_scores.inside(truth_of(split)[i : i + 1], said[i : i + 1])
        return f"{self.text(truth_of(split)[i])}\nas {self.text(said[i, 0])}", bool(within[0])

    def explained(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        """Cases from the least answer to the greatest."""
        order = np.argsort(said[:, 0], kind="stable")
        places = np.linspace(0, len(order) - 1, COLUMNS).round().astype(int)
        looks = [self._look(split, said, int(i)) for i in order[np.unique(places)]] if len(order) else []
        return "What the network took for a greater number, from the least answer to the greatest", looks

    def explained_mistakes(self, split: Split, said: np.ndarray) -> tuple[str, list[Look]]:
        looks = [self._look(split, said, int(i)) for i in self.wrong(split, said)[:MAX_MISTAKES]]
        return "The largest errors: what the network took for a greater number", looks

    def _look(self, split: Split, said: np.ndarray, i: int) -> Look:
        text, right = self.caption(split, said, i)
        return Look(i, 0, text, right)

    def samples(self, split: Split) -> list[tuple[str, np.ndarray]]:
        """The first cases of each quarter."""
        quarter = self._quarter(truth_of(split))
        return [(name, np.flatnonzero(quarter == k)[:COLUMNS]) for k, name in enumerate(self.quarters)]


def truth_of(split: Split) -> np.ndarray:  # (N,) float64
    assert split.target is not None
    return np.asarray(split.target[:, 0], np.float64)
