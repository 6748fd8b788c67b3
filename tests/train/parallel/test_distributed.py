"""Real processes of this machine, over gloo; slow to start, so each test asks several things of its runs.

Where a test starts workers itself, they are forked from one process that has imported torch, for all tests of the file;
the script and torchrun start theirs as the stage does.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest
import torch

from stages.lib.core.errors import UserError
from stages.lib.train.interruption import Checkpoints
from stages.lib.train.parallel import distributed
from tests.train.test_train import LEARNS, train_on

pytestmark = pytest.mark.slow

NETWORK = {"name": "convolutional", "arguments": {"norm": "BatchNorm", "dropout": 0.3}}
ONE = LEARNS | {"epochs": 6, "network": NETWORK, "batch_size": 7, "augment": {"shift": [1], "mixup": 0.2}, "threads": 2}
TWO = ONE | {"processes": 2}

PARTS = ONE | {"accumulate": 2, "threads": 1}

RUN = """
import sys, torch
from pathlib import Path
from tests.train.parallel.test_distributed import TWO
from tests.train.test_train import train_on

if __name__ == "__main__":
    train_on(Path(sys.argv[1]), Path(sys.argv[2]), TWO)
"""


@pytest.fixture(autouse=True)
def forked_workers(monkeypatch):
    multiprocessing.set_forkserver_preload(["tests.train.test_train", "torch.distributed.elastic.multiprocessing.api"])
    monkeypatch.setattr(distributed, "START_METHOD", "forkserver")


@pytest.fixture
def one_thread():
    """As stages/lib/command.py sets it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_same_outs(folder, other):
    for out in ("model.pt", "history.csv", "train.json"):
        assert (folder / out).read_bytes() == (other / out).read_bytes()


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_and_the_bytes_of_two_with_a_worker_lost(images_h5, tmp_path):
    _, _, one = train_on(images_h5, tmp_path / "one", ONE)
    _, _, two = train_on(images_h5, tmp_path / "two", TWO)
    pd.testing.assert_frame_equal(one, two, atol=1e-4, rtol=1e-4)

    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen([sys.executable, script, images_h5, tmp_path / "broken"], env=environment) as run:
        lose_a_worker(run, tmp_path / "broken" / ".resume" / "state.pt")
        assert run.wait() == 0
    assert_same_outs(tmp_path / "broken", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["images_h5", "volumes_h5"])
def test_two_processes_that_share_out_whole_parts_give_the_bytes_of_one(dataset, tmp_path, request, one_thread):
    """With a chaotic optimizer, too: where nothing is rounded otherwise, nothing can grow."""
    dataset_h5 = request.getfixturevalue(dataset)
    given = ONE | {"optimizer": {"name": "AdamW"}, "lr": 0.03, "loss": {"l2": 1e-4}, "accumulate": 4, "threads": 1}
    train_on(dataset_h5, tmp_path / "one", given | {"channels_last": True})
    train_on(dataset_h5, tmp_path / "two", given | {"channels_last": True, "processes": 2})
    assert_same_outs(tmp_path / "one", tmp_path / "two")


NODE = """
import sys
from pathlib import Path
from stages import train
from stages.lib import params
from stages.lib.params.train import TrainParams
from tests.train.parallel.test_distributed import PARTS

outs = [Path(sys.argv[2]) / name for name in ("model.pt", "train.json", "history.csv")]
train.main(Path(sys.argv[1]), *outs, params.check(TrainParams, PARTS), "tiny")
"""


@pytest.mark.slow
def test_two_machines_under_torchrun_give_the_bytes_of_one(images_h5, tmp_path, one_thread):
    train_on(images_h5, tmp_path / "one", PARTS)
    script = tmp_path / "node.py"
    script.write_text(NODE)
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-id", "test", "--rdzv-endpoint", f"localhost:{port}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *meeting]
    nodes = [
        subprocess.Popen([*torchrun, "--node-rank", node, script, images_h5, tmp_path / "two"], env=environment)
        for node in "01"
    ]
    try:
        assert [node.wait() for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.terminate()  # which torchrun passes on to its workers
    assert_same_outs(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_a_mistake_that_one_process_meets_ends_all_of_them(images_h5, tmp_path):
    with Checkpoints(tmp_path / ".resume", {"params": "another run's"}):  # whose lock the first process will want
        with pytest.raises(UserError, match=r"training is under way already \(process"):
            train_on(images_h5, tmp_path, TWO)


def lose_a_worker(run, state):
    """Kills one of the training processes once there is a checkpoint."""
    while not state.exists():
        assert run.poll() is None
        time.sleep(0.01)
    parents = psutil.Process(run.pid).children(recursive=True)
    workers = [process for process in parents if "spawn_main" in " ".join(process.cmdline())]
    assert len(workers) == 2
    workers[1].kill()
