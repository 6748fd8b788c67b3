from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from stages.lib.core.sections import Count, Positive, Threads, section


@section
class CardParams:
    """`export.card`: what the card says and nobody can measure; what is left out stands there as to be filled in."""

    licence: str = ""
    """Of the model, as an SPDX identifier or a name."""

    source: str = ""
    """Where the data are from: sites, devices, a publication."""

    collected: str = ""
    """When the data were collected, as 2021-03 to 2023-11."""

    intended_use: str = ""
    """What the model is for, and who uses it."""

    not_for: str = ""
    """What it must not be used for."""

    contact: str = ""
    """Who answers for it."""


Format = Literal["torchscript", "onnx", "pt2"]


@section
class ExportParams:
    """`datasets.<name>.export`: what the exported files take and give, and how they are checked."""

    tolerance: Positive = 1e-5
    """How far a probability of an exported file may be from the network's own, on any test case. A number may be as
    many deviations of the numbers in training from it (of their logarithms, where the model learns those), and what
    float32 does not hold besides."""

    formats: Annotated[tuple[Format, ...], Field(min_length=1)] | None = None
    """The files to write. Where it is left out, all that the network can have (docs/models.md): the card, export.json
    and the other files say why one is not there. A format that is named and can't be had is an error."""

    opset: Annotated[int, Field(ge=18)] = 20
    """ONNX's version of its operators: take the newest that every runtime of yours reads."""

    size: Literal["fitted", "any"] = "fitted"
    """fitted: the files bring a picture of any size (a volume of any size and spacing) to the dataset's shape; any: the
    network runs on the size that it is given, which it must be able to: `compact` is, and most of torchvision's."""

    unlike: bool = False
    """Give the files a second output: positive where a sample is unlike the training data."""

    variants: tuple[Literal["half", "int8"], ...] = ()
    """Smaller ONNX files besides, with their accuracy: half precision, 8-bit integers calibrated on training cases.
    Smaller need not be faster: ONNX Runtime takes longer for volumes in int8
    (`python -m tools.bench --groups export`)."""

    card: CardParams = field(default_factory=CardParams)

    batch_size: Count = 64
    """Samples per batch while the files are checked; they take batches of any size."""

    threads: Threads = 2
    """Threads per operation; 0 is one per core. Another number gives other last bits."""

    portable: bool = False
    """Pin the instruction set to AVX2, so that the bytes are those of x86-64 machines that have it, whatever else they
    have. Between machines of different makers (AMD, Intel) the last bits have been seen to differ all the same."""

    def __post_init__(self) -> None:
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants has one twice: {', '.join(self.variants)}")
        if self.formats is not None and len(set(self.formats)) < len(self.formats):
            raise ValueError(f"formats has one twice: {', '.join(self.formats)}")
        if self.variants and self.formats is not None and "onnx" not in self.formats:
            raise ValueError("variants are made from model.onnx: add onnx to formats, or ask for no variants")
