"""Content that a file holds packed: by gzip, zlib or bzip2, in one member or several, as one follows another."""

import bz2
import io
import zlib
from collections.abc import Iterator
from contextlib import suppress

from stages.lib.ingest.readers.contract import Rejected

WINDOWS = {"gzip": 31, "zlib": 15}  # zlib's words for what stands before and behind the packed bytes
KINDS = (*WINDOWS, "bzip2")
FED_BYTES = 1 << 16  # at a time: what a member leaves of them is copied
CHUNK_BYTES = 1 << 24
MOST_BEHIND = 1 << 26  # or as much as was asked for: bytes that are unpacked for the checksum behind them
MOST_EMPTY = 64  # members without a byte, one after the other


def is_gzip(content: bytes) -> bool:
    return content[:2] == b"\x1f\x8b"


def first(content: bytes, size: int) -> bytes:
    """The first bytes of what gzip has packed; fewer where there are no more, or the rest is damaged."""
    found = bytearray()
    with suppress(Rejected):
        for chunk in chunks(content, "gzip", size):
            found += chunk
            if len(found) >= size:
                break
    return bytes(found)


def unpack(content: bytes, kind: str, size: int, start: int = 0) -> bytes:
    """The first bytes of what is packed, from byte `start` of a file on.

    libdeflate takes half of zlib's time, for one member that holds no more than that; zlib explains all else.

    Raises:
        Rejected: There are fewer, or they are damaged.
    """
    import imagecodecs  # not at the top: files that are not packed need it not

    if kind in WINDOWS:
        decoded = imagecodecs.gzip_decode if kind == "gzip" else imagecodecs.deflate_decode
        with suppress(imagecodecs.DeflateError, ValueError):
            whole = bytes(decoded(content[start:], out=size))
            if len(whole) == size:
                return whole
    found = io.BytesIO()
    for chunk in chunks(content, kind, size, start):
        found.write(chunk)
    return found.getvalue()


def chunks(content: bytes, kind: str, size: int, start: int = 0) -> Iterator[bytes]:
    """The first bytes of what is packed, in chunks of CHUNK_BYTES at most.

    The member in which they end is unpacked to its end, as its checksum is there. Members behind it are left alone.

    Raises:
        Rejected: There are fewer, or they are damaged; or it holds far more than was asked for.
    """
    given, behind, empty = 0, 0, 0
    whole = memoryview(content)
    while start < len(whole) and given < size:
        member = bz2.BZ2Decompressor() if kind == "bzip2" else _Deflated(WINDOWS[kind])
        member_bytes = 0
        while not member.eof:
            fed = bytes(whole[start : start + FED_BYTES])
            start += len(fed)
            while True:
                chunk = _unpacked(member, fed, min(CHUNK_BYTES, size - given or CHUNK_BYTES))
                fed = b""
                member_bytes += len(chunk)
                if given < size:
                    given += len(chunk)
                    yield chunk
                else:
                    behind += len(chunk)
                if behind > max(MOST_BEHIND, size):
                    raise Rejected("corrupt", f"it holds far more than the {size} bytes of its header, once unpacked")
                if not chunk:
                    break
            if start >= len(whole) and not member.eof:
                what = f"{given} bytes once unpacked, expected {size}" if given < size else "the checksum is cut off"
                raise Rejected("truncated", f"{what}: copy the file again")
        start -= len(member.unused_data)
        empty = 0 if member_bytes else empty + 1
        if empty > MOST_EMPTY:
            raise Rejected("corrupt", f"more than {MOST_EMPTY} packed members without a byte, one after the other")
    if given < size:
        raise Rejected("truncated", f"{given} bytes once unpacked, expected {size}: copy the file again")


def _unpacked(member: "bz2.BZ2Decompressor | _Deflated", fed: bytes, size: int) -> bytes:
    try:
        return b"" if member.eof else member.decompress(fed, size)
    except (zlib.error, OSError) as error:  # of the checksum, too
        raise Rejected("corrupt", f"packed pixels: {error}: copy the file again") from None


class _Deflated:
    """zlib's, which has to be given what it left of its input, as bz2's need not."""

    def __init__(self, window: int) -> None:
        self._member = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, size: int, /) -> bytes:
        return self._member.decompress(self._member.unconsumed_tail + data, size)
