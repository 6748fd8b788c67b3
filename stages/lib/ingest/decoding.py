"""A case's pixels from its files: the one way in which ingest and tools.predict bring them."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType

import numpy as np
import xxhash

from stages.lib.core.locks import in_turn
from stages.lib.core.opening import check_handles
from stages.lib.ingest import in_place, readers
from stages.lib.ingest.archives.members import NONE, Member, Members, read_stamped, stamp_now
from stages.lib.ingest.case_table import Template
from stages.lib.ingest.readers.colour import GREY, converted
from stages.lib.ingest.readers.contract import (
    Case,
    Inspected,
    Options,
    Rejected,
    check_is_of_the_files,
    reading,
    where_raised,
)

LARGE_BYTES = 256 << 20  # of memory, above which a worker waits for the others that take as much

to_dtype = lru_cache(np.dtype)


class MemoryTurn:
    """Bounds the memory of n workers to n times LARGE_BYTES and what one file takes.

    with turn.beside(decoded):  # for each case
        turn.take(size)  # for each of its files: where that is much, it waits until no other worker is at such a file
    """

    def __init__(self, lock: Path) -> None:
        """Args: lock: Of those that take much, one after the other."""
        self._lock, self._beside = lock, 0
        self._waited: AbstractContextManager[None] | None = None

    def beside(self, number: int) -> "MemoryTurn":
        """Takes into account the bytes that decoding takes beside the file's own."""
        self._beside = number
        return self

    def take(self, size: int) -> None:
        """Is told, before a file is read, how many bytes it holds."""
        if self._beside + size > LARGE_BYTES and self._waited is None:
            turn = in_turn(self._lock)
            turn.__enter__()
            self._waited = turn

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._waited is not None:
            turn, self._waited = self._waited, None
            turn.__exit__(None, None, None)


def decode(
    template: Template, start: int, stop: int, load: Callable[[Inspected], bytes], options: Options
) -> Iterator[np.ndarray]:
    """The blocks start..stop of a whole case: slices (H, W) of a volume, or the one (C, H, W) of a picture.

    They have the case's dtype and shape: it is brought to the case's channels as `ingest.colour` says.

    Args:
        load: Gives a file's content, as a `Loader` does.

    Raises:
        Rejected, and whatever decoders raise; `reason_of` says what it means.
    """
    case = template.case
    shape = case.shape if len(case.shape) == 3 else case.shape[2:]
    dtype = to_dtype(case.dtype)
    count = 0
    read = partial(readers.reader(template.reader).read, case.files, case.recipe, load=load, options=options)
    slices = _of_other_channels(read, case, options.params.colour) if case.file_channels else read
    for pixels in slices(start, stop):
        if len(shape) == 3 and pixels.shape != shape:
            pixels = converted(pixels.reshape(-1, *pixels.shape[-2:]), shape[0], options.params.colour)
        if pixels.dtype != dtype or pixels.shape != shape:
            raise Rejected("corrupt", f"decoded to {pixels.shape} {pixels.dtype}, expected {shape} {dtype}")
        count += 1
        yield pixels
    if count != stop - start:
        raise Rejected("corrupt", f"decoded to {count} slices, expected {stop - start}")


def _of_other_channels(
    read: Callable[[int, int], Iterator[np.ndarray]], case: Case, colour: str
) -> Callable[[int, int], Iterator[np.ndarray]]:
    """Reads slices of a volume in grey or colour whose file has the other of the two."""
    depth = case.shape[1]

    def grey(start: int, stop: int) -> Iterator[np.ndarray]:
        channels = (read(at + start, at + stop) for at in range(0, case.file_channels * depth, depth))
        for planes in zip(*channels, strict=True):
            yield converted(np.stack(planes), GREY, colour)[0]

    def rgb(start: int, stop: int) -> Iterator[np.ndarray]:
        for at in range(0, case.blocks, depth):
            first, last = max(start - at, 0), min(stop - at, depth)
            if first < last:
                yield from read(first, last)

    return grey if case.shape[0] == GREY else rgb


class Loader:
    """Gives the content of files below a folder ("": of any files), as long as it is what was inspected."""

    def __init__(
        self,
        raw: str,
        options: Options,
        take: Callable[[int], object] = int,
        members: Members | Mapping[str, Member] = NONE,
    ) -> None:
        """Args:
        take: Is told how many bytes it takes, before it does.
        members: Of archives, by the path of the file that each stands for.
        """
        self._raw, self._options, self._take, self._members = raw, options, take, members
        self._unchanged: set[str] = set()  # paths, of what is read where it lies

    def __call__(self, file: Inspected) -> bytes:
        """Raises:
        Rejected: The file has changed.
        OSError: It can't be read.
        """
        path = os.path.join(self._raw, file.path)
        reading(path)
        member = self._members.get(file.path)
        content = _loaded.unchanged(path, file.digest, member)
        if content is None:
            return _loaded.load(path, file, member, self._options.max_file_bytes, self._take)
        self._take(len(content))
        return content

    def place(self, file: Inspected) -> str | None:
        """The path of a file that is read where it lies, None of a member of an archive; raises likewise.

        Whether it has changed is asked once: a store may be a folder of many files, and a hundred thousand cases.
        """
        if self._members.get(file.path) is not None:
            return None
        path = os.path.join(self._raw, file.path)
        reading(path)
        if path not in self._unchanged:
            _places.check(path, file)
            self._unchanged.add(path)
        return path


class _Loaded:
    """The file that was loaded last: the frames of one file are many cases, or runs of slices, one after the other."""

    def __init__(self) -> None:
        self._key: tuple[str, bytes, tuple[int, ...]] | None = None  # path, digest, stamp
        self._content = b""

    def unchanged(self, path: str, digest: bytes, member: Member | None) -> bytes | None:
        """The content, if it is that of this file, and the file is as it was when it was loaded."""
        if self._key is None or self._key[:2] != (path, digest) or self._key[2] != stamp_now(path, member):
            return None
        return self._content

    def load(
        self, path: str, file: Inspected, member: Member | None, most: int, take: Callable[[int], object]
    ) -> bytes:
        self._key, self._content = None, b""  # not both in memory at once
        content, stamp = read_stamped(path, member, most, take)
        if xxhash.xxh3_128_digest(content) != file.digest:
            raise Rejected("changed", f"{file.path} changed while it was read")
        self._key, self._content = (path, file.digest, stamp), content
        return content


_loaded = _Loaded()
_places = in_place.Places()


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
        check_handles(error)
        reason = "too_large" if error.errno == errno.EFBIG else "io_error"
        return reason, error.strerror or type(error).__name__
    check_is_of_the_files(error)
    return "unreadable", where_raised(error)  # a file may be damaged in any way
