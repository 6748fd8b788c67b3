"""Copies of the project, most with a data set of 60 small pictures, for tests and tools that run whole pipelines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from ruamel.yaml import YAML

from stages.lib.core.sources import ROOT

STAGES = ["ingest", "split", "statistics", "dataset", "train", "validate", "export"]
TARGETS = ["statistics@tiny", "validate@tiny", "export@tiny"]
TINY: dict[str, Any] = {
    "ingest": {"identifiers": "open"},
    "split": {"validation": 0.2, "test": 0.2},
    "statistics": {},
    "dataset": {"shape": [8, 8]},
    "train": {"network": {"name": "fully_connected", "arguments": {"widths": [8]}}, "epochs": 2, "portable": True},
    "validate": {"portable": True},
    "export": {"portable": True},
}


def environment(programs: Path | None = None, **variables: str) -> dict[str, str]:
    """The environment of commands in a copy, with the Python environment's programs first in PATH, as `make` does.

    Args:
        programs: A folder that comes even before those in PATH.
        variables: More environment variables.
    """
    folders = [*([str(programs)] if programs else []), str(Path(sys.executable).parent), os.environ["PATH"]]
    person = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    # The copy is compiled once, and not by each of its many processes.
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}
    return os.environ | person | compiled | {"PATH": os.pathsep.join(folders), "DVC_NO_ANALYTICS": "1"} | variables


def run(folder: Path, *command: str, programs: Path | None = None, **variables: str) -> str:
    """Runs a command in a copy of the project to its good end; what it printed."""
    given = environment(programs, **variables)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def project_files() -> list[str]:
    """Tracked files and new ones of the pipeline; other untracked files (data, links, environments) are left out."""

    def listed(*arguments: str) -> list[str]:
        command = ["git", "ls-files", "-z", *arguments]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [name for name in output.split("\0") if (ROOT / name).is_file()]

    return listed() + listed("--others", "--exclude-standard", "--", "stages", "tools", "requirements", "frozen")


def copy_project(folder: Path, params: dict[str, Any]) -> None:
    """Copies the project, uncommitted changes too, into a git repository, with 60 pictures of mixed sizes as data."""
    copy_files(folder, {"tiny": params})
    write_pictures(folder)
    commit(folder)


def write_pictures(folder: Path) -> None:
    """Writes 60 pictures of two classes into data/raw/tiny of a project."""
    rng = np.random.default_rng(0)
    for i in range(60):
        label, ending = ("dark", "png") if i % 2 else ("bright", "jpg")
        low = 20 if i % 2 else 150
        picture = rng.integers(low, low + 80, (9 + i % 3, 10, 3)).astype(np.uint8)
        (folder / "data/raw/tiny" / label).mkdir(parents=True, exist_ok=True)
        imageio.imwrite(folder / "data/raw/tiny" / label / f"{i:02d}.{ending}", picture)


def copy_files(folder: Path, datasets: dict[str, Any]) -> None:
    """Copies the project's files, without its results, and adds blocks to params.yaml's `datasets`."""
    for name in project_files():
        if not name.startswith(("metrics/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    write_params(folder, datasets)


def commit(folder: Path) -> None:
    """Makes a git repository of a copy, with all in it that git does not ignore."""
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "Start")


def write_params(folder: Path, datasets: dict[str, Any]) -> None:
    shipped = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    shipped["datasets"] |= datasets
    with open(folder / "params.yaml", "w") as file:
        YAML().dump(shipped, file)
