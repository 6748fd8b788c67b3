import numpy as np
import pytest

from stages.lib.workers import Workers
from tools.fuzz_ingest import microscopy, originals, read, try_file
from tools.mutations import fuzz


def test_the_files_to_be_mutated_are_sound():
    assert {read(content) for content in originals()} == {"read"}
    told = [read(content, frames="stack") for content in microscopy(np.zeros((40, 50), np.uint16))]
    assert told == ["single_slice"] * 7 + ["read"] * 7


@pytest.mark.slow
def test_mutated_files_crash_nothing_and_take_neither_long_nor_much_memory():
    """300 files; the command tries 10,000."""
    with Workers(2) as crew:
        results = fuzz(try_file, 300, 1, crew)
    assert len(results) == 300
    assert not [number for number, result in results.items() if result.wrong]
    assert sum(result.outcome != "read" for result in results.values()) > 100
