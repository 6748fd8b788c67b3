from collections.abc import Callable

import pytest

from stages.lib.core.errors import UserError
from tools.bench.timing import Comparison, Work, installed, race


class Fake:
    """A clock that works move; it remembers who worked."""

    def __init__(self) -> None:
        self.now, self.turns = 0.0, ""

    def work(self, name: str, seconds: Callable[[int], float], result: object = None, repeats: int = 1) -> Work:
        """Takes, in its n-th call from 0, so many seconds; call 0 is the one before the rounds."""

        def run() -> object:
            self.now += seconds(self.turns.count(name))
            self.turns += name
            return result

        return Work(name, run, repeats=repeats)

    def clocks(self) -> dict[str, Callable[[], float]]:
        return {"s": lambda: self.now}


def test_works_take_turns_after_each_has_run_once_and_medians_are_compared():
    fake = Fake()
    ours, theirs = fake.work("a", lambda n: [9, 1, 2, 30][n]), fake.work("b", lambda n: [9, 8, 6, 4][n])
    (compared,) = race("group", "work", ours, [theirs], 3, clocks=fake.clocks())
    assert fake.turns == "ab" * 4
    assert (compared.ours, compared.theirs, compared.ratio) == ([1, 2, 30], [8, 6, 4], 3)


def test_a_turn_of_several_calls_counts_by_their_mean_and_preparation_is_not_measured():
    fake = Fake()

    def prepare() -> None:
        fake.now += 1000

    ours = fake.work("a", lambda n: n, repeats=3)._replace(prepare=prepare)
    (compared,) = race("group", "work", ours, [fake.work("b", lambda n: 1)], 1, clocks=fake.clocks())
    assert compared.ours == [2]  # calls 1, 2 and 3


def test_every_unit_and_every_peer_has_a_row():
    fake = Fake()
    peers = [fake.work("b", lambda n: 1), fake.work("c", lambda n: 1)]
    clocks = fake.clocks() | {"s of processor": lambda: 2 * fake.now}
    compared = race("group", "work", fake.work("a", lambda n: 1), peers, 1, clocks=clocks)
    assert [(of.peer, of.unit) for of in compared] == [(p, u) for u in ("s", "s of processor") for p in "bc"]


def test_a_peer_that_is_not_installed_is_a_row_without_numbers():
    fake = Fake()
    peer = Work("b", installed("no_such_package", bool), "why")
    (compared,) = race("group", "work", fake.work("a", lambda n: 1), [peer], 2, clocks=fake.clocks())
    assert compared == Comparison("group", "work", [1, 1], "b", [], why="why") and compared.ratio is None


def test_a_peer_with_another_result_is_refused_before_anything_is_measured():
    fake = Fake()
    ours, theirs = fake.work("a", lambda n: 1, result=1), fake.work("b", lambda n: 1, result=2)
    with pytest.raises(UserError, match="b gives another result than a"):
        race("group", "work", ours, [theirs], 3, agree=int.__eq__, clocks=fake.clocks())
    assert fake.turns == "ab"
