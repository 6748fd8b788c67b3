import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.params.train import TrainParams
from stages.lib.train.resume import Resume, identity

RUN = """
import os, sys
from pathlib import Path
from stages.lib import loop
from tests.train.test_interruption import GIVEN
from tests.train.test_train import train_on

dataset_h5, folder, number, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
original, done = loop.train_batch, 0

def train_batch(*arguments):
    global done
    done += 1
    if done == at:
        os.kill(os.getpid(), number)
    return original(*arguments)

loop.train_batch = train_batch
train_on(dataset_h5, folder, GIVEN)
"""
GIVEN = {
    "network": {"name": "compact", "arguments": {"widths": [8], "dropout": 0.3}},
    "progressive": {"epochs": 1},
    "optimizer": {"name": "Muon"},  # two in one, the other of them AdamW
    "schedule": {"name": "OneCycleLR", "every": "batch", "warmup_epochs": 0.5},
    "augment": {"shift": [1], "noise": 0.1},
    "average": 0.9,
    "epochs": 4,
    "batch_size": 5,  # 5 batches an epoch
    "checkpoint_minutes": 0.0,  # after every batch
}


def run(folder, dataset_h5, number=0, at=0):
    """Trains in a process that gets signal `number` in its batch `at`; its exit status."""
    script = folder.with_suffix(".py")
    script.write_text(RUN)
    command = [sys.executable, str(script), str(dataset_h5), str(folder), str(int(number)), str(at)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": os.getcwd()}, timeout=60).returncode


def test_a_run_killed_terminated_and_interrupted_ends_with_the_bytes_of_one_that_was_not(images_h5, tmp_path):
    assert run(tmp_path / "whole", images_h5) == 0
    assert run(tmp_path / "broken", images_h5, signal.SIGKILL, at=3) == -signal.SIGKILL
    assert run(tmp_path / "broken", images_h5, signal.SIGTERM, at=4) == 143  # the sixth batch, the first of an epoch
    assert run(tmp_path / "broken", images_h5, signal.SIGINT, at=9) in (1, 130, -signal.SIGINT)
    assert (tmp_path / "broken" / ".resume" / "state.pt").exists()
    assert not (tmp_path / "broken" / "model.pt").exists()
    assert run(tmp_path / "broken", images_h5) == 0
    for out in ("model.pt", "history.csv", "train.json"):
        assert (tmp_path / "broken" / out).read_bytes() == (tmp_path / "whole" / out).read_bytes()
    assert not (tmp_path / "broken" / ".resume").exists()


KILLED = """
import os, random, signal, sys, threading
from pathlib import Path
from stages.lib import loop
from tests.train.test_interruption import LONG
from tests.train.test_train import train_on

original, begun = loop.train_batch, False

def train_batch(*arguments):
    global begun
    if not begun and float(sys.argv[3]):
        threading.Timer(float(sys.argv[3]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    begun = True
    return original(*arguments)

loop.train_batch = train_batch
train_on(Path(sys.argv[1]), Path(sys.argv[2]), LONG)
"""
LONG = GIVEN | {"epochs": 40}  # about a second


def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_one_that_was_not(images_h5, tmp_path):
    """Saving included: with a checkpoint after every batch, most of the time goes into that."""
    wanted = int(os.environ.get("KILLS", "1"))  # 20 and more by hand
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    rng = random.Random(0)

    def run(folder, seconds):
        command = [sys.executable, str(script), str(images_h5), str(folder), str(seconds)]
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": os.getcwd()}, timeout=60).returncode

    assert run(tmp_path / "whole", 0) == 0
    kills = within = 0
    folder = tmp_path / "broken"
    while True:
        enough = kills >= wanted and within
        ended = run(folder, 0 if enough else rng.uniform(0.001, 0.4))
        if ended == -signal.SIGKILL:
            kills += 1
            state = folder / ".resume" / "state.pt"
            within += state.exists() and torch.load(state, weights_only=True)["state"]["batch"] > 0
            continue
        assert ended == 0
        for out in ("model.pt", "history.csv", "train.json"):
            assert (folder / out).read_bytes() == (tmp_path / "whole" / out).read_bytes()
        if enough:
            break
        folder = tmp_path / f"broken after {kills}"
    print(f"{kills} kills, {within} of them within an epoch")


def test_a_state_of_other_params_or_data_is_not_gone_on_with(images_h5, tmp_path):
    here = identity(TrainParams(), images_h5, 1)
    Resume(tmp_path / "a", here).save({"epoch": 3})
    other = identity(params.check(TrainParams, {"lr": 0.3}), images_h5, 1)
    assert Resume(tmp_path / "a", here, writes=False).load() == {"epoch": 3}
    assert Resume(tmp_path / "a", other, writes=False).load() is None
    images_h5.touch()
    assert identity(TrainParams(), images_h5, 1) != here


def test_half_a_state_is_as_good_as_none(tmp_path):
    resume = Resume(tmp_path / "a", "x")
    resume.save({"weights": torch.ones(1000)})
    state = tmp_path / "a" / "state.pt"
    state.write_bytes(state.read_bytes()[:500])
    assert resume.load() is None


def test_two_runs_at_once_are_refused(tmp_path):
    resume = Resume(tmp_path / "a", "x")
    with pytest.raises(UserError, match="another run is still training here"):
        Resume(tmp_path / "a", "x")
    resume.remove()
    assert not (tmp_path / "a").exists()
