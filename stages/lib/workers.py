"""Work in several processes behind concurrent.futures' Executor, so that a cluster's executor can take their place."""

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import wait as wait_for_end
from types import TracebackType
from typing import Any, TypeVar

from stages.lib.core import signals
from stages.lib.core.errors import UserError
from stages.lib.core.opening import check_handles
from stages.lib.core.progress import say
from stages.lib.core.terminal import escape_output

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")
MAX_JOB_SECONDS = 600.0  # of processor time, which neither a busy machine nor a slow disk stretches
QUIET_SECONDS = 300.0  # without a result, after which people are told
STDERR = 2  # the number by which the system knows it
JOBS_PER_WORKER = 4  # submitted at once, running and waiting: bounds memory


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Lets Python collect garbage a hundred times less often: with a tuple per file, each collection visits all.

    It is not switched off, as decoders leave reference cycles behind, and one process may see millions of files.
    """
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Serial(Executor):
    """Runs each job in this process, when it is submitted."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def count(workers: int) -> int:
    """`workers`; for 0, the number of cores that this process may use."""
    return workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _pool(workers: int) -> ProcessPoolExecutor:
    # A fork takes 10 ms and a spawned process 0.5 s, but with other threads about (torch's) a fork may hang.
    quick = sys.platform == "linux" and "torch" not in sys.modules and threading.active_count() == 1
    context = multiprocessing.get_context("fork" if quick else "spawn")
    return _Pool(workers, context, _start)


class _Pool(ProcessPoolExecutor):
    """Processes that end when a job takes them MAX_JOB_SECONDS: a decoder that never comes back counts as a crash."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return super().submit(_limited, MAX_JOB_SECONDS, function, *args, **kwargs)


def _limited(seconds: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not hasattr(signal, "ITIMER_PROF"):
        return function(*args, **kwargs)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is at
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function(*args, **kwargs)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _start() -> None:
    """What a worker begins with: its output is escaped, Ctrl-C is for the parent, and it ends when that is killed."""
    escape_output()
    signals.leave_to_parent()
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait_for_end([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Workers:
    """A number of worker processes, started when there is work and kept until the end.

    with Workers(4) as workers:
        for job, result in workers.run(function, jobs, split, on_crash):
            ...
    """

    def __init__(self, number: int, executor: Callable[[int], Executor] | None = None) -> None:
        """Args: number: Of processes; 1 works in this process. executor: Makes another one, such as a cluster's."""
        self.number = number
        self._make = executor or (lambda n: Serial() if n == 1 else _pool(n))
        self._executor: Executor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and not issubclass(kind, Exception):  # a signal: what a worker is at may take for ever
            for worker in multiprocessing.active_children():
                worker.kill()
        self._stop()

    def _stop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._executor = None

    def _submit(self, function: Callable[[Job], Result], job: Job) -> "Future[Result]":
        """Raises:
        UserError: The system starts no more processes for this user.
        """
        before = set(multiprocessing.active_children())
        try:
            if self._executor is None:
                self._executor = self._make(self.number)
            return self._executor.submit(function, job)
        except OSError as error:
            # Those that were started wait for a first job that never comes, and at its end this process for them.
            for started in set(multiprocessing.active_children()) - before:
                started.kill()
            check_handles(error)
            raise UserError(
                f"{self.number} worker processes can't be started ({error.strerror}): take fewer (machine.workers)"
            ) from None

    def run(
        self,
        function: Callable[[Job], Result],
        jobs: Iterable[Job],
        split: Callable[[Job], Iterable[Job]],
        on_crash: Callable[[Job], Result],
    ) -> Iterator[tuple[Job, Result]]:
        """Applies `function` to every job, and yields jobs with their results as they are done, in any order.

        When a worker crashes (a decoder's fault, or killed for its memory), the jobs that were lost with it are done
        again, each in a process of its own. One that crashes there, too, is split, and its parts are yielded in its
        place; a part that crashes gets `on_crash`'s result.

        Args:
            function: Of a module's top level, so that it can be sent to another process.
        """
        remaining = iter(jobs)
        while True:
            lost: list[Job] = []
            yield from self._run_until_crash(function, remaining, lost)
            if not lost:
                return
            self._stop()
            _check_start()
            for job in lost:
                yield from _alone(function, job, split, on_crash)

    def _run_until_crash(
        self, function: Callable[[Job], Result], remaining: Iterator[Job], lost: list[Job]
    ) -> Iterator[tuple[Job, Result]]:
        """Adds to `lost` the jobs that a crash ended, and then submits no more."""
        waiting: dict[Future[Result], Job] = {}
        while True:
            while (
                not lost and len(waiting) < JOBS_PER_WORKER * self.number and (job := next(remaining, None)) is not None
            ):
                try:
                    waiting[self._submit(function, job)] = job
                except BrokenProcessPool:
                    lost.append(job)
            if not waiting:
                return
            for future in _first_done(waiting, self.number):
                job = waiting.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    lost.append(job)
                    continue
                yield job, result


def _first_done(waiting: Iterable["Future[Any]"], workers: int) -> "set[Future[Any]]":
    """The jobs that are done, of which there is one at least; while there is none, it says so now and then."""
    while not (done := wait(waiting, QUIET_SECONDS, FIRST_COMPLETED).done):
        say(
            f"waiting: none of {workers} worker processes has finished a job for {QUIET_SECONDS:.0f} s; one may be "
            "stopped, or the disk may not answer",
            sys.stderr,
        )
    return done


def _check_start() -> None:
    """Checks after a crash that workers can start at all.

    Raises:
        UserError: None can, so every job would seem to crash.
    """
    for _ in range(2):  # one may have been killed for memory
        try:
            with _pool(1) as pool:
                pool.submit(os.getpid).result()
            return
        except BrokenProcessPool:
            pass
    raise UserError(
        "no worker process can start (what it said is above): in a script of your own call the stage under "
        "`if __name__ == '__main__':`, or let it work in one process (machine.workers: 1)"
    )


def _alone(
    function: Callable[[Job], Result],
    job: Job,
    split: Callable[[Job], Iterable[Job]],
    on_crash: Callable[[Job], Result],
) -> Iterator[tuple[Job, Result]]:
    try:
        with _pool(1) as pool:  # most often the crash was another job's
            done = pool.submit(function, job).result()
    except BrokenProcessPool:
        for part in split(job):
            try:
                with _pool(1) as pool:
                    result = pool.submit(function, part).result()
            except BrokenProcessPool:
                result = on_crash(part)
            yield part, result
    else:
        yield job, done


def singles(items: Sequence[Item]) -> list[list[Item]]:
    """Splits a job that is a list into one job per item."""
    return [[item] for item in items]


def quietly(function: Callable[[], Result]) -> Result:
    """Runs without warnings and log lines: libraries put a file's values into them, which may name a patient."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _unheard():
            warnings.simplefilter("ignore")
            return function()
    finally:
        logging.disable(before)


@contextmanager
def _unheard() -> Iterator[None]:
    """Drops what libraries in C write to the standard error; all that is written in its place is a Python error."""
    with ExitStack() as restored:
        with suppress(OSError):  # it is closed, or the process may open no more files: then it stays as it is
            kept = os.dup(STDERR)
            restored.callback(os.close, kept)
            nothing = os.open(os.devnull, os.O_WRONLY)
            restored.callback(os.close, nothing)
            os.dup2(nothing, STDERR)
            restored.callback(os.dup2, kept, STDERR)
        yield
