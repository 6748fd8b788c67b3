import re
from typing import Annotated, Literal

from pydantic import Field

from stages.lib.params.base import Count, Threads, section


@section
class IngestParams:
    """`datasets.<name>.ingest`: what of data/raw/<name> becomes a case, and how."""

    kind: Literal["auto", "images", "volumes"] = "auto"
    """auto: what most cases are. images: every DICOM file is a picture of its own, a CT slice too."""

    colour: Literal["auto", "grey_mean", "grey_luminance", "rgb"] = "auto"
    """auto: rgb if any picture is in colour; grey_luminance: 0.2126 R + 0.7152 G + 0.0722 B; rgb: grey three times."""

    transparency: Literal["reject", "black", "white"] = "reject"
    """A picture that is in part transparent is rejected, or laid on black or white; an opaque alpha is dropped."""

    frames: Literal["reject", "first", "split"] = "reject"
    """Animated or multi-page pictures: rejected, their first frame, or a case a frame (of one group)."""

    min_side: Count = 2
    """Pixels; a picture that is lower or narrower is rejected."""

    max_pixels: Count = 178_956_970
    """Pixels of a picture or slice; one that claims more is rejected before it is decoded."""

    split_4d: bool = False
    """A series with several slices at one place (phases, echoes): a volume a phase, where they can be told apart."""

    gap_tolerance: Annotated[float, Field(gt=0, le=0.1)] = 0.01
    """How far a gap between slices may be from the mean gap, as a share of it, 0 to 0.1."""

    max_tilt: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Degrees between the slices' normal and the line that they are stacked along, 0 to 1."""

    burned_in: Literal["keep", "reject"] = "keep"
    """Pictures whose header says BurnedInAnnotation YES; they are counted in either case."""

    group: str | None = None
    """Regular expression with one group, searched in a file's path below data/raw/<name>: it finds the patient."""

    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the cases, 0 to 1: when more are rejected the stage fails."""

    identifiers: Literal["keyed", "open"] = "keyed"
    """keyed: names of cases and groups need the key to be made again; open: a public key, for nobody's data."""

    workers: Threads = 0
    """Processes; 0 is as many as there are cores. The outs do not depend on it."""

    def __post_init__(self) -> None:
        if self.group is not None:
            try:
                groups = re.compile(self.group).groups
            except re.error as error:
                raise ValueError(f"group {self.group!r} is no regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"group {self.group!r} has {groups} groups, expected one: as in '^[^/]+/(p[0-9]+)_'")
