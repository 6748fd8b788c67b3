"""What a worker does for dataset.h5: it brings a run of cases to samples and writes them where they belong."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.lib.core.errors import UserError
from stages.lib.core.writing import opened, write
from stages.lib.dataset.fitting import Fitting
from stages.lib.moments import Moments
from stages.lib.runs import Run

TRAIN = 0  # the first of splits.SPLITS


class Common(NamedTuple):
    """What all jobs have in common."""

    target: Path  # dataset.h5
    starts: tuple[int, ...]  # byte of the file at which each split's samples start
    arguments: dict[str, Any]  # Geometry's
    channels: int  # of a sample


class Job(NamedTuple):
    """n cases of one piece."""

    run: Run
    names: np.ndarray  # (n,) S16
    split: np.ndarray  # (n,) which of the splits each is in
    place: np.ndarray  # (n,) its position there; those of one split follow each other


def fill(common: Common, job: Job) -> list[Moments]:
    """Writes the samples of a run.

    Returns:
        What the training samples among them hold, one per channel.

    Raises:
        UserError: One has a number that the dtype can't hold, or the system refuses to write.
    """
    fitting = Fitting(common.arguments)
    shape = (common.channels, *fitting.shape)
    moments = [Moments(fitting.dtype.name) for _ in range(common.channels)]
    sample_bytes = int(np.prod(shape)) * fitting.dtype.itemsize
    with opened(common.target) as file:
        for chosen, x in job.run.stacks():
            samples = fitting(x, job.run.spacings_mm[chosen[0]])
            if not fitting.whole:
                _check_finite(samples, job.names[chosen], fitting.dtype)
            for split in np.unique(job.split[chosen]):
                of = job.split[chosen] == split
                theirs = samples if of.all() else samples[of]
                place = job.place[chosen][of]
                for at, together in _consecutive(place):
                    start = common.starts[split] + int(place[at]) * sample_bytes
                    write(file, np.ascontiguousarray(theirs[together]), start, common.target)
                if split == TRAIN:
                    for channel, count in enumerate(moments):
                        count.add(theirs[:, channel])
    for count in moments:
        count.count_waiting()
    return moments


def _consecutive(place: np.ndarray) -> list[tuple[int, slice]]:
    """Stretches of positions that follow each other: where each starts, and its slice."""
    edges = [0, *(np.flatnonzero(np.diff(place) != 1) + 1).tolist(), len(place)]
    return [(a, slice(a, b)) for a, b in zip(edges, edges[1:], strict=False)]


def _check_finite(samples: np.ndarray, names: np.ndarray, dtype: np.dtype) -> None:
    good = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if not good.all():
        name = names[int(good.argmin())].decode()
        raise UserError(f"case {name}: a pixel is nan, or too large for {dtype}: see dataset.dtype")
