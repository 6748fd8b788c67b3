import subprocess
import sys

import pytest

from stages.lib.workers import Workers
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


def test_a_watch_hears_code_that_it_has_not_learnt():
    watch = Watch()
    watch.learn(lambda: eval("1 + 1"))
    assert watch.strange(lambda: eval("2 + 2")) != []  # another caller
    assert watch.strange(lambda: None) == []
    (heard, *_) = watch.strange(lambda: subprocess.run([sys.executable, "-c", ""]))[-1:]
    assert heard.startswith("subprocess.Popen")


def test_what_takes_long_counts_as_wrong():
    assert measured(lambda: "read", -1).wrong
    assert not measured(lambda: "read", 10).wrong
    assert measured(lambda: "TRACEBACK ValueError", 10).wrong
