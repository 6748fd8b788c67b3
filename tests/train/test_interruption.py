"""Real processes of this machine that are killed; none has a time limit, since a slow machine would break it."""

import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest
import torch

from stages.lib import params
from stages.lib.core import sources
from stages.lib.core.errors import UserError
from stages.lib.params.train import TrainParams
from stages.lib.train import interruption, loop
from stages.lib.train.interruption import STAGE, Checkpoints, run_identity
from tests import ROOT
from tests.train.test_train import LEARNS, train_on

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
CPU = torch.device("cpu")
OUTS = ("model.pt", "history.csv", "train.json")


def nursery() -> None:
    """Trains in a forked process for each line of stdin, and prints its exit status: torch is imported only once.

    A line holds arguments of `train_and_die` as JSON. No child has threads of torch from before the fork.
    """
    importlib.import_module("torch._dynamo")  # Muon does, for some seconds
    for line in sys.stdin:
        if not (child := os.fork()):
            os.dup2(2, 1)
            os._exit(_status(json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _status(given: dict) -> int:
    """Trains; how Python would end."""
    try:
        train_and_die(**given)
    except KeyboardInterrupt:
        return 130
    except SystemExit as ending:
        return int(ending.code)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def train_and_die(dataset_h5: str, folder: str, given: dict, number: int, at: int, seconds: float) -> None:
    """Trains with a checkpoint after every batch, and sends itself a signal.

    Args:
        at: The batch in which the signal comes, from 1; 0 for none.
        seconds: Of training, after which SIGKILL comes; 0 for never.
    """
    original, begun = loop.train_batch, 0

    def train_batch(*arguments):
        nonlocal begun
        begun += 1
        if begun == 1 and seconds:
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if begun == at:
            os.kill(os.getpid(), number)
        return original(*arguments)

    loop.train_batch = train_batch
    train_on(Path(dataset_h5), Path(folder), given, checkpoint_minutes=0.0)


@pytest.fixture(scope="module")
def nurse():
    code = "from tests.train.test_interruption import nursery; nursery()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def train(nurse, images_h5):
    """Trains into a folder in a process of its own; returns the exit status once that has ended."""

    def run(folder, given=GIVEN, number=0, at=0, seconds=0.0):
        job = {"dataset_h5": str(images_h5), "folder": str(folder), "given": given}
        nurse.stdin.write(json.dumps(job | {"number": int(number), "at": at, "seconds": seconds}) + "\n")
        nurse.stdin.flush()
        return int(nurse.stdout.readline())

    return run


def assert_same_outs(folder, other):
    for out in OUTS:
        assert (folder / out).read_bytes() == (other / out).read_bytes()


@pytest.mark.slow
def test_a_run_killed_terminated_and_interrupted_ends_with_the_bytes_of_one_that_was_not(train, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole) == 0
    assert train(broken, number=signal.SIGKILL, at=3) == -signal.SIGKILL
    assert train(broken, number=signal.SIGTERM, at=4) == 143  # the sixth batch, the first of an epoch
    assert train(broken, number=signal.SIGINT, at=9) == 130
    assert (broken / ".resume" / "state.pt").exists()
    assert not (broken / "model.pt").exists()
    assert train(broken) == 0
    assert_same_outs(broken, whole)
    assert not (broken / ".resume").exists()


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_one_that_was_not(train, tmp_path):
    """Saving included: with a checkpoint after every batch, most of the time goes into that."""
    wanted = int(os.environ.get("KILLS", "1"))  # 20 and more by hand
    rng = random.Random(0)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole, LONG) == 0
    kills = within_epoch = 0
    longest = 0.4  # seconds of training before a kill
    while True:
        enough = kills >= wanted and within_epoch
        status = train(broken, LONG, seconds=0.0 if enough else rng.uniform(0.001, longest))
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
    here = run_identity(TrainParams(), images_h5, 1, CPU)
    Checkpoints(tmp_path / "a", here).save({"epoch": 3})
    other = run_identity(params.check(TrainParams, {"lr": 0.3}), images_h5, 1, CPU)
    assert Checkpoints(tmp_path / "a", here, writes=False).load() == {"epoch": 3}
    assert Checkpoints(tmp_path / "a", other, writes=False).load() is None
    images_h5.touch()
    assert run_identity(TrainParams(), images_h5, 1, CPU) != here


def test_the_state_of_a_run_that_was_stopped_is_kept_aside_with_a_word_and_gone_on_with_once_all_is_as_it_was(
    images_h5, tmp_path, capsys
):
    first, second = ({"params": name, "code or packages": "same", "machine": "same"} for name in "ab")
    with Checkpoints(tmp_path / "a", first) as begun:
        begun.save({"epoch": 3})
    with Checkpoints(tmp_path / "a", second) as changed:
        assert changed.load() is None
        said = capsys.readouterr().out
        assert "training begins anew" in said and "is of a run with other params; it is kept as other_state.pt" in said
        changed.save({"epoch": 1})
        changed.save({"epoch": 2})
    with Checkpoints(tmp_path / "a", first) as back:
        assert back.load() == {"epoch": 3}
        back.save({"epoch": 4})
        assert back.load() == {"epoch": 4}
        assert Checkpoints(tmp_path / "a", second, writes=False).load() == {"epoch": 2}  # nothing is lost
        assert capsys.readouterr().out == ""
        back.finish({}, tmp_path / "model.pt")
    assert not list((tmp_path / "a").glob("*.pt"))


def test_a_run_knows_the_device_that_it_computes_on(images_h5, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    of = [run_identity(TrainParams(), images_h5, 1, torch.device(name)) for name in ("cpu", "cuda:0", "cuda:1")]
    assert len({identity["machine"] for identity in of}) == 3


def test_only_code_that_training_runs_decides_whether_a_run_goes_on():
    folders = {path.relative_to(sources.ROOT).parts[2] for path in sources.closure(STAGE) if "lib" in path.parts}
    assert {"train", "model", "core"} <= folders
    assert not folders & {"sample", "ingest", "split", "validate", "export"}


def test_half_a_state_is_as_good_as_none_and_is_told(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "a", {"params": "x"})
    checkpoints.save({"weights": torch.ones(1000)})
    state = tmp_path / "a" / "state.pt"
    state.write_bytes(state.read_bytes()[:500])
    assert checkpoints.load() is None
    assert "state.pt, where an earlier run was stopped, can't be read (half a file" in capsys.readouterr().out


def test_a_checkpoint_is_due_after_the_minutes_asked_for_and_only_where_it_is_saved(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("stages.lib.train.interruption.time.monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path / "a", {"params": "x"}, minutes=2)
    other_process = Checkpoints(tmp_path / "a", {"params": "x"}, minutes=2, writes=False)
    assert not checkpoints.is_due()
    now += 120
    assert checkpoints.is_due() and not other_process.is_due()
    checkpoints.save({})
    assert not checkpoints.is_due()


def test_two_runs_at_once_are_refused(tmp_path):
    with Checkpoints(tmp_path / "a", {"params": "x"}), pytest.raises(UserError, match="training is under way already"):
        Checkpoints(tmp_path / "a", {"params": "x"})
    assert not (tmp_path / "a").exists()


def test_a_run_that_dvc_has_not_noted_goes_on_to_its_outs_and_one_that_it_has_is_trained_anew(
    images_h5, tmp_path, monkeypatch
):
    """As after a kill of dvc between the end of training and the writing of dvc.lock."""
    monkeypatch.setenv("DVC_STAGE", "train@tiny")
    monkeypatch.setattr(interruption, "DVC_LOCK", tmp_path / "dvc.lock")
    epochs = []
    train_epoch = loop.train_epoch
    monkeypatch.setattr(loop, "train_epoch", lambda run, *given: epochs.append(run.epoch) or train_epoch(run, *given))
    folder, whole = tmp_path / "out", {}
    for trained in ([1, 2, 3], [], [1, 2, 3]):
        if epochs and not trained:
            whole = {out: (folder / out).read_bytes() for out in OUTS}
            for out in OUTS:  # as dvc does before a stage runs
                (folder / out).unlink()
        epochs.clear()
        train_on(images_h5, folder, LEARNS)
        assert epochs == trained
        assert not whole or whole == {out: (folder / out).read_bytes() for out in OUTS}
        if whole:
            (tmp_path / "dvc.lock").write_text(hashlib.md5(whole["model.pt"]).hexdigest())


def test_what_is_kept_for_dvc_is_no_larger_than_the_model(images_h5, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train@tiny")
    monkeypatch.setattr(interruption, "DVC_LOCK", tmp_path / "dvc.lock")
    train_on(images_h5, tmp_path / "out", LEARNS)
    state, model = (tmp_path / "out" / name for name in (".resume/state.pt", "model.pt"))
    assert state.stat().st_size < model.stat().st_size + 4096
    assert sorted(path.name for path in state.parent.iterdir()) == ["state.pt"]


def test_a_full_disk_at_a_checkpoint_ends_the_run_and_leaves_the_former_state(images_h5, tmp_path, monkeypatch):
    save = Checkpoints.save

    def full(checkpoints, state, *given):
        if state["epoch"] == 3:
            raise OSError(28, os.strerror(28), str(tmp_path / "state.pt"))
        save(checkpoints, state, *given)

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(UserError, match=r"state.pt: No space left on device \(errno 28, ENOSPC\): free some space"):
        train_on(images_h5, tmp_path / "out", LEARNS)
    monkeypatch.undo()
    assert torch.load(tmp_path / "out" / ".resume" / "state.pt", weights_only=True)["state"]["epoch"] == 2
    assert train_on(images_h5, tmp_path / "out", LEARNS)[0] == train_on(images_h5, tmp_path / "whole", LEARNS)[0]
