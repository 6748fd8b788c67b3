"""Real processes of this machine that are killed; none has a time limit, since a slow machine would break it."""

import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from stages.lib import params
from stages.lib.core import sources
from stages.lib.core.errors import UserError
from stages.lib.params.train import TrainParams
from stages.lib.train.interruption import STAGE, Checkpoints, run_identity

GIVEN = {
    "network": {"name": "compact", "arguments": {"widths": [8], "dropout": 0.3}},
    "progressive": {"epochs": 1},
    "optimizer": {"name": "Muon"},  # two in one, the other of them AdamW
    "schedule": {"name": "OneCycleLR", "every": "batch", "warmup_epochs": 0.5},
    "augment": {"shift": [1], "noise": 0.1},
    "average": 0.9,
    "epochs": 4,
    "batch_size": 5,  # 5 batches an epoch
}
LONG = GIVEN | {"epochs": 40}  # about a second
OUTS = ("model.pt", "history.csv", "train.json")

# Both save a checkpoint after every batch. The first kills itself in the batch number `at`, the second after some
# seconds of training.
IN_BATCH = """
import os, sys
from pathlib import Path
from stages.lib.train import loop
from tests.train.test_interruption import GIVEN
from tests.train.test_train import train_on

dataset_h5, folder, number, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
original, begun = loop.train_batch, 0

def train_batch(*arguments):
    global begun
    begun += 1
    if begun == at:
        os.kill(os.getpid(), number)
    return original(*arguments)

loop.train_batch = train_batch
train_on(dataset_h5, folder, GIVEN, checkpoint_minutes=0.0)
"""
AFTER_SECONDS = """
import os, signal, sys, threading
from pathlib import Path
from stages.lib.train import loop
from tests.train.test_interruption import LONG
from tests.train.test_train import train_on

dataset_h5, folder, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
original, begun = loop.train_batch, False

def train_batch(*arguments):
    global begun
    if not begun and seconds:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    begun = True
    return original(*arguments)

loop.train_batch = train_batch
train_on(dataset_h5, folder, LONG, checkpoint_minutes=0.0)
"""


@pytest.fixture
def train(images_h5, tmp_path):
    """Trains into a folder in a process of its own; returns the exit status once that has ended."""

    def run(code, folder, *arguments):
        script = tmp_path / "script.py"
        script.write_text(code)
        command = [sys.executable, script, images_h5, folder, *(str(argument) for argument in arguments)]
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": os.getcwd()}).returncode

    return run


def assert_same_outs(folder, other):
    for out in OUTS:
        assert (folder / out).read_bytes() == (other / out).read_bytes()


@pytest.mark.slow
def test_a_run_killed_terminated_and_interrupted_ends_with_the_bytes_of_one_that_was_not(train, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(IN_BATCH, whole, 0, 0) == 0
    assert train(IN_BATCH, broken, int(signal.SIGKILL), 3) == -signal.SIGKILL
    assert train(IN_BATCH, broken, int(signal.SIGTERM), 4) == 143  # the sixth batch, the first of an epoch
    assert train(IN_BATCH, broken, int(signal.SIGINT), 9) in (1, 130, -signal.SIGINT)
    assert (broken / ".resume" / "state.pt").exists()
    assert not (broken / "model.pt").exists()
    assert train(IN_BATCH, broken, 0, 0) == 0
    assert_same_outs(broken, whole)
    assert not (broken / ".resume").exists()


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_one_that_was_not(train, tmp_path):
    """Saving included: with a checkpoint after every batch, most of the time goes into that."""
    wanted = int(os.environ.get("KILLS", "1"))  # 20 and more by hand
    rng = random.Random(0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(AFTER_SECONDS, whole, 0) == 0
    kills = within_epoch = 0
    longest = 0.4  # seconds of training before a kill
    while True:
        enough = kills >= wanted and within_epoch
        status = train(AFTER_SECONDS, broken, 0 if enough else rng.uniform(0.001, longest))
        if status == -signal.SIGKILL:
            kills += 1
            longest *= 1.1  # so that a slow machine, too, gets as far as a checkpoint within an epoch
            state = broken / ".resume" / "state.pt"
            within_epoch += state.exists() and torch.load(state, weights_only=True)["state"]["batch"] > 0
            continue
        assert status == 0
        assert_same_outs(broken, whole)
        if enough:
            break
        broken = tmp_path / f"broken after {kills}"
    print(f"{kills} kills, {within_epoch} of them within an epoch")


def test_a_state_of_other_params_or_data_is_not_gone_on_with(images_h5, tmp_path):
    here = run_identity(TrainParams(), images_h5, 1)
    Checkpoints(tmp_path / "a", here).save({"epoch": 3})
    other = run_identity(params.check(TrainParams, {"lr": 0.3}), images_h5, 1)
    assert Checkpoints(tmp_path / "a", here, writes=False).load() == {"epoch": 3}
    assert Checkpoints(tmp_path / "a", other, writes=False).load() is None
    images_h5.touch()
    assert run_identity(TrainParams(), images_h5, 1) != here


def test_only_code_that_training_runs_decides_whether_a_run_goes_on():
    folders = {path.relative_to(sources.ROOT).parts[2] for path in sources.closure(STAGE) if "lib" in path.parts}
    assert {"train", "model", "core"} <= folders
    assert not folders & {"sample", "ingest", "split", "validate", "export"}


def test_half_a_state_is_as_good_as_none(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a", "x")
    checkpoints.save({"weights": torch.ones(1000)})
    state = tmp_path / "a" / "state.pt"
    state.write_bytes(state.read_bytes()[:500])
    assert checkpoints.load() is None


def test_a_checkpoint_is_due_after_the_minutes_asked_for_and_only_where_it_is_saved(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("stages.lib.train.interruption.time.monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path / "a", "x", minutes=2)
    other_process = Checkpoints(tmp_path / "a", "x", minutes=2, writes=False)
    assert not checkpoints.is_due()
    now += 120
    assert checkpoints.is_due() and not other_process.is_due()
    checkpoints.save({})
    assert not checkpoints.is_due()


def test_two_runs_at_once_are_refused(tmp_path):
    with Checkpoints(tmp_path / "a", "x"), pytest.raises(UserError, match="training is under way already"):
        Checkpoints(tmp_path / "a", "x")
    assert not (tmp_path / "a").exists()
