"""The stages of two datasets side by side, in a real repository with quick commands."""

import os
import subprocess
import sys

import pytest

from tests import ROOT
from tools.repro import explained
from tools.tiny_project import environment

pytestmark = pytest.mark.slow
DVC_YAML = """
stages:
  first:
    foreach: ${datasets}
    do:
      cmd: test ${key} != broken && sleep 0.${item.wait} && echo ${key} > first_${key}
      params: ["datasets.${key}"]
      outs: ["first_${key}"]
  second:
    foreach: ${datasets}
    do:
      cmd: cp first_${key} second_${key}
      deps: ["first_${key}"]
      outs: ["second_${key}"]
"""


def make(folder, *datasets):
    folder.mkdir()
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True, env=environment())
    (folder / "dvc.yaml").write_text(DVC_YAML)
    rows = [f"  {name}: {{wait: {9 - 2 * i}}}\n" for i, name in enumerate(datasets)]
    (folder / "params.yaml").write_text("datasets:\n" + "".join(rows))
    return folder


def repro(folder, *arguments):
    given = environment(PYTHONPATH=str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    command = [sys.executable, "-m", "tools.repro", *arguments]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)


def test_side_by_side_or_one_after_the_other_dvc_lock_has_the_same_bytes(tmp_path):
    locks = []
    for jobs in ("1", "3"):
        folder = make(tmp_path / jobs, "b", "a", "c")  # the first takes longest
        done = repro(folder, "--jobs", jobs)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (folder / "second_c").read_text() == "c\n"
        locks.append((folder / "dvc.lock").read_bytes())
    assert "a | Running stage 'first@a'" in done.stdout
    assert locks[0] == locks[1]


def test_a_dataset_that_fails_stops_no_other_and_is_named_at_the_end(tmp_path):
    folder = make(tmp_path / "project", "broken", "sound")
    done = repro(folder, "--jobs", "2")
    assert done.returncode == 1
    assert done.stderr == "error: dvc failed for broken: what it said is above\n"
    assert (folder / "second_sound").read_text() == "sound\n"
    assert "second@sound:" in (folder / "dvc.lock").read_text()


def test_what_would_run_is_told_with_its_reasons_and_what_never_ran_as_such():
    changed = [{"changed deps": {"stages/lib/train": "modified", "params.yaml": {"datasets.a.train": "modified"}}}]
    many = [{"changed outs": {f"out{i}": "deleted" for i in range(6)}}, "always changed"]
    status = {"check": changed, "train@a": changed, "export@a": many, "ingest@b": changed}
    lines = explained(status, {"train@a", "export@a"})
    assert lines[1:-1] == [
        "  train@a: stages/lib/train (modified), datasets.a.train (modified)",
        "  export@a: out0 (deleted), out1 (deleted), out2 (deleted), out3 (deleted) and 3 more",
        "  ingest@b: it never ran",
    ]
    assert explained({}, set()) == explained({"check": changed}, set())
