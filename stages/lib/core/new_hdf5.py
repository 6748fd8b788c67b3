"""New HDF5 files, which on a full disk end with one error: HDF5 itself then ends the process (HDF5 2.0, h5py 3.16).

HDF5 keeps what it has not yet written, and writes it when the file is closed, at the end of the process if need be. It
cannot give a file up: where that fails, as on a full disk, every object of the file fails once more when Python frees
it, and HDF5 crashes at exit. So a file that cannot be completed is closed upon /dev/null.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

UNBUFFERED = "unbuffered"
# Else an array's last bytes are written when Python frees it, where an error is reported and forgotten.
h5py.register_driver(UNBUFFERED, lambda access: access.set_sieve_buf_size(0))


@contextmanager
def creating(path: Path) -> Iterator[h5py.File]:
    """Yields a new file, which is whole when the block has ended well; else it is given up.

    Raises:
        OSError: With number and path, where the system refused to write.
    """
    try:
        file = h5py.File(path, "w", driver=UNBUFFERED, libver="v110")
    except OSError as error:
        raise _named(error, path) from None
    descriptor = file.id.get_vfd_handle()
    try:
        yield file
        file.flush()  # all that closing writes: afterwards it can fail no more
    except BaseException as error:
        _give_up(file, descriptor)  # first of all, while the error still holds the objects of the file
        raise _named(error, path) from None
    file.close()


def _give_up(file: h5py.File, descriptor: int) -> None:
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), descriptor)
    with suppress(Exception):  # it cannot give /dev/null a size
        file.close()


def _named(error: BaseException, path: Path) -> BaseException:
    """The operating system's error, of which HDF5's has the number in its text; any other as it is."""
    found = re.search(r"errno = (\d+)", str(error)) if isinstance(error, OSError | RuntimeError) else None
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path)) if found else error
