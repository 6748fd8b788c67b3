from typing import Annotated

from pydantic import Field

from stages.lib.params.base import Count, Positive, Threads, section


@section
class ExportParams:
    """`datasets.<name>.export`."""

    tolerance: Positive = 1e-5
    """How far a probability of an exported file may be from the network's own, on any test case, 0 to 1."""

    opset: Annotated[int, Field(ge=18)] = 20
    """ONNX's version of its operators: take the newest that every runtime of yours reads."""

    unlike: bool = False
    """Give the files a second output: positive where a sample is unlike the training data."""

    batch_size: Count = 64
    """Samples a batch while the files are checked; they take batches of any size."""

    threads: Threads = 2
    """Threads in an operation; 0 is as many as there are cores. Another number gives other last bits."""

    portable: bool = False
    """Pin the instruction set to AVX2, so that the bytes are those of any x86-64 machine that has it."""
