import re

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

    by: str | None = None
    """A column that `ingest.columns` keeps, such as site: the test split is one or more whole ones of its values
    (hospitals, scanners), and the cases of these are in no other split. Validation is dealt from the other cases, of
    which `validation` is then the fraction."""

    test_sites: tuple[str, ...] = ()
    """Which values of that column the test split is, as labels.csv has them. Left out, they are dealt: as many as come
    nearest to `test`."""

    freeze: str | None = None
    """A file of `frozen/`, such as mine.csv, that `python -m tools.freeze <name>` writes: its cases are the test split,
    whatever is added, removed or relabelled and whatever the seed. Further cases of their groups join them."""

    def __post_init__(self) -> None:
        if self.freeze is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.csv", self.freeze):
            raise ValueError(f"freeze is {self.freeze!r}: expected the name of a file in frozen/, such as mine.csv")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test is {self.validation + self.test:g}: nothing is left to train on")
        if self.test_sites and self.by is None:
            raise ValueError("test_sites is given, and by is not: name the column of the sites, as in `by: site`")
        if self.by is not None:
            object.__setattr__(self, "by", self.by.strip().lower())  # as labels.csv's header is read
