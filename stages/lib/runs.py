"""The cases in runs: what lies together in a piece of cases/, 16 MiB at most or one case, is a job for one worker.

Where the runs are cut follows from the cases alone, not from the number of workers, so that sums of floats, which
depend on their order, do not depend on the machine.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np

from stages.lib.cases import Cases
from stages.lib.core.errors import UserError
from stages.lib.core.hdf5 import Place
from stages.lib.core.progress import progress
from stages.lib.core.reading import reading
from stages.lib.workers import Workers

Job = TypeVar("Job")
Result = TypeVar("Result")
RUN_BYTES = 1 << 24
WORKER_BYTES = 16 << 20  # of pixels that make up for the start of a process
STACK_BYTES = 1 << 21  # of cases of one shape that are brought together: they stay in the processor's cache


class Run(NamedTuple):
    """n cases in the order of their identifiers."""

    number: int  # of the run, from 0
    path: Path  # of the piece
    place: Place  # of its pixels of one dtype
    rows: np.ndarray  # (n,) positions among all cases
    starts: np.ndarray  # (n,) first element of each
    shapes: np.ndarray  # (n, A)
    spacings_mm: np.ndarray  # (n, A - 1)

    def stacks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cases of one shape and spacing together, each stack no larger than STACK_BYTES, or one case.

        Yields:
            (k,) which of the n, and their pixels, (k, C, H, W) or (k, C, D, H, W), read-only.

        Raises:
            DamagedOut: The piece can't be read.
        """
        with reading(self.path):
            flat = self.place.mapped(self.path)
        alike = np.concatenate([self.shapes.view(np.uint64), self.spacings_mm.view(np.uint64)], axis=1)  # nan, too
        for which in _groups(alike):
            shape = tuple(self.shapes[which[0]].tolist())
            size = int(np.prod(shape))
            step = max(1, STACK_BYTES // (size * flat.itemsize))
            for at in range(0, len(which), step):
                chosen = which[at : at + step]
                yield chosen, _together(flat, self.starts[chosen], size).reshape(len(chosen), *shape)


def _groups(alike: np.ndarray) -> list[np.ndarray]:
    """The positions of equal rows."""
    if (alike == alike[0]).all():  # most often; to sort them would take longer than all the rest
        return [np.arange(len(alike))]
    kinds, of = np.unique(alike, axis=0, return_inverse=True)
    return [np.flatnonzero(of.reshape(-1) == kind) for kind in range(len(kinds))]


def _together(flat: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """(k, size): without a copy where the cases follow each other, else in one gather where they are on one grid."""
    first = int(starts[0])
    places, rest = np.divmod(starts - first, size)
    if len(starts) == 1 or not rest.any():
        table = flat[first : int(starts[-1]) + size].reshape(-1, size)
        return table if len(table) == len(starts) else table[places]
    return np.stack([flat[start : start + size] for start in starts.tolist()])


def cut(cases: Cases, rows: np.ndarray, sample_bytes: int = 0) -> Iterator[Run]:
    """The runs of some cases.

    Args:
        rows: (n,) their positions, ascending.
        sample_bytes: What each becomes; a run is no larger than RUN_BYTES in this way, either.
    """
    number = 0
    for of_piece in np.split(rows, np.flatnonzero(np.diff(cases.piece_of[rows])) + 1):
        dtypes = cases.dtype_of[of_piece]
        for theirs in np.split(of_piece, np.flatnonzero(dtypes[1:] != dtypes[:-1]) + 1):
            if not len(theirs):
                continue
            path, place = cases.place(int(theirs[0]))
            sizes = np.maximum(cases.shapes[theirs].prod(axis=1) * place.dtype.itemsize, sample_bytes)
            filled = (sizes.cumsum() - 1) // RUN_BYTES
            for run in np.split(theirs, np.flatnonzero(np.diff(filled)) + 1):
                yield Run(number, path, place, run, cases.offsets[run], cases.shapes[run], cases.spacings_mm[run])
                number += 1


def bring(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    doing: str,
    run_of: Callable[[Job], Run],
    cases: int,
) -> Iterator[Result]:
    """What a function makes of jobs, in the order of their runs, by so many workers.

    Args:
        doing: The work, for the progress.
        run_of: The run that a job is about.
        cases: Of all runs.
    """
    with Workers(workers) as crew:
        done = crew.run(function, jobs, alone, crashed)
        shown = progress(done, doing, "case", cases, lambda one: len(run_of(one[0]).rows))
        yield from in_order((run_of(job).number, result) for job, result in shown)


def in_order(done: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """What came of the runs, in their order: results by the runs' numbers, in any order."""
    early: dict[int, Result] = {}
    following = 0
    for number, result in done:
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


def useful_workers(cases: Cases, rows: np.ndarray, wanted: int, sample_bytes: int = 0) -> int:
    """No more workers than have WORKER_BYTES to bring each: to start one takes longer than little work.

    Args:
        wanted: How many there may be.
        rows, sample_bytes: As of `cut`.
    """
    numbers = int(cases.shapes.prod(axis=1)[rows].sum())
    most = max(2 * numbers, sample_bytes * len(rows))  # of 16 bits
    return max(1, min(wanted, most // WORKER_BYTES))


def alone(job: Job) -> list[Job]:
    """What to try again when a worker has come to its end over a job: the job."""
    return [job]


def crashed(job: object) -> NoReturn:
    """Raises:
    UserError: A worker has come to its end twice over a job, most often because the system had no memory left.
    """
    raise UserError(
        "a worker process was ended, most likely for its memory: take fewer (machine.workers), or a machine with more"
    )
