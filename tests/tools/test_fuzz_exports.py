import sys
from functools import partial

import pytest

from stages.lib.workers import Workers, quietly
from tools import fuzz_exports
from tools.mutations import fuzz


@pytest.mark.slow
def test_mutated_exports_run_no_code_and_give_a_message(tmp_path):
    """80 files; the command tries 5,000."""
    quietly(lambda: fuzz_exports.write_sound(tmp_path))
    with Workers(2) as crew:
        results = fuzz(partial(fuzz_exports.try_file, str(tmp_path)), 80, 1, crew)
    assert not {number: result for number, result in results.items() if result.wrong}
    assert sum("refused" in result.outcome for result in results.values()) > 40


def test_the_watch_tells_of_code_that_a_sound_file_does_not_run():
    watch = fuzz_exports._Watch()
    watch.learn(lambda: eval("1"))
    watch.begin()
    eval("1")
    assert watch.end() == []
    watch.begin()
    eval(fuzz_exports.CODE, {"sys": sys})
    assert any("mutated.code" in event for event in watch.end())
