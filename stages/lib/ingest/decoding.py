"""A case's pixels from its files: the one way in which ingest and tools.predict bring them."""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import xxhash

from stages.lib.core.errors import UserError
from stages.lib.ingest import readers
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.inspection import read_content
from stages.lib.ingest.readers.colour import converted
from stages.lib.ingest.readers.contract import Inspected, Options, Rejected, where_raised

to_dtype = lru_cache(np.dtype)


def decode(
    template: Template, start: int, stop: int, load: Callable[[Inspected], bytes], options: Options
) -> Iterator[np.ndarray]:
    """The blocks start..stop of a whole case: slices (H, W) of a volume, or the one (C, H, W) of a picture.

    They have the case's dtype and shape: a picture is brought to the case's channels as `ingest.colour` says.

    Args:
        load: Gives a file's content, as `loader` makes it.

    Raises:
        Rejected, and whatever decoders raise; `reason_of` says what it means.
    """
    case = template.case
    shape = case.shape if len(case.shape) == 3 else case.shape[2:]
    dtype = to_dtype(case.dtype)
    count = 0
    for pixels in readers.reader(template.reader).read(case.files, case.recipe, start, stop, load, options):
        if len(shape) == 3 and pixels.shape != shape:
            pixels = converted(pixels.reshape(-1, *shape[1:]), shape[0], options.params.colour)
        if pixels.dtype != dtype or pixels.shape != shape:
            raise Rejected("corrupt", f"decoded to {pixels.shape} {pixels.dtype}, expected {shape} {dtype}")
        count += 1
        yield pixels
    if count != stop - start:
        raise Rejected("corrupt", f"decoded to {count} slices, expected {stop - start}")


def loader(raw: str) -> Callable[[Inspected], bytes]:
    """Gives the content of files below a folder ("": of any files), as long as it is what was inspected.

    Raises, when it is called:
        Rejected: The file has changed.
    """

    def load(file: Inspected) -> bytes:
        content = read_content(os.path.join(raw, file.path))
        if xxhash.xxh3_128_digest(content) != file.digest:
            raise Rejected("changed", f"{file.path} changed while it was read")
        return content

    return load


def reason_of(error: Exception) -> tuple[str, str]:
    """Why a case could not be decoded: reason and detail.

    Raises:
        UserError, ImportError: The error itself, where it is no fault of the case.
    """
    if isinstance(error, Rejected):
        return error.reason, error.detail
    if isinstance(error, MemoryError):
        return "too_large", "it takes more memory than there is"
    if isinstance(error, OSError) and error.errno:  # without a number it is a decoder's
        return "io_error", error.strerror or type(error).__name__
    if isinstance(error, (UserError, ImportError)):  # of the disk, or of the installation
        raise error
    return "unreadable", where_raised(error)  # a file may be damaged in any way
