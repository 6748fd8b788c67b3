"""A limit on the size of files stands for a full disk: HDF5 meets the same error at the same calls."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from stages.lib.core import new_hdf5
from tests import ROOT

# Writes out.h5 under each limit, in a process of its own, which ends as a stage does.
FULL = """
import os, resource, sys
from pathlib import Path
from stages.lib import command
from stages.lib.core import outs
from tests.core.test_new_hdf5 import write

folder = Path(sys.argv[1])
for limit in map(int, sys.argv[2:]):
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        def work():
            with outs.replacing(folder / "out.h5") as partial:
                write(partial)

        status, message = command.outcome(work, "dataset of digits")
        print(limit, message, [path.name for path in folder.iterdir()], flush=True)
        sys.exit(status)
    _, status = os.waitpid(child, 0)
    print(limit, "exit", os.waitstatus_to_exitcode(status), flush=True)
"""


def write(path) -> None:
    with new_hdf5.creating(path) as file:
        for name in ("train", "test"):
            group = file.create_group(name)
            x = group.create_dataset("x", (30, 500), "uint8")
            for i in range(30):
                x[i] = np.full(500, i, np.uint8)
            group["y"] = np.arange(30)
            group["case"] = np.array(["a"] * 30, "S16")
        file["description"] = "words " * 50


@pytest.mark.slow
def test_a_full_disk_is_one_message_without_a_crash_at_exit_or_a_partial_file(tmp_path):
    write(tmp_path / "whole.h5")
    size = (tmp_path / "whole.h5").stat().st_size
    (tmp_path / "whole.h5").unlink()
    limits = [100, 3000, 9000, *range(16000, size, 3000), size - 100]
    command = [sys.executable, "-c", FULL, tmp_path, *map(str, limits)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    told = f"error: {tmp_path}/out.h5: File too large (errno 27, EFBIG): raise `ulimit -f`"
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [str(limit) for limit in limits for _ in range(2)]
    assert all(told in line and line.endswith("then run dataset of digits again []") for line in lines[::2])
    assert all(line.endswith("exit 1") for line in lines[1::2])


def test_the_bytes_are_those_that_h5py_itself_writes(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w", libver="v110") as file:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(new_hdf5.h5py, "File", lambda *_, **__: file)
            patched.setattr(file, "close", lambda: None)
            write(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_error_of_the_block_is_raised_as_it_is_and_leaves_no_open_file(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.raises(KeyboardInterrupt), new_hdf5.creating(tmp_path / "a.h5") as file:
        file["x"] = np.arange(10)
        raise KeyboardInterrupt
    assert not file.id.valid
    assert not before or len(os.listdir("/proc/self/fd")) == before
