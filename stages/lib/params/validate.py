from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from stages.lib.core.sections import Count, Seed, Threads, section, unit

HigherIsBetter = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_f1",
    "auroc",
    "average_precision",
    "quadratic_kappa",
    "macro_sensitivity",
    "macro_specificity",
    "r2",
    "spearman",
]
LowerIsBetter = Literal["log_loss", "brier", "calibration_error", "mae", "rmse", "median_error"]
Score = Literal[HigherIsBetter, LowerIsBetter]
"""What validate measures of a whole split and what tells a better model from a worse, in validate.json and scores.csv.
Classes, ordered ones, labels and numbers have some of them each: `Kind.overall_names`."""

LOWER_IS_BETTER: frozenset[Score] = frozenset(get_args(LowerIsBetter))
"""Which way is better is decided here alone: a new score stands in one of the two lists."""

MAIN_SCORE: Mapping[str, Score] = {"multilabel": "auroc", "regression": "mae", "log_regression": "mae"}
"""What is told first of each kind of target; of one class of several, accuracy, which these have not."""

IN_UNIT: tuple[str, ...] = ("mae", "rmse", "median_error", "bias")
"""What is measured of a number in its own unit."""

Described = Literal["bias", "coverage"]
"""What is measured of numbers besides, and is best at a number between: a bias at 0, a coverage at 0.9."""


@section
class OperatingPoint:
    """`datasets.<name>.validate.operating_point`: the threshold is fixed on the validation split, reported on test."""

    positive: str
    """The class, or the label, to be found."""

    sensitivity: Annotated[float, Field(gt=0, le=1), unit("fraction")]
    """Fraction of its cases that must be found."""


@section
class ValidateParams:
    """`datasets.<name>.validate`: what is measured of the model, and what of it the exported model takes over."""

    calibrate: bool = True
    """Fit a temperature on the validation split (of labels, one each), so that confidence matches accuracy; the
    exported model has it. It stays 1 unless that split shows that the model is too sure, or too unsure."""

    flips: tuple[Literal["D", "H", "W"], ...] = ()
    """Test-time augmentation: average with the sample mirrored along each of these axes; the exported model does it."""

    operating_point: OperatingPoint | None = None
    """Report one class, or one label, at a wanted sensitivity; numbers have none."""

    resamples: Annotated[int, Field(ge=0)] = 1000
    """Bootstrap resamples of the groups for the 95 % intervals; 0 gives no intervals, not even the exact ones."""

    seed: Seed = 0
    """Seed of the bootstrap."""

    worst: Count = 20
    """How many of the least certain, and at most how many of the wrong, test cases the figures show."""

    batch_size: Count = 64
    """Samples per batch: decides memory and speed."""

    threads: Threads = 2
    """Threads per operation; 0 is one per core. Another number gives other last bits."""

    portable: bool = False
    """Pin the instruction set to AVX2, so that the bytes are those of x86-64 machines that have it, whatever else they
    have. Between machines of different makers (AMD, Intel) the last bits have been seen to differ all the same."""

    def __post_init__(self) -> None:
        if len(set(self.flips)) < len(self.flips):
            raise ValueError(f"flips has an axis twice: {', '.join(self.flips)}")
