from typing import Annotated

from pydantic import Field

from stages.lib.core.sections import Count, section, unit


@section
class StatisticsParams:
    """`datasets.<name>.statistics`: what is measured of the training split's own pixels."""

    percentiles: tuple[Annotated[float, Field(ge=0, le=100), unit("%")], ...] = (0.5, 1, 5, 25, 50, 75, 95, 99, 99.5)
    """Which percentiles of the intensities are reported."""

    bins: Count = 64
    """Bins of the reported histogram, between minimum and maximum."""
