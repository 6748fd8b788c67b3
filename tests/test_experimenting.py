"""docs/experimenting.md and reviewing.md as written, on a pipeline that takes seconds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import HANG_SECONDS, ROOT
from tests.demos import needs_demos
from tests.made_project import METRICS, Project, git

REVIEWING = (ROOT / "docs" / "reviewing.md").read_text()
GUIDE = (ROOT / "docs" / "experimenting.md").read_text()
BLOCKS = re.findall(r"^## (?P<title>.*?)$|^```bash\n(?P<block>.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
DVC_YAML = f"""
stages:
  train:
    foreach: ${{datasets}}
    do:
      cmd: python make.py ${{key}}
      params: ["datasets.${{key}}.train"]
      deps: [make.py]
      outs: ["data/${{key}}/cases", "models/${{key}}/model.onnx"]
      metrics: {METRICS}
artifacts:
  digits: {{path: models/digits/model.onnx, type: model}}
"""
MAKE_PY = """
import pathlib, sys
from ruamel.yaml import YAML
from tests import made_project
params = YAML(typ="safe").load(pathlib.Path("params.yaml"))["datasets"][sys.argv[1]]["train"]
wrong = range(params.get("seed", 0), 300, 12 if params["lr"] < 0.1 else 30)  # a higher rate does better
made_project.write_results(pathlib.Path(), sys.argv[1], wrong)
model = pathlib.Path("models", sys.argv[1], "model.onnx")
model.parent.mkdir(parents=True, exist_ok=True)
model.write_text(str(params))
"""
PARAMS = (ROOT / "params.yaml").read_text()  # as it ships: the guide's keys are there, or have a plus
PREPARE = {  # what has happened before a section begins
    "Two people changed the same dataset": """
        git switch --quiet --create colleague HEAD^
        sed -i 's/threads: 1$/threads: 2/' params.yaml
        dvc repro --quiet
        git commit --quiet --all --message "Train longer"
        git switch --quiet main
    """
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    git(folder, "init", "-q", "--bare", "-b", "main", "origin.git")
    project = Project(folder / "project")
    for path, text in (("dvc.yaml", DVC_YAML), ("make.py", MAKE_PY), ("params.yaml", PARAMS)):
        project.write(path, text)
    project.write(".gitignore", "/data\n/models\n/report.*\n__pycache__\n")
    assert run(project, "dvc repro --quiet && git add -A && git commit -q -m Train").returncode == 0
    project.git("remote", "add", "origin", str(folder / "origin.git"))
    return project


def run(project, script):
    """A block of commands in one shell, which stops at the first that fails."""
    script = script.replace("/srv/team", str(project.root.parent / "team"))
    people = {
        f"GIT_{who}_{what}": "nobody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "HOME": str(project.root.parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=project.root, env=environment | people, capture_output=True, text=True, timeout=HANG_SECONDS
    )


@needs_demos
@pytest.mark.slow
def test_every_command_of_reviewing_runs_as_it_is_written(project):
    prepared = """
        git branch topic
        dvc exp run --quiet --name wavy-dove --set-param datasets.digits.train.lr=0.03
        git checkout -q -- params.yaml dvc.lock metrics && dvc checkout -q
    """
    assert run(project, prepared).returncode == 0
    printed = ""
    for block in re.findall(r"^```sh\n(.*?)^```$", REVIEWING, re.MULTILINE | re.DOTALL):
        done = run(project, block)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    assert "| datasets.digits.train.lr | 0.01 | 0.02 |" in printed
    assert "| datasets.digits.train.lr | 0.02 | 0.03 |" in printed
    undone = run(
        project,
        "git checkout -q -- params.yaml dvc.lock metrics && dvc checkout -q && dvc exp remove -q other-rate wavy-dove "
        "&& git branch -qD topic",
    )
    assert undone.returncode == 0, undone.stderr


@needs_demos
@pytest.mark.slow
def test_the_guide_runs_as_it_is_written(project):
    printed: dict[str, str] = {}
    title = ""
    for heading, block in BLOCKS:
        if heading:
            title = heading
            if title in PREPARE:
                done = run(project, PREPARE[title])
                assert done.returncode == 0, done.stderr
            continue
        done = run(project, block)
        assert done.returncode == 0, f"{title}\n{block}\n{done.stdout}\n{done.stderr}"
        printed[title] = printed.get(title, "") + done.stdout
    assert "faster" in printed["Try a parameter"]
    queue = printed["Queue several, or a grid, and let them run"]
    assert queue.count("Queued experiment") == 3 and "0.02" in queue and "0.05" in queue
    assert "digits: better on 300 cases" in (project.root / "report.md").read_text()
    assert "digits: no difference" in printed["Is one better than the other?"]
    assert "CONFLICT" in printed["Two people changed the same dataset"]
    merged = (project.root / "params.yaml").read_text()
    assert re.search("lr: 0.1 +# the peak", merged) and "threads: 2" in merged
    assert run(project, "dvc status").stdout == "Data and pipelines are up to date.\n"
    assert "Data and pipelines are up to date." in printed["Share the data"]
    model = (project.root / "models/digits/model.onnx").read_text()
    assert (project.root.parent / "model.onnx").read_text() == model
    assert (project.root.parent / "in-production.onnx").read_text() == model
    assert "digits@v1.0.0" in git(project.root.parent / "origin.git", "tag")


def test_the_artifacts_are_files_that_the_pipeline_exports():
    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")
    spelt = [next(iter(out)) if isinstance(out, dict) else out for out in pipeline["stages"]["export"]["do"]["outs"]]
    for name, artifact in pipeline["artifacts"].items():
        assert artifact["path"] in [out.replace("${key}", name) for out in spelt]
