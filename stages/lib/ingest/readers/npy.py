"""NumPy's .npy and .npz files: pictures and volumes as arrays, of which `arrays` says what they are as cases.

Of an .npz, a ZIP of .npy files, the only array is the case, or those that labels.csv names: file.npz::name. Nothing is
ever unpickled.
"""

import ast
import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from stages.lib.ingest.readers import arrays
from stages.lib.ingest.readers.arrays import Array, Recipe, parts
from stages.lib.ingest.readers.contract import Assembly, Inspected, Options, Refusal, Rejected
from stages.lib.ingest.readers.sniff import NPY, NPY_ENDING, is_left_behind

__all__ = ["ALONE", "assemble", "inspect", "parts", "read", "unpacked_bytes"]

ALONE = True
MOST_ARRAYS = 10_000  # of an .npz
MAX_HEADER = 10_000  # bytes, as NumPy's own limit
ENCRYPTED = 1  # a flag of a ZIP's member
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, OSError)
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
UTF8 = (3, 0)  # the version whose header NumPy has no public reader of: written where names of fields are not ASCII
ONE = -1  # the place of the array in a file that is one


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's arrays, each as an `Array`; nothing of the file's own.

    An array's place is the number of its member, the byte at which its numbers begin, and whether the first axis runs
    fastest (Fortran's order).
    """
    if content.startswith(NPY):
        array = _array(arrays.identified("", options), ONE, io.BytesIO(content), options)
        if not array.reason and len(content) < _end(array):
            raise Rejected("truncated", f"{len(content)} bytes, expected {_end(array)}")
        if not array.reason and content.startswith(NPY, _end(array)):
            raise Rejected("several_arrays", "arrays one behind another: save each in a file of its own, or as an .npz")
        if not array.reason and len(content) > _end(array):
            raise Rejected("corrupt", f"{len(content)} bytes, expected {_end(array)}: save it again as one array")
        return (tuple(array),), ()
    found = []
    with _archive(content) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_ARRAYS:
            raise Rejected("too_large", f"{len(entries)} arrays, expected {MOST_ARRAYS} at most")
        if any(not entry.filename.endswith(NPY_ENDING) and not is_left_behind(entry.filename) for entry in entries):
            raise Rejected("unsupported_format", "a ZIP of arrays and other files: unpack it")
        for number, entry in enumerate(entries):
            if is_left_behind(entry.filename):
                continue
            name = arrays.identified(entry.filename.removesuffix(NPY_ENDING), options)
            if entry.flag_bits & ENCRYPTED or entry.compress_type not in METHODS:
                found.append(Array(name, reason="corrupt", detail="it is encrypted, or packed otherwise than by NumPy"))
                continue
            try:
                with archive.open(entry) as member:
                    found.append(_array(name, number, member, options))
            except BROKEN:
                found.append(Array(name, reason="corrupt", detail="the array can't be unpacked"))
    if len({array.name for array in found}) < len(found):
        raise Rejected("malformed", "an .npz with two arrays of one name")
    return tuple(map(tuple, found)), ()


def _archive(content: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except BROKEN:
        raise Rejected("corrupt", "an .npz whose table of contents is damaged or cut") from None


def _array(name: str, number: int, file: IO[bytes], options: Options) -> Array:
    """Reads the header of an .npy file."""
    try:
        version = np.lib.format.read_magic(file)
        if version == UTF8:
            shape, fortran, dtype = _header_3(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of files that Python 2 wrote
                shape, fortran, dtype = HEADERS[version](file, max_header_size=MAX_HEADER)
        sides = tuple(int(side) for side in shape)
        if any(side < 0 for side in sides):
            raise ValueError("a negative length")
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception:  # the header is a literal of Python, in which anything may go wrong
        return Array(name, reason="malformed", detail="the header is none of NumPy's, or cut")
    try:
        arrays.dtype_of(dtype)
    except Rejected as error:
        return Array(name, reason=error.reason, detail=error.detail)
    return Array(name, dtype.str, sides, (number, file.tell(), bool(fortran)))


def _header_3(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether Fortran's order, and dtype, of a header that is one of version 2 but for its UTF-8.

    Raises:
        Exception: It is none.
    """
    length = int.from_bytes(size := file.read(4), "little")
    if len(size) < 4 or length > MAX_HEADER or len(text := file.read(length)) < length:
        raise ValueError("a header that is cut or too long")
    about = ast.literal_eval(text.decode())
    shape, fortran = about["shape"], about["fortran_order"]
    if type(shape) is not tuple or any(type(side) is not int for side in shape) or type(fortran) is not bool:
        raise ValueError("no shape or order")
    return shape, fortran, np.lib.format.descr_to_dtype(about["descr"])


def _end(array: Array) -> int:
    """Bytes up to the last number."""
    return int(array.place[1]) + math.prod(array.shape) * np.dtype(array.stored).itemsize


def assemble(files: list[Inspected], unread: list[Refusal], options: Options) -> Assembly:
    """A case per file of one array."""
    return arrays.whole(files, options)


def read(
    files: Sequence[Inspected],
    recipe: tuple[Any, ...],
    start: int,
    stop: int,
    load: Callable[[Inspected], bytes],
    options: Options,
) -> Iterator[np.ndarray]:
    """Slices start..stop, each (H, W), or the picture (C, H, W)."""
    (file,), given = files, Recipe(*recipe)
    array = Array(*given.array)
    number, offset, fortran = array.place
    content = load(file)  # always: it notices when the file has changed
    if number != ONE:
        content = _unpacked.of(file, content, array)
    values = np.frombuffer(content, array.stored, math.prod(array.shape), offset)
    values = values.reshape(array.shape, order="F" if fortran else "C")
    yield from arrays.blocks(given, lambda key: values[key], start, stop)


def unpacked_bytes(recipe: tuple[Any, ...]) -> int:
    """What a case's array takes in memory where it is packed."""
    array = Array(*Recipe(*recipe).array)
    return 0 if array.place[0] == ONE else _end(array)


class _Unpacked:
    """The array that was unpacked last: its slices, or its pictures, are asked for one after the other."""

    def __init__(self) -> None:
        self._key: tuple[bytes, int] | None = None
        self._content = b""

    def of(self, file: Inspected, content: bytes, array: Array) -> bytes:
        """The .npy file in an .npz.

        Raises:
            Rejected: It is damaged, or holds less or more than its header says.
        """
        key = file.digest, array.place[0]
        if key != self._key:
            self._key, self._content = None, b""  # not both in memory at once
            size = _end(array)
            try:
                with _archive(content) as archive, archive.open(archive.infolist()[array.place[0]]) as member:
                    unpacked = member.read(size)
                    more = member.read(1)  # at its end the checksum is compared
            except BROKEN:
                raise Rejected("corrupt", "the array can't be unpacked, or its checksum is wrong") from None
            if len(unpacked) < size:
                raise Rejected("truncated", f"{len(unpacked)} bytes once unpacked, expected {size}")
            if more:
                raise Rejected("corrupt", "it holds more than its header says, once unpacked")
            self._key, self._content = key, unpacked
        return self._content


_unpacked = _Unpacked()
