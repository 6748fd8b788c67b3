from typing import Literal

from stages.lib.core.sections import Count, Seed, section


@section
class SampleParams:
    """`datasets.<name>.sample`: a dataset that ships with the project, or that it can make."""

    source: Literal["digits", "phantoms"]
    """digits: scikit-learn's 1,797 scans of handwritten digits; phantoms: synthetic CT studies."""

    seed: Seed = 0
    """Seed of the phantoms' bodies, nodules and noise."""

    patients: Count = 150
    """Phantoms only: a third of them have two series."""
