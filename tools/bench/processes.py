"""Work in fresh processes: its peak memory is its own, and nothing is warm that a stage would not find warm."""

import io
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stages.lib.core.errors import UserError

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

    The processes stay until the end of the block. No Pool: with its threads about, stages spawn their workers instead
    of forking them, and would be slower than they are.

    Raises, when it is called:
        UserError: One of the processes failed.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(parts)]
    processes = [context.Process(target=_serve, args=(theirs,), daemon=True) for _, theirs in pipes]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()  # so that the end of the process ends what is read from it

    def call(function: Callable[..., Any], argument: Any) -> list[Any]:
        for part, (ours, _) in enumerate(pipes):
            ours.send((function, argument, part, parts))
        try:
            return [ours.recv() for ours, _ in pipes]
        except EOFError:
            raise UserError("a process of a peer failed; what it said is above") from None

    try:
        yield call
    finally:
        for process in processes:
            process.kill()


def _serve(connection: Connection) -> None:
    """Calls what it is sent, and sends the results back."""
    while True:
        function, *arguments = connection.recv()
        connection.send(function(*arguments))


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, which need not exist; those with several names once."""
    states = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({(state.st_dev, state.st_ino): state.st_size for state in states}.values())
