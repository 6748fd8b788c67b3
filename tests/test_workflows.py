"""The workflow files are valid, and the scripts that they run do what they promise."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.fake_forge import FakeForge
from tests.made_project import METRICS, Project, git

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RETRAINED = f"""
stages:
  validate:
    foreach: ${{datasets}}
    do:
      cmd: python make.py ${{key}}
      params: ["datasets.${{key}}.train"]
      outs: ["data/${{key}}/cases"]
      metrics: {METRICS}
"""
MAKE_PY = """
import os, pathlib, sys
from ruamel.yaml import YAML
from tests import made_project
assert os.environ["IDENTIFIER_KEY"] == "", "ingest would make a new key"
params = YAML(typ="safe").load(pathlib.Path("params.yaml"))["datasets"][sys.argv[1]]["train"]
made_project.write_results(pathlib.Path(), sys.argv[1], range(0, 300, params["epochs"]))
"""


@pytest.fixture
def forge():
    server = FakeForge()
    yield server
    server.shutdown()
    server.server_close()


def run(script, project, **variables):
    """Runs a script of .ci/ in a made project, with the tools of this one."""
    (project.root / ".ci").mkdir(exist_ok=True)
    shutil.copy(ROOT / ".ci" / script, project.root / ".ci" / script)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(project.root.parent)} | variables
    command = [str(project.root / ".ci" / script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def steps(tree):
    """Every shell command of a workflow, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("run", "script", "before_script", "after_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from steps(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from steps(value)


@pytest.mark.parametrize(
    ("schema", "files"), [("github-workflows", WORKFLOWS), ("gitlab-ci", [ROOT / ".gitlab-ci.yml"])]
)
def test_the_workflows_fit_their_schema(schema, files, tmp_path):
    def check(*paths):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True)

    assert len(files) >= 1
    done = check(*files)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / files[0].name
    broken.write_text(re.sub(r"\b(script|steps):", "stepps:", files[0].read_text()))
    assert check(broken).returncode == 1


def test_every_shell_step_is_a_make_target_or_a_script():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found = [step for file in [*WORKFLOWS, ROOT / ".gitlab-ci.yml"] for step in steps(YAML(typ="safe").load(file))]
    assert len(found) >= 8
    for step in found:
        script = ROOT / step
        assert step.removeprefix("make ") in targets or script.is_file() and os.access(script, os.X_OK), step


def test_the_scripts_are_the_ones_that_are_tested_here():
    assert {path.name for path in (ROOT / ".ci").iterdir()} == {"run", "report", "retrain"}


def test_a_package_that_cannot_be_installed_keeps_no_other_from_it_and_is_named(tmp_path):
    """On a machine that has some of the programs, and whose apt-get cannot install npm."""
    programs = {"id": "echo 0", "apt-get": f'echo "${{@: -1}}" >>{tmp_path}/asked; [ "${{@: -1}}" != npm ]'}
    programs |= dict.fromkeys(("google-chrome", "sshd", "node"), "") | {"make": 'echo "make $1"'}
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, script in programs.items():
        (bin / name).write_text(f"#!/bin/bash\n{script}\n")
        (bin / name).chmod(0o755)
    for name in ("bash", "dirname"):
        (bin / name).symlink_to(shutil.which(name))
    environment = {"PATH": str(bin), "CI": "true"}
    done = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=True)
    assert (tmp_path / "asked").read_text().split() == ["update", "cmake", "g++", "npm"]
    assert done.stdout == "npm could not be installed: the tests that need it are skipped\nmake test\n"


@pytest.mark.slow
def test_a_pull_request_gets_its_report_as_comment_summary_and_files(tmp_path, forge):
    project = Project(tmp_path / "project")
    project.dataset("digits")
    project.commit()
    project.dataset("digits", wrong=range(0, 300, 9))
    project.commit()
    summary = tmp_path / "summary.md"
    variables = forge.github() | {"BASE": "HEAD^1", "COMMENT": "yes", "GITHUB_STEP_SUMMARY": str(summary)}
    done = run("report", project, **variables, LINKS="https://example.org/")
    assert done.returncode == 3, done.stderr  # a gate refuses it, after everything is written
    page = (project.root / "report.md").read_text()
    assert "digits: worse" in page
    assert summary.read_text() == page and forge.comments[0]["body"].endswith(page)
    assert (project.root / "report.json").exists()
    assert len(forge.comments) == 1


@pytest.mark.slow
def test_a_report_that_cannot_be_made_fails_and_leaves_no_old_page(tmp_path):
    project = Project(tmp_path / "project")
    project.dataset("digits")
    project.commit()
    project.write("report.md", "of another time")
    done = run("report", project, BASE="nowhere")
    assert done.returncode == 1 and "nowhere is no branch" in done.stderr
    assert not (project.root / "report.md").exists()


@pytest.fixture
def retrained(tmp_path):
    """A clone as a CI job makes it; the git origin and the dvc remote are folders."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    project = Project(tmp_path / "project")
    project.write("dvc.yaml", RETRAINED)
    project.write("make.py", MAKE_PY)
    project.write(".dvc/config", f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'store'}\n")
    project.params["datasets"]["digits"] = {"train": {"epochs": 10}}
    project.write("params.yaml", '{"datasets": {"digits": {"train": {"epochs": 10}}}}')
    project.write(".gitignore", "/data\n/report.*\n/.ci\n")
    for verb in ("repro", "push"):
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)} | {
            "IDENTIFIER_KEY": ""
        }
        subprocess.run(["dvc", verb, "-q"], cwd=project.root, env=environment, check=True)
    project.commit(lock=False)
    project.git("push", "-q", str(tmp_path / "origin.git"), "main")
    git(tmp_path, "clone", "-q", "origin.git", "job")
    job = object.__new__(Project)
    job.root, job.params = tmp_path / "job", project.params
    return job


@pytest.mark.slow
def test_retraining_on_the_same_data_proposes_nothing(retrained, forge):
    done = run("retrain", retrained, **forge.github())
    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout and forge.pull_requests == []
    assert (retrained.root / "data/digits/cases").exists()  # pulled: the stage did not run
    assert "Running stage" not in done.stdout


@pytest.mark.slow
def test_retraining_with_other_params_pushes_the_data_and_proposes_the_change(retrained, forge):
    done = run("retrain", retrained, **forge.github() | {"SET": "datasets.digits.train.epochs=30"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("opened a pull request\n")
    (proposed,) = forge.pull_requests
    assert proposed["title"] == "Retrain with datasets.digits.train.epochs=30"
    assert "digits: better" in proposed["body"] and "datasets.digits.train.epochs" in proposed["body"]
    git(retrained.root.parent, "clone", "-q", "--branch=retrain", "origin.git", "reviewer")
    assert re.search(r'"?epochs"?: 30', (retrained.root.parent / "reviewer" / "params.yaml").read_text())
