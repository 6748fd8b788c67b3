"""What dvc.lock, the .dvc files and the cache say: which path, or which object of the cache, has which hash."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.lib import command
from stages.lib.core.errors import UserError

OF_STUDIES = ("member@", "external@")  # whose names are of the dataset and of something more
FOLDER = ".dir"  # how the hash of a folder ends: that of its manifest, a list of its files with their hashes
HASHES = ("md5", "md5-dos2unix")  # the latter is that of dvc 2
TWO_DIGITS = re.compile("[0-9a-f]{2}")  # a folder of the cache,
OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")  # and a file in it, for the other digits


class Recorded(NamedTuple):
    """A file or folder, and its hash."""

    path: str  # from the root of the repository
    by: str  # who says so: the stage, as dvc takes it for a target, or a .dvc file
    hash_name: str  # one of HASHES
    value: str
    cache: Any  # dvc's object database that should hold a copy; None where dvc keeps none
    is_made: bool  # by a stage; else it is raw data

    @property
    def is_folder(self) -> bool:
        return self.value.endswith(FOLDER)


def open_repository() -> Repo:
    """The repository of this folder.

    Raises:
        UserError: dvc can't read it.
    """
    try:
        repo = Repo()
        list(repo.index.stages)
        return repo
    except DvcException as error:
        raise UserError(
            f"{error}; if it is dvc.lock, `git checkout -- dvc.lock` brings back that of the commit"
        ) from None


def recorded(repo: Repo, datasets: Sequence[str]) -> tuple[list[Recorded], list[str]]:
    """What is to be compared: all outs, and the deps that neither a stage makes nor git keeps, which are raw data.

    Args:
        datasets: Only of these; empty: of all.

    Returns:
        The records, and a line for each that can't be checked.

    Raises:
        UserError: A dataset is in no stage.
    """
    dataset_of = _datasets(repo)
    made_of = {stage: dataset_of(stage.addressing) for stage in repo.index.stages if stage.cmd}
    of_stages = [stage for stage, of in made_of.items() if not datasets or of in datasets]
    if missing := sorted(set(datasets) - {made_of[stage] for stage in of_stages}):
        raise UserError(f"dvc.yaml has no stage for the dataset {', '.join(missing)}")
    notes: list[str] = []

    def records(stages: Sequence[Any], kind: str) -> list[Recorded]:
        return list(dict.fromkeys(one for stage in stages for one in _records(repo, stage, kind, notes)))

    outs, in_git = records(of_stages, "outs"), _kept_by_git(repo)
    made = {out.path for out in outs}
    raw = [dep for dep in records(of_stages, "deps") if dep.path not in made | in_git]
    added = records([stage for stage in repo.index.stages if not stage.cmd], "outs")
    if datasets:
        added = [out for out in added if out.path in {dep.path for dep in raw}]
    known = {(out.path, out.value) for out in added}
    return added + [dep for dep in raw if (dep.path, dep.value) not in known] + outs, notes


def _datasets(repo: Repo) -> Callable[[str], str]:
    """The dataset that a stage is of, which studies.yaml says of member@mine-fold0 and external@mine-clinic."""
    path = command.studies_yaml(Path(repo.root_dir) / command.DVC_YAML)
    lists = command.read_lists(path) if path else {}
    entries = {name: str(one["dataset"]) for of in lists.values() for name, one in of.items()}

    def dataset_of(stage: str) -> str:
        name = stage.partition("@")[2]
        return entries.get(name, name) if stage.startswith(OF_STUDIES) else name

    return dataset_of


def _records(repo: Repo, stage: Any, kind: str, notes: list[str]) -> Iterator[Recorded]:
    """Args: kind: "deps" or "outs"."""
    is_out = kind == "outs"
    for entry in getattr(stage, kind):
        if entry.protocol != "local":
            notes.append(f"{entry}: not checked, as it is not on this machine")
        elif not entry.hash_info:
            if is_out:
                notes.append(f"{entry}: not checked, as {stage.addressing} has never run (dvc repro)")
        elif entry.hash_info.name in HASHES:  # params have none
            path = repo.fs.relpath(entry.fs_path, repo.root_dir)
            cache = entry.cache if is_out and entry.use_cache else None
            made = is_out and bool(stage.cmd)
            yield Recorded(path, stage.addressing, entry.hash_info.name, entry.hash_info.value, cache, made)


def _kept_by_git(repo: Repo) -> set[str]:
    """Paths of files that git tracks, and of the folders that they are in."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repo.root_dir, capture_output=True, text=True)
    paths = [Path(name) for name in listed.stdout.split("\0") if name]
    return {path.as_posix() for path in paths} | {str(parent) for path in paths for parent in path.parents}


def manifest(path: str) -> dict[str, str] | None:
    """The files of a folder with their hashes, from an object of the cache; None where it lists none."""
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(Path(path).read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def objects(cache: str) -> Iterator[tuple[str, str]]:
    """Every object of the cache in this folder: its path, and its hash, which is its name."""
    for folder in sorted(os.listdir(cache)) if os.path.isdir(cache) else ():
        if TWO_DIGITS.fullmatch(folder):
            for name in sorted(os.listdir(os.path.join(cache, folder))):
                if OBJECT.fullmatch(name):
                    yield os.path.join(cache, folder, name), folder + name
