"""The pages of a TIFF, found in one go; Pillow walks from the first page to the one that it is asked for."""

import io
import struct
from functools import lru_cache

from stages.lib.ingest.readers.contract import Rejected

BIG = 43  # version of a TIFF whose offsets have 64 bits


@lru_cache(maxsize=1)
def pages(content: bytes) -> list[int]:
    """The byte at which each page's directory starts, up to the last one or to one that was there before.

    Raises:
        Rejected: One lies outside of the file.
    """
    end = "<" if content[:2] == b"II" else ">"
    if struct.unpack_from(end + "H", content, 2)[0] == BIG:
        first, count, tag, following = 8, end + "Q", 20, end + "Q"
    else:
        first, count, tag, following = 4, end + "H", 12, end + "I"
    found: dict[int, None] = {}  # a set that keeps its order
    try:
        (at,) = struct.unpack_from(following, content, first)
        while at and at not in found:
            found[at] = None
            (tags,) = struct.unpack_from(count, content, at)
            (at,) = struct.unpack_from(following, content, at + struct.calcsize(count) + tag * tags)
    except struct.error:
        raise Rejected("truncated", f"page {len(found)} of the TIFF lies outside of the file") from None
    return list(found)


class FromPage(io.BytesIO):
    """A TIFF that starts with another of its pages, without a copy of its bytes."""

    def __init__(self, content: bytes, page: int) -> None:
        super().__init__(content)
        big = content[2:4] in (b"+\0", b"\0+")
        self._at, code = (8, "Q") if big else (4, "I")
        self._first = struct.pack(("<" if content[:2] == b"II" else ">") + code, pages(content)[page])

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        content = super().read(size)
        if at > self._at or at + len(content) < self._at + len(self._first):
            return content
        before = self._at - at
        return content[:before] + self._first + content[before + len(self._first) :]
