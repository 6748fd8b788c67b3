import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stages import split
from stages.lib import command
from stages.lib.core import locks, outs, signals
from stages.lib.core.errors import UserError
from stages.lib.core.progress import progress
from tests import ROOT
from tests.demos import needs_demos


def run_stage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the split stage in a copy of the project."""
    for name in ("stages", "dvc.yaml", "params.yaml"):
        if not (folder / name).exists():
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True)


@needs_demos
def test_a_stage_runs_without_dvc(tmp_path):
    cases = tmp_path / "data" / "digits"
    cases.mkdir(parents=True)
    rows = "".join(f"c{i:02d},g{i:02d},{'ab'[i % 2]}\n" for i in range(40))
    (cases / "cases.csv").write_text("case,group,label\n" + rows)
    done = run_stage(tmp_path, "stages.split", "digits")
    assert (done.returncode, done.stderr) == (0, "")
    assert (cases / "split.csv").read_text().startswith("case,group,label,split\nc00,g00,a,")


def test_a_users_mistake_is_one_message_without_a_traceback(tmp_path):
    run_stage(tmp_path, "stages.split", "digits")
    (tmp_path / "params.yaml").write_text("datasets: {digits: {split: {tset: 0.1}}}")
    done = run_stage(tmp_path, "stages.split", "digits")
    assert done.returncode == 1
    assert "params.yaml: datasets.digits.split.tset is unknown: did you mean test?" in done.stderr
    assert "Traceback" not in done.stderr


@needs_demos
def test_a_stage_that_is_not_for_a_dataset_says_for_which_it_is(tmp_path):
    with pytest.raises(UserError, match="the stage 'sample' is for digits, phantoms, not for 'mine'"):
        command.stage_paths("sample", "mine", ROOT / "dvc.yaml")


@pytest.mark.parametrize("name", ["../x", "Digits", "$(x)"])
def test_a_name_that_no_dataset_can_have_is_refused_before_a_path_is_made_of_it(name):
    with pytest.raises(UserError, match="a dataset's name is of lower-case letters"):
        command.stage_paths("statistics", name, ROOT / "dvc.yaml")


def test_a_listed_name_that_is_a_number_for_yaml_is_told_like_the_others(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {sample: {foreach: [2024, digits], do: {}}}")
    with pytest.raises(UserError, match="the stage 'sample' is for 2024, digits, not for 'mine'"):
        command.stage_paths("sample", "mine", tmp_path / "dvc.yaml")
    assert command.stage_paths("sample", "2024", tmp_path / "dvc.yaml") == ({}, {})


def test_paths_go_by_the_names_of_their_files():
    deps, outs = command.stage_paths("statistics", "mine", ROOT / "dvc.yaml")
    assert deps["cases"] == Path("data/mine/cases")
    assert outs == {"statistics_json": Path("metrics/mine/statistics.json")}
    assert command.stage_paths("ingest", "mine", ROOT / "dvc.yaml")[0]["raw"] == Path("data/raw/mine")


SPLIT = """
stages:
  split:
    foreach: ${datasets}
    do:
      cmd: python -m stages.split ${key}
      deps: ["data/${key}/cases.csv", frozen, stages/split.py, recipes/lock.txt, uv.lock]
      outs: [OUTS]
