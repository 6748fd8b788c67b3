from typing import Annotated, Literal

from stages.lib.core.sections import Count, Positive, section, unit


@section
class DatasetParams:
    """`datasets.<name>.dataset`: the one shape that all cases are brought to."""

    colour: Literal["keep", "grey_mean", "grey_luminance", "rgb"] = "keep"
    """grey_mean: the channels' plain mean; grey_luminance: 0.2126 R + 0.7152 G + 0.0722 B; rgb: grey three times."""

    resize: Annotated[Count, unit("pixels")] | None = None
    """Images: length of the shorter side before the crop; null: as fit has it. A picture that has the shape already is
    not resized."""

    fit: Literal["auto", "crop", "pad", "stretch"] = "auto"
    """Pictures of other proportions than shape. crop: scaled to cover it, and cut at the centre; pad: scaled to lie
    within it, and filled up; stretch: scaled to it, without regard to proportions. auto: crop where it cuts away at
    most a tenth of the training split's pixels, and no more than a quarter of any of its cases; else pad; crop where
    resize is given. Volumes are cropped and padded, but for stretch, which takes no spacing_mm."""

    spacing_mm: Annotated[tuple[Positive, ...] | None, unit("mm")] = None
    """Resample to this spacing, along D, H, W (or H, W). Volumes: null is the training split's median spacing, or a
    wider one with which the median case has no more than 262,144 pixels (64 x 64 x 64), if shape is null, too."""

    shape: Annotated[tuple[Count, ...] | None, unit("pixels")] = None
    """Size along D, H, W (or H, W), to which cases are cropped or padded at the centre; null: the training split's
    median, but for images no more than 16,384 pixels (128 x 128) in its proportions."""

    fill: float | None = None
    """Value of the padding; null: the training split's minimum."""

    dtype: Literal["keep", "float16", "float32"] = "keep"
    """keep: the cases' own dtype; resampled values are rounded to it."""

    def __post_init__(self) -> None:
        if self.resize is not None and self.fit in ("pad", "stretch"):
            raise ValueError(f"resize is given, after which pictures are cropped, and fit is {self.fit}: leave one out")
        if self.spacing_mm is not None and self.fit == "stretch":
            raise ValueError("fit is stretch, which gives each case a spacing of its own: leave spacing_mm out")
