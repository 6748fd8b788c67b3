"""Two or more works take turns for some rounds, so that a busy moment of the machine slows all of them.

Each is run once before that, so that all are warm, and their results are compared.
"""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import Any, NamedTuple

from stages.lib.core.errors import UserError

Clock = Callable[[], float]
WARM_CALLS = 3  # TorchScript optimises in its second call


class Work(NamedTuple):
    """One side of a comparison."""

    name: str
    run: Callable[[], Any] | None  # None where its package is not installed
    why: str = ""  # of a peer: why it may need less than ours
    prepare: Callable[[], object] = bool  # before each turn, outside the measured time
    repeats: int = 1  # calls of a turn, whose mean counts


class Comparison(NamedTuple):
    """What our side and a peer took in each round; less is better, whatever the unit."""

    group: str
    work: str
    ours: list[float]
    peer: str
    theirs: list[float]  # empty where the peer is not installed
    unit: str = "s"
    amount: int = 1  # how many things one turn processes
    things: str = ""  # their name in the plural, where a rate says something
    why: str = ""  # why the peer may need less than ours
    note: str = ""
    absent: str = ""  # why there is nothing of the peer, if it is not that it isn't installed

    @property
    def ratio(self) -> float | None:
        """How many times as much the peer takes, by medians: above 1 ours is ahead; None without a peer."""
        return median(self.theirs) / median(self.ours) if self.theirs and median(self.ours) > 0 else None


def processor() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


CLOCK: dict[str, Clock] = {"s": time.perf_counter}
CLOCKS: dict[str, Clock] = CLOCK | {"s of processor": processor}
"""By unit. The time of the processor depends less on how busy the machine is."""


def installed(package: str, run: Callable[[], Any]) -> Callable[[], Any] | None:
    """`run`, if the package that it imports is installed."""
    return run if find_spec(package) else None


def race(
    group: str,
    work: str,
    ours: Work,
    peers: Sequence[Work],
    rounds: int,
    *,
    agree: Callable[[Any, Any], bool] | None = None,
    clocks: Mapping[str, Clock] = CLOCK,
    amount: int = 1,
    things: str = "",
    note: str = "",
) -> list[Comparison]:
    """Compares our side with each peer, in turns.

    Args:
        work: What is done, for the table.
        agree: Whether a peer's result (the second) is ours; None where there is nothing to compare.
        clocks: What is measured, by unit: a comparison each.
        amount, things: What one turn processes, such as 1000 "pictures".

    Returns:
        A row per unit and peer, of those that are not installed too.

    Raises:
        UserError: A peer gives another result.
    """
    running = [ours, *(peer for peer in peers if peer.run)]
    check_agreement(running, agree)
    taken = in_turn(running, rounds, clocks)
    row = partial(Comparison, group, work, amount=amount, things=things, note=note)
    return [
        row(taken[ours.name][unit], peer.name, taken.get(peer.name, {}).get(unit, []), unit, why=peer.why)
        for unit in clocks
        for peer in peers
    ]


def check_agreement(works: Sequence[Work], agree: Callable[[Any, Any], bool] | None) -> None:
    """Runs each once.

    Raises:
        UserError: One gives another result than the first.
    """
    first: Any = None
    for i, work in enumerate(works):
        work.prepare()
        result = _runs(work)()
        if i == 0:
            first = result
        elif agree is not None and not agree(first, result):
            raise UserError(f"{work.name} gives another result than {works[0].name}: they do not do the same work")


def in_turn(works: Sequence[Work], rounds: int, clocks: Mapping[str, Clock]) -> dict[str, dict[str, list[float]]]:
    """What each work took in each round, by its name and by unit."""
    taken: dict[str, dict[str, list[float]]] = {work.name: {unit: [] for unit in clocks} for work in works}
    for _ in range(rounds):
        for work in works:
            work.prepare()
            for unit, value in _measured(work, clocks).items():
                taken[work.name][unit].append(value)
    return taken


def _measured(work: Work, clocks: Mapping[str, Clock]) -> dict[str, float]:
    run = _runs(work)
    before = {unit: clock() for unit, clock in clocks.items()}
    for _ in range(work.repeats):
        run()
    return {unit: (clock() - before[unit]) / work.repeats for unit, clock in clocks.items()}


def _runs(work: Work) -> Callable[[], Any]:
    assert work.run is not None, f"{work.name} is not installed"
    return work.run


def for_a_turn(work: Work, seconds: float) -> Work:
    """The work with as many calls as fill a turn, one at least, by what one call takes once it is warm."""
    run = _runs(work)
    for _ in range(WARM_CALLS):
        run()
    began = time.perf_counter()
    run()
    return work._replace(repeats=max(1, int(seconds / max(time.perf_counter() - began, 1e-6))))
