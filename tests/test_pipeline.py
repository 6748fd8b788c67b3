"""The whole chain by dvc, on a small folder of pictures, in two copies of the project at different paths."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from ruamel.yaml import YAML

from tests import ROOT

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


def run(folder: Path, *command: str) -> str:
    """Runs a command in a copy of the project, as `make` would: the environment's own programs come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    person = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | person | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def copy_project(folder: Path, params: dict) -> None:
    """Copies the project as it lies here into a git repository of its own, with 60 pictures of mixed sizes as data."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(("metrics/", "dvc.lock")) and (ROOT / name).exists():
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
def projects(tmp_path_factory) -> list[tuple[Path, list[str]]]:
    """Two copies of the project at different paths, each with the stages that its first `dvc repro` ran."""
    folders = [tmp_path_factory.mktemp("one") / "project", tmp_path_factory.mktemp("other") / "a" / "longer path"]
    for folder in folders:
        copy_project(folder, TINY)
    with ThreadPoolExecutor() as both:  # at once: most of a stage's time here is its start
        return list(
            zip(folders, both.map(lambda f: stages_run(run(f, "dvc", "repro", *TARGETS)), folders), strict=True)
        )


@pytest.fixture(scope="module")
def project(projects) -> Path:
    return projects[0][0]


def test_one_command_runs_every_stage_of_a_dataset(projects):
    stages = ("ingest", "split", "statistics", "dataset", "train", "validate", "export")
    assert sorted(projects[0][1]) == sorted(f"{stage}@tiny" for stage in stages)


def test_every_out_has_the_same_bytes_in_a_copy_at_another_path(projects):
    (one, _), (other, _) = projects
    assert (other / "dvc.lock").read_text() == (one / "dvc.lock").read_text()


def test_a_second_run_does_nothing_and_what_git_keeps_is_small(project):
    assert stages_run(run(project, "dvc", "repro", *TARGETS)) == []
    kept = run(project, "git", "ls-files", "-o", "--exclude-standard").splitlines()
    assert "dvc.lock" in kept
    assert "metrics/tiny/validate.json" in kept
    assert all(name.startswith("metrics/tiny/") for name in set(kept) - {"dvc.lock"})
    assert all((project / name).stat().st_size < 500_000 for name in kept)


def test_a_new_dataset_reruns_nothing_that_exists(project):
    write_params(project, {"tiny": TINY, "other": TINY})
    assert stages_run(run(project, "dvc", "repro", "--dry", *TARGETS)) == []


def test_metrics_and_plots_can_be_shown_without_a_remote(project):
    assert "metrics/tiny/validate.json" in run(project, "dvc", "metrics", "show")


def test_a_new_learning_rate_reruns_training_and_what_follows_of_that_dataset_alone(project):
    write_params(project, {"tiny": TINY | {"train": TINY["train"] | {"lr": 0.123}}})
    done = stages_run(run(project, "dvc", "repro", *TARGETS))
    assert done == ["train@tiny", "validate@tiny", "export@tiny"]
