"""Work in fresh processes: its peak memory is its own, and nothing is warm that a stage would not find warm."""

import io
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class Used(NamedTuple):
    seconds: float  # of the call alone: the process has started and imported what the function's module does
    mebibytes: float  # peak of the largest of its processes


def fresh(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function of a module's top level in a new process, as dvc starts a stage in one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def used(function: Callable[..., object], *arguments: Any) -> Used:
    """What a call takes in a new process."""
    return fresh(_used, function, arguments)


def _used(function: Callable[..., object], arguments: tuple[Any, ...]) -> Used:
    began = time.perf_counter()
    with quiet():
        function(*arguments)
    return Used(time.perf_counter() - began, peak_mebibytes())


def peak_mebibytes() -> float:
    """Peak memory so far of the largest of this process and its children that have ended."""
    children = _mebibytes(resource.RUSAGE_CHILDREN)
    status = Path("/proc/self/status")
    if not status.exists():
        return max(_mebibytes(resource.RUSAGE_SELF), children)
    # On Linux, after an exec, getrusage still gives the maximum of the process that called it.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return max(int(line.split()[1]) / 1024, children)


def _mebibytes(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what stages say, on stdout and stderr."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


@contextmanager
def in_parts(parts: int) -> Iterator[Callable[[Callable[..., Any], Any], list[Any]]]:
    """Yields what calls a function with (argument, part, parts) for each part, each in a process of its own.

    The processes have started, and stay until the end of the block.
    """
    with multiprocessing.get_context("spawn").Pool(parts) as pool:
        pool.map(os.getenv, ["PATH"] * parts)

        def call(function: Callable[..., Any], argument: Any) -> list[Any]:
            return pool.starmap(function, [(argument, part, parts) for part in range(parts)], chunksize=1)

        yield call


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, which need not exist; those with several names once."""
    states = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({(state.st_dev, state.st_ino): state.st_size for state in states}.values())
