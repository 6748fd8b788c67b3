import subprocess
import sys

import pytest

from stages.lib.workers import Workers
from tools import fuzz_outs
from tools.fuzz_outs import Attempt
from tools.mutations import Watch, fuzz, measured


@pytest.mark.slow
def test_stages_say_what_is_wrong_with_damaged_outs_and_do_nothing_else(tmp_path):
    """100 files of three stages; the command tries 5,000 of all."""
    with Workers(2) as crew:
        results = fuzz(Attempt(tmp_path, ["split", "statistics", "dataset"]), 100, 1, crew)
    assert len(results) == 100
    assert [result.outcome for result in results.values() if result.wrong] == []
    assert sum(": refused" in result.outcome for result in results.values()) > 60


@pytest.mark.slow
def test_a_stage_that_ends_in_a_traceback_counts_as_wrong(tmp_path, monkeypatch):
    def fail(stage, folder):
        raise KeyError("not a message")

    attempt = Attempt(tmp_path, ["split"])
    attempt.prepared()
    monkeypatch.setattr(fuzz_outs, "run", fail)
    assert attempt(0, 0).wrong


def test_a_watch_hears_code_that_it_has_not_learnt():
    def usual() -> None:
        eval("1 + 1")

    def another() -> None:
        eval("1 + 1")

    watch = Watch()
    watch.learn(usual)
    assert watch.strange(usual) == []
    assert any("another" in heard for heard in watch.strange(another))
    ran = watch.strange(lambda: subprocess.run([sys.executable, "-c", ""]))
    assert f"subprocess.Popen {sys.executable}" in ran


def test_what_ends_without_a_message_or_takes_long_counts_as_wrong():
    assert not measured(lambda: "refused", 10).wrong
    assert measured(lambda: "TRACEBACK ValueError", 10).wrong
    assert measured(lambda: str(sum(range(10**6))), 0.001).outcome.startswith("TOO_SLOW")
