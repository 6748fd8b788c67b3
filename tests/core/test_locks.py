"""Real processes hold the locks: fork is enough, as a kernel's lock belongs to who opened the file."""

import errno
import os
import re
import signal

import pytest
from filelock import FileLock

from stages.lib.core import locks
from stages.lib.core.errors import UserError


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(locks, "SECONDS", 0)


def held_by_a_child(file) -> int:
    """Starts a process that holds the lock until it is killed; its number."""
    ready, tell = os.pipe()
    if not (child := os.fork()):
        try:
            with locks.holding(file, "train of digits"):
                os.write(tell, b"!")
                signal.pause()
        finally:
            os._exit(1)
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    return child


def test_a_second_process_is_told_who_is_at_work_since_when_and_what_to_do(tmp_path):
    child = held_by_a_child(tmp_path / "lock")
    try:
        with pytest.raises(UserError) as told, locks.holding(tmp_path / "lock", "train of digits"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    expected = rf"train of digits is under way already \(process {child} on .+ since {since}; .*lock is locked\): wait"
    assert re.match(expected, str(told.value))


def test_what_a_killed_process_held_is_free(tmp_path):
    child = held_by_a_child(tmp_path / "lock")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "lock").exists()
    with locks.holding(tmp_path / "lock", "train of digits"):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()
    assert not list(tmp_path.iterdir())


def test_a_forked_worker_does_not_keep_the_lock_of_a_parent_that_is_gone(tmp_path):
    ready, tell = os.pipe()
    if not (child := os.fork()):
        with locks.holding(tmp_path / "lock", "ingest of digits"):
            if not os.fork():
                os.write(tell, str(os.getpid()).encode())
                signal.pause()
            os.read(ready, 0)
            signal.pause()
    worker = int(os.read(ready, 20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        with locks.holding(tmp_path / "lock", "ingest of digits"):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_on_a_file_system_without_locks_the_work_is_done_and_a_line_says_so(tmp_path, monkeypatch, capsys):
    def refuse(lock):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    with locks.holding(tmp_path / "lock", "train of digits"):
        pass
    assert "is on a file system without locks: never start train of digits twice at once" in capsys.readouterr().err
