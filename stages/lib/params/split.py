from stages.lib.params.base import Seed, Share, section


@section
class SplitParams:
    """`datasets.<name>.split`: what is left over from validation and test is for training."""

    validation: Share = 0.15
    """Share of the cases, 0 to 1."""

    test: Share = 0.15
    """Share of the cases, 0 to 1."""

    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}: nothing is left to train on")
