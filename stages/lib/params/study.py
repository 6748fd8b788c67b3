"""`datasets.<name>.study`: the model trained several times, and measured on whole other datasets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from stages.lib.core.nearest import hint
from stages.lib.core.sections import Seed, section

MOST = 1000  # trainings; each is a stage of dvc


@section
class ExternalParams:
    """`datasets.<name>.study.external.<other>`: how the other dataset's classes differ from the model's."""

    classes: dict[str, str | None] = field(default_factory=dict)
    """Which class of the model a class of the other dataset is, as in {kitten: cat}; null leaves its cases out. Labels
    are named likewise (null leaves out the label, and no case), and a number. What is spelt alike needs no line."""

    lacks: tuple[str, ...] = ()
    """Classes, or labels, of the model of which the other dataset is known to have no case."""

    trained_on: Literal["refuse", "leave_out"] = "refuse"
    """Cases of groups (patients) that the model was trained on: an error that counts them, or they are left out."""


@section
class StudyParams:
    """`datasets.<name>.study`: the model trained several times, and measured on whole other datasets. It may be left
    out; then nothing of this is made."""

    folds: Annotated[int, Field(ge=2, le=MOST)] | None = None
    """Number of folds that the cases outside of the test split are dealt to, by group and class, or by whole sites
    where `split.by` is set and more than one is left. Each is held out once, from a training of its own on the rest."""

    seeds: tuple[Seed, ...] = ()
    """Seeds to train with, in place of `train.seed`: one training for each, or one for each and fold."""

    seed_of: dict[str, Seed] = field(default_factory=dict)
    """Another seed for single trainings, as in {fold3: 7}; no other one runs again."""

    export: Literal["best", "ensemble"] | None = None
    """What is exported of these trainings, besides the model of the train stage: ensemble: the mean of what all of them
    answer, as one file; best: the one of lowest log loss (of numbers, mean absolute error) on what it was not trained
    on."""

    external: dict[str, ExternalParams] = field(default_factory=dict)
    """Other datasets of params.yaml, whole, that the exported model is asked about, as in {clinic: {}}."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has one twice: {', '.join(map(str, self.seeds))}")
        if (number := (self.folds or 1) * len(self.seeds)) > MOST:
            raise ValueError(
                f"{self.folds or 1} folds and {len(self.seeds)} seeds are {number} trainings: expected {MOST} at most"
            )
        names = [member.name for member in self.members()]
        for name in self.seed_of:
            if name not in names:
                raise ValueError(f"seed_of names '{name}', and no training is called so: {hint(name, names) or 'none'}")
        if self.export and not names:
            raise ValueError(f"export is {self.export}, and there is nothing to choose from: give folds or seeds")

    def members(self) -> list["Member"]:
        """The trainings, fold by fold; none without folds and seeds."""
        if self.folds is None and not self.seeds:
            return []
        found = []
        for fold in range(self.folds or 1):
            for seed in self.seeds or (None,):
                parts = [f"fold{fold}"] * bool(self.folds) + [f"seed{seed}"] * (seed is not None)
                name = "-".join(parts)
                found.append(Member(name, fold, self.seed_of.get(name, seed)))
        return found


@dataclass(frozen=True)
class Member:
    """One of the trainings of a study."""

    name: str  # as fold0-seed1
    fold: int  # which is held out
    seed: int | None  # None: that of `train.seed`
