"""The sizes of a picture or slice that params allow, whatever format it comes in."""

from stages.lib.ingest.readers.contract import Rejected
from stages.lib.params.ingest import IngestParams


def check_sides(height: int, width: int, params: IngestParams) -> None:
    """Raises:
    Rejected: A picture or slice is lower or narrower than `ingest.min_side`.
    """
    if min(height, width) < params.min_side:
        raise Rejected("too_small", f"{width}x{height} pixels; ingest.min_side is {params.min_side}")


def check_picture(height: int, width: int, params: IngestParams) -> None:
    """Raises:
    Rejected: It is smaller than `ingest.min_side` or larger than `ingest.max_pixels` allow.
    """
    check_sides(height, width, params)
    if height * width > params.max_pixels:
        raise Rejected("too_large", f"{width}x{height} pixels; ingest.max_pixels is {params.max_pixels}")
