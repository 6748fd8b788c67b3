"""The whole pipeline on a small folder of pictures, in copies of the project: once by dvc, once without it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.lib.core import machine
from tests import ROOT

pytestmark = pytest.mark.slow
STAGES = ["ingest", "split", "statistics", "dataset", "train", "validate", "export"]
TARGETS = ["statistics@tiny", "validate@tiny", "export@tiny"]
TINY = {
    "ingest": {"identifiers": "open"},
    "split": {"validation": 0.2, "test": 0.2},
    "statistics": {},
    "dataset": {"shape": [8, 8]},
    "train": {"network": {"name": "fully_connected", "arguments": {"widths": [8]}}, "epochs": 2, "portable": True},
    "validate": {"portable": True},
    "export": {"portable": True},
}


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


def run(folder: Path, *command: str, programs: Path | None = None, **variables: str) -> str:
    """Runs a command in a copy of the project, with the Python environment's programs first in PATH, as `make` does.

    Args:
        programs: A folder that comes even before those in PATH.
        variables: More environment variables.
    """
    path = os.pathsep.join(
        [*([str(programs)] if programs else []), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    person = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | person | {"PATH": path, "DVC_NO_ANALYTICS": "1"} | variables
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def project_files() -> list[str]:
    """Tracked files and new ones of the pipeline; other untracked files (data, links, environments) are left out."""

    def listed(*arguments: str) -> list[str]:
        command = ["git", "ls-files", "-z", *arguments]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [name for name in output.split("\0") if (ROOT / name).is_file()]

    return listed() + listed("--others", "--exclude-standard", "--", "stages", "requirements")


def copy_project(folder: Path, params: dict) -> None:
    """Copies the project, uncommitted changes too, into a git repository, with 60 pictures of mixed sizes as data."""
    for name in project_files():
        if not name.startswith(("metrics/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    write_params(folder, {"tiny": params})
    rng = np.random.default_rng(0)
    for i in range(60):
        label, ending = ("dark", "png") if i % 2 else ("bright", "jpg")
        low = 20 if i % 2 else 150
        picture = rng.integers(low, low + 80, (9 + i % 3, 10, 3)).astype(np.uint8)
        (folder / "data/raw/tiny" / label).mkdir(parents=True, exist_ok=True)
        imageio.imwrite(folder / "data/raw/tiny" / label / f"{i:02d}.{ending}", picture)
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "Start")


def write_params(folder: Path, datasets: dict) -> None:
    shipped = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    shipped["datasets"] |= datasets
    with open(folder / "params.yaml", "w") as file:
        YAML().dump(shipped, file)


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
