from stages.lib.core.sections import Fraction, Seed, section


@section
class SplitParams:
    """`datasets.<name>.split`: the cases of neither validation nor test are for training."""

    validation: Fraction = 0.15
    """Fraction of the cases."""

    test: Fraction = 0.15
    """Fraction of the cases."""

    seed: Seed = 0
    """Another seed deals the groups anew."""

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}: nothing is left to train on")
