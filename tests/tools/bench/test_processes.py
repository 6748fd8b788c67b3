import os

import pytest

from stages.lib.core.errors import UserError
from tools.bench.processes import disk_bytes, in_parts


def part_of(argument: str, part: int, parts: int) -> tuple[str, int, int, int]:
    return argument, part, parts, os.getpid()


def fail(argument: str, part: int, parts: int) -> None:
    os._exit(1)


def test_each_part_is_done_by_a_process_that_stays():
    with in_parts(2) as call:
        first, again = call(part_of, "a"), call(part_of, "a")
    assert [one[:3] for one in first] == [("a", 0, 2), ("a", 1, 2)]
    assert first == again and len({one[3] for one in first} | {os.getpid()}) == 3


def test_a_process_that_fails_is_said():
    with in_parts(1) as call, pytest.raises(UserError, match="a process of a peer failed"):
        call(fail, "a")


def test_a_file_with_two_names_counts_once(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    os.link(tmp_path / "a", tmp_path / "b")
    assert disk_bytes(tmp_path) == 5 and disk_bytes(tmp_path / "none") == 0
