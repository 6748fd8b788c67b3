from typing import Literal

from stages.lib.params.base import Count, Positive, Threads, section


@section
class DatasetParams:
    """`datasets.<name>.dataset`: the one shape that all cases are brought to."""

    colour: Literal["keep", "grey_mean", "grey_luminance", "rgb"] = "keep"
    """grey_mean: the channels' plain mean; grey_luminance: 0.2126 R + 0.7152 G + 0.0722 B; rgb: grey three times."""

    resize: Count | None = None
    """Images: pixels of the shorter side before the crop; null: as small as still covers the shape, or not at all. A
    picture that has the shape already is taken as it is."""

    spacing_mm: tuple[Positive, ...] | None = None
    """Resample to this spacing, along D, H, W (or H, W). Volumes: null is the training split's median spacing."""

    shape: tuple[Count, ...] | None = None
    """Pixels along D, H, W (or H, W), cropped or padded at the centre; null: the training split's median."""

    fill: float | None = None
    """Where a case does not reach; null: the training split's minimum."""

    dtype: Literal["keep", "float16", "float32"] = "keep"
    """keep: the cases' own, which is exact for integers and rounds what was resampled."""

    threads: Threads = 2
    """Threads in an operation; 0 is as many as there are cores."""

    portable: bool = True
    """Pin the instruction set to AVX2, so that rounding is that of any x86-64 machine that has it."""
