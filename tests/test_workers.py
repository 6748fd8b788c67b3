"""Work in several processes, and what happens when one of them dies."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stages.lib import workers
from stages.lib.workers import Workers, quietly, singles
from tests import HANG_SECONDS, ROOT


def doubled(job: list[int]) -> list[int]:
    return [2 * number for number in job]


def dying_at_seven(job: list[int]) -> list[int]:
    if 7 in job:
        os._exit(1)  # as after a segmentation fault in a decoder
    return doubled(job)


def results(crew: Workers, function, number: int = 40) -> dict[int, int]:
    jobs = [list(range(start, start + 4)) for start in range(0, number, 4)]
    done = crew.run(function, jobs, singles, lambda items: [-1])
    return {item: result for job, found in done for item, result in zip(job, found, strict=True)}


def test_every_item_has_its_result_whatever_the_number_of_workers():
    for number in (1, 2, 3):
        with Workers(number) as crew:
            assert results(crew, doubled) == {i: 2 * i for i in range(40)}


@pytest.mark.slow
def test_a_crash_costs_the_item_that_crashes_and_no_other():
    with Workers(2) as crew:
        assert results(crew, dying_at_seven) == {i: 2 * i if i != 7 else -1 for i in range(40)}
        assert results(crew, doubled) == {i: 2 * i for i in range(40)}


def test_another_executor_takes_the_local_ones_place():
    made = []

    def make(number: int) -> ThreadPoolExecutor:
        made.append(number)
        return ThreadPoolExecutor(number)

    with Workers(3, make) as crew:
        assert results(crew, doubled) == {i: 2 * i for i in range(40)}
    assert made == [3]


def test_workers_that_cannot_start_are_one_error_and_not_a_crash_of_every_file(tmp_path):
    script = tmp_path / "script.py"  # without the `__main__` guard that multiprocessing requires
    script.write_text(
        "import threading\n"
        "from stages.lib.workers import Workers, singles\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"  # a second thread forbids a fork
        "with Workers(2) as crew:\n"
        "    list(crew.run(len, [['a'], ['b']], singles, len))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert "__name__ == '__main__'" in done.stderr
    assert "no worker process can start" in done.stderr


def spinning_at_seven(job: list[int]) -> list[int]:
    while 7 in job:
        pass
    return doubled(job)


@pytest.mark.slow
def test_a_job_that_never_ends_costs_the_item_that_it_is_about_and_no_other(monkeypatch):
    monkeypatch.setattr(workers, "MAX_JOB_SECONDS", 0.2)
    with Workers(2) as crew:
        assert results(crew, spinning_at_seven) == {i: 2 * i if i != 7 else -1 for i in range(40)}


def too_slow(job: list[int]) -> list[int]:
    time.sleep(0.5)
    return doubled(job)


def test_a_silence_is_told(monkeypatch, capsys):
    monkeypatch.setattr(workers, "QUIET_SECONDS", 0.1)
    with Workers(2) as crew:
        assert len(results(crew, too_slow, number=4)) == 4
    assert "none of 2 worker processes has finished a job" in capsys.readouterr().err


def test_workers_that_there_are_no_handles_for_are_one_error_and_none_of_them_is_left_waiting():
    code = (
        "import multiprocessing, os, resource\n"
        "from stages.lib.core.errors import UserError\n"
        "from stages.lib.workers import Workers, singles\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) + 14, hard))\n"
        "try:\n"
        "    with Workers(8) as crew:\n"
        "        list(crew.run(len, [['a'], ['b']], singles, len))\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=HANG_SECONDS)
    assert "ulimit -n" in done.stdout
    assert done.stderr == ""


def test_what_a_library_in_c_says_of_a_file_is_dropped_and_nothing_after_it(capfd):
    def speak() -> int:
        os.write(2, b"a name in a tag\n")
        return 1

    assert quietly(speak) == 1
    with pytest.raises(ZeroDivisionError):
        quietly(lambda: 1 // 0)
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
