"""The whole pipeline on a small folder of pictures, in copies of the project: once by dvc, once without it."""

import re
import sys
from pathlib import Path

import pytest

from stages.lib.core import machine
from tests import ROOT
from tools.tiny_project import STAGES, TARGETS, TINY, copy_project, run, write_params

pytestmark = pytest.mark.slow


ALL_IN_ONE_PROCESS = f"""
import runpy, sys
for stage in {STAGES}:
    sys.argv = [stage, "tiny"]
    runpy.run_module("stages." + stage, run_name="__main__")
"""
WRITE_OUTS = """
import sys
from pathlib import Path
from stages.lib import command
_, outs = command.stage_paths(sys.argv[2].removeprefix("stages."), sys.argv[3])
for path in outs.values():
    path.write_text("written by the stand-in")
"""


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, list[str]]:
    """A copy of the project, and the stages that its first `dvc repro` ran."""
    folder = tmp_path_factory.mktemp("one") / "project"
    copy_project(folder, TINY)
    return folder, stages_run(run(folder, "dvc", "repro", *TARGETS))


@pytest.fixture
def folder(project) -> Path:
    """The copy of `project`."""
    return project[0]


def test_one_command_runs_every_stage_of_a_dataset(project):
    assert sorted(project[1]) == sorted(f"{stage}@tiny" for stage in STAGES)


def test_every_out_has_the_same_bytes_in_a_copy_at_another_path_and_without_dvc(folder, tmp_path):
    other = tmp_path / "a" / "longer path"
    copy_project(other, TINY)
    run(other, sys.executable, "-c", ALL_IN_ONE_PROCESS, **machine.PORTABLE)
    run(other, "dvc", "commit", "--force", *(f"{stage}@tiny" for stage in STAGES))
    assert (other / "dvc.lock").read_text() == (folder / "dvc.lock").read_text()


def test_a_second_run_does_nothing_and_what_git_keeps_is_small(folder):
    assert stages_run(run(folder, "dvc", "repro", *TARGETS)) == []
    kept = run(folder, "git", "ls-files", "-o", "--exclude-standard").splitlines()
    assert "dvc.lock" in kept
    assert "metrics/tiny/validate.json" in kept
    assert all(name.startswith("metrics/tiny/") for name in set(kept) - {"dvc.lock"})
    assert all((folder / name).stat().st_size < 500_000 for name in kept)


def test_a_new_dataset_reruns_nothing_that_exists(folder):
    write_params(folder, {"tiny": TINY, "other": TINY})
    assert stages_run(run(folder, "dvc", "repro", "--dry", *TARGETS)) == []


def test_metrics_and_plots_can_be_shown_without_a_remote(folder):
    assert "metrics/tiny/validate.json" in run(folder, "dvc", "metrics", "show")


def test_a_new_learning_rate_reruns_training_and_what_follows_of_that_dataset_alone(folder, tmp_path):
    """Only which stages dvc runs matters here: in their place, a stand-in for python writes some outs quickly."""
    (tmp_path / "write.py").write_text(WRITE_OUTS)
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "write.py"}" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    write_params(folder, {"tiny": TINY | {"train": TINY["train"] | {"lr": 0.123}}})
    output = run(folder, "dvc", "repro", *TARGETS, programs=tmp_path, PYTHONPATH=str(ROOT))
    assert stages_run(output) == ["train@tiny", "validate@tiny", "export@tiny"]