"""


def arguments(folder: Path, monkeypatch: pytest.MonkeyPatch, outs: str) -> dict[str, object]:
    monkeypatch.chdir(folder)
    Path("dvc.yaml").write_text(SPLIT.replace("OUTS", outs))
    return command.arguments(split.main, "split", "mine", {"params": None, "machine": None, "dataset": "mine"})


def test_a_dep_that_main_does_not_name_only_tells_dvc_when_to_run_the_stage_again(tmp_path, monkeypatch):
    assert arguments(tmp_path, monkeypatch, '"data/${key}/split.csv"') == {
        "cases_csv": Path("data/mine/cases.csv"),
        "split_csv": Path("data/mine/split.csv"),
        "frozen": Path("frozen"),
        "params": None,
    }


def test_two_deps_of_the_name_that_main_takes_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SPLIT", SPLIT.replace("uv.lock", "locks/cases.csv"))
    with pytest.raises(TypeError, match=r"main takes \['cases_csv'\], which dvc.yaml does not name, or twice"):
        arguments(tmp_path, monkeypatch, '"data/${key}/split.csv"')


def test_an_out_that_main_does_not_take_or_dvc_yaml_does_not_name_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"has the outs \['more_csv'\], which its main does not take"):
        arguments(tmp_path, monkeypatch, '"data/${key}/split.csv", "data/${key}/more.csv"')
    with pytest.raises(TypeError, match=r"main takes \['split_csv'\], which dvc.yaml does not name"):
        arguments(tmp_path, monkeypatch, "")


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("number", "wayout"),
    [
        (errno.ENOSPC, "No space left on device (errno 28, ENOSPC): free some space there"),
        (errno.EROFS, "Read-only file system (errno 30, EROFS): mount it for writing, or take another place"),
        (errno.EACCES, "Permission denied (errno 13, EACCES): give yourself the right to it, or take another place"),
        (errno.EMFILE, "Too many open files (errno 24, EMFILE): raise `ulimit -n`"),
    ],
)
def test_what_the_system_refuses_is_one_message_with_path_number_and_way_out(number, wayout):
    refused = OSError(number, os.strerror(number), "data/digits/split.csv")
    expected = f"error: data/digits/split.csv: {wayout}; then run split of digits again"
    assert command.outcome(raising(refused), "split of digits") == (1, expected)


def test_an_error_of_the_system_that_only_a_bug_can_cause_keeps_its_traceback():
    with pytest.raises(OSError, match="Bad file descriptor"):
        command.outcome(raising(OSError(errno.EBADF, os.strerror(errno.EBADF))), "split of digits")


def test_in_a_folder_that_cannot_be_written_the_message_names_the_out_and_nothing_is_lost(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    status, message = command.outcome(lambda: outs.write_bytes(tmp_path / "data" / "x", b"x"), "split of digits")
    assert (status, message.startswith(f"error: {tmp_path}/data")) == (1, True)
    assert (tmp_path / "data").read_text() == "a file where the folder should be"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_stage_with_a_message_its_own_status_and_no_partial_file(tmp_path, name):
    number = getattr(signal, name)

    def work() -> None:
        with outs.replacing(tmp_path / "out") as partial:
            partial.touch()
            os.kill(os.getpid(), number)
            threading.Event().wait()  # the signal comes meanwhile

    before = signal.getsignal(number)
    status, message = command.outcome(work, "split of digits")
    assert status == 128 + number
    assert message == f"split of digits was stopped by {name} before it was done: run it again"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.handled():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_message_comes_after_the_bar_is_closed(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def work() -> None:
        for _ in progress(range(3), "split digits", "case"):
            raise KeyboardInterrupt

    _, message = command.outcome(work, "split of digits")
    assert capsys.readouterr().err.endswith("\n")
    assert message.startswith("split of digits was stopped")


def test_a_stage_that_is_under_way_is_not_started_again(tmp_path, monkeypatch):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locks, "SECONDS", 0)
    with command.alone("split", "mine"):
        with command.alone("split", "other"), command.alone("dataset", "mine"):
            pass
        with pytest.raises(UserError, match=r"split of mine is under way already \(process \d+ on"):
            with command.alone("split", "mine"):
                pass
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "dvc.yaml"]


def test_of_the_processes_of_a_torchrun_one_holds_the_lock(tmp_path, monkeypatch):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with command.alone("train", "mine"):
        monkeypatch.setenv("RANK", "1")
        with command.alone("train", "mine"):
            pass


def test_ctrl_c_while_a_stage_still_imports_ends_it_without_a_traceback(tmp_path):
    """A module that stands for torch, whose import takes seconds."""
    (tmp_path / "stages").mkdir()
    shutil.copy(ROOT / "stages" / "__init__.py", tmp_path / "stages")
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "stages" / "slow.py").write_text(code)
    done = subprocess.run([sys.executable, "-m", "stages.slow"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_stage_is_started_as_a_script_and_from_any_folder(tmp_path):
    script = ROOT / "stages" / "split.py"
    done = subprocess.run([sys.executable, script, "nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "there is no datasets.nowhere" in done.stderr) == (1, True), done.stderr
