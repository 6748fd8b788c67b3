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


def run(script, root, **variables):
    """Runs a script of .ci/ in a made project, with the tools of this one."""
    (root / ".ci").mkdir(exist_ok=True)
    shutil.copy(ROOT / ".ci" / script, root / ".ci" / script)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(root.parent)} | variables
    return subprocess.run([str(root / ".ci" / script)], env=environment, capture_output=True, text=True)


@pytest.fixture
def no_packages(tmp_path):
    """A PATH whose python3 finds no installed package."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    return f"{tmp_path / 'bin'}:/usr/bin:/bin"


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
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("gitlab-ci", [ROOT / ".gitlab-ci.yml"]),
        ("dependabot", [ROOT / ".github" / "dependabot.yml"]),
    ],
)
def test_the_workflows_fit_their_schema(schema, files, tmp_path):
    def check(*paths):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True)

    assert len(files) >= 1
    done = check(*files)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / files[0].name
    broken.write_text(re.sub(r"\b(script|steps|interval):", "stepps:", files[0].read_text()))
    assert check(broken).returncode == 1


def test_every_shell_step_is_a_make_target_or_a_script():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    found = [step for file in [*WORKFLOWS, ROOT / ".gitlab-ci.yml"] for step in steps(YAML(typ="safe").load(file))]
    assert len(found) >= 8
    for step in found:
        script = ROOT / step
        assert step.removeprefix("make ") in targets or script.is_file() and os.access(script, os.X_OK), step


def test_the_scripts_are_the_ones_that_are_tested_here():
    assert {path.name for path in (ROOT / ".ci").iterdir()} == {"run", "report", "comment", "retrain", "propose"}


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
def test_a_pull_request_gets_its_report_as_summary_and_files_without_a_token(tmp_path):
    project = Project(tmp_path / "project")
    project.dataset("digits")
    project.commit()
    project.dataset("digits", wrong=range(0, 300, 9))
    project.commit()
    summary = tmp_path / "summary.md"
    variables = {"BASE": "HEAD^1", "GITHUB_STEP_SUMMARY": str(summary), "LINKS": "https://example.org/"}
    done = run("report", project.root, **variables)
    assert done.returncode == 3, done.stderr  # a gate refuses it, after everything is written
    page = (project.root / "report.md").read_text()
    assert "digits: worse" in page
    assert summary.read_text() == page
    assert (project.root / "report.json").exists()


def test_the_comment_is_posted_without_any_package(tmp_path, forge, no_packages):
    (tmp_path / "job" / "report").mkdir(parents=True)
    (tmp_path / "job" / "report" / "report.md").write_text("digits: worse")
    for variables in (forge.github(), forge.github(), forge.gitlab()):
        done = run("comment", tmp_path / "job", PATH=no_packages, REPORT="report/report.md", **variables)
        assert done.returncode == 0, done.stderr
    assert [entry["body"].splitlines()[-1] for entry in forge.comments] == ["digits: worse"]


def test_without_a_token_or_a_report_there_is_no_comment_and_it_is_said(tmp_path, forge):
    (tmp_path / "job").mkdir()
    done = run("comment", tmp_path / "job")
    assert done.returncode == 0 and done.stdout.startswith("no token, no comment")
    done = run("comment", tmp_path / "job", **forge.github())
    assert done.returncode == 1 and done.stderr == "there is no report.md: the job before says why\n"
    assert forge.comments == []


@pytest.mark.slow
def test_a_report_that_cannot_be_made_fails_and_leaves_no_old_page(tmp_path):
    project = Project(tmp_path / "project")
    project.dataset("digits")
    project.commit()
    project.write("report.md", "of another time")
    done = run("report", project.root, BASE="nowhere")
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
    project.write(".gitignore", "/data\n/proposal\n/.ci\n")
    for verb in ("repro", "push"):
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)} | {
            "IDENTIFIER_KEY": ""
        }
        subprocess.run(["dvc", verb, "-q"], cwd=project.root, env=environment, check=True)
    project.commit(lock=False)
    project.git("push", "-q", str(tmp_path / "origin.git"), "main")
    git(tmp_path, "clone", "-q", "origin.git", "job")
    return tmp_path / "job"


@pytest.mark.slow
def test_retraining_on_the_same_data_leaves_nothing_to_propose(retrained, forge):
    done = run("retrain", retrained)
    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout
    assert (retrained / "data/digits/cases").exists()  # pulled: the stage did not run
    assert "Running stage" not in done.stdout
    done = run("propose", retrained, **forge.github())
    assert (done.returncode, done.stdout) == (0, "nothing to propose\n") and forge.pull_requests == []


@pytest.mark.slow
def test_retraining_with_other_params_pushes_the_data_and_proposes_the_change(retrained, forge, no_packages):
    output = retrained.parent / "output"
    done = run("retrain", retrained, SET="datasets.digits.train.epochs=30", GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    assert output.read_text() == "changed=yes\n"
    # Another job, in a clone of the last commit alone, has the token and none of the packages.
    proposing = clone(retrained.parent, "proposing", "--depth=1")
    shutil.copytree(retrained / "proposal", proposing / "proposal")
    done = run("propose", proposing, PATH=no_packages, **forge.github())
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("opened a pull request\n")
    (proposed,) = forge.pull_requests
    assert proposed["title"] == "Retrain with datasets.digits.train.epochs=30"
    assert "digits: better" in proposed["body"] and "datasets.digits.train.epochs" in proposed["body"]
    reviewer = clone(retrained.parent, "reviewer", "--branch=retrain")
    assert re.search(r'"?epochs"?: 30', (reviewer / "params.yaml").read_text())


def clone(folder, name, *options):
    git(folder, "clone", "-q", *options, f"file://{folder / 'origin.git'}", name)
    return folder / name


@pytest.fixture
def proposing(tmp_path):
    """A clone in which a commit waits in proposal/ that changes params.yaml and one file more, which `others` names."""

    def make(other):
        git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
        project = Project(tmp_path / "project")
        project.commit(lock=False)
        project.git("push", "-q", str(tmp_path / "origin.git"), "main")
        project.params["datasets"] = {"digits": {"train": {"epochs": 30}}}
        project.write(other, "changed")
        project.commit("Retrain", lock=False)
        job = clone(tmp_path, "job")
        (job / "proposal").mkdir()
        (job / "proposal" / "report.md").write_text("digits: better")
        project.git("bundle", "create", "-q", str(job / "proposal" / "commit.bundle"), "HEAD^..HEAD")
        return job

    return make


@pytest.mark.parametrize("other", [".github/workflows/new.yml", "stages/train.py", "sub/params.yaml", ".dvc/config"])
def test_a_retraining_that_changed_more_than_results_is_not_pushed(proposing, forge, other):
    job = proposing(other)
    done = run("propose", job, **forge.github())
    assert done.returncode == 1
    assert done.stderr == f"refused: retraining changed more than params, data and metrics:\n{other}\n"
    assert forge.pull_requests == [] and "retrain" not in git(job, "ls-remote", "--heads", "origin")


@pytest.mark.parametrize("other", ["metrics/digits/validate.json", "dvc.lock", "data/raw/mine.dvc"])
def test_changed_results_are_pushed_to_a_branch_of_their_own(proposing, forge, other):
    job = proposing(other)
    assert run("propose", job, **forge.gitlab()).returncode == 0
    assert git(job, "ls-remote", "--heads", "origin", "retrain") and len(forge.pull_requests) == 1


def test_git_is_told_the_token_only_when_it_asks(tmp_path):
    """As git does: the helper's last argument is what is wanted, and the answer is read from its output."""
    script = (ROOT / ".ci" / "propose").read_text()
    helper = re.search("^helper='!(.*)'$", script, re.MULTILINE)[1]
    asked = subprocess.run(["sh", "-c", f"{helper} get"], env={"TOKEN": "glpat-1"}, capture_output=True, text=True)
    assert asked.stdout.splitlines() == ["username=x-access-token", "password=glpat-1"]
    assert "oauth2:" not in (ROOT / ".gitlab-ci.yml").read_text() and "TOKEN}@" not in script
