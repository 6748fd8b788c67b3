"""A job of the workflows sees the secrets that it needs, and one that runs a stranger's code sees none."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {path.stem: YAML(typ="safe").load(path) for path in FILES}
JOBS = {f"{name}/{job}": content for name, flow in WORKFLOWS.items() for job, content in flow["jobs"].items()}
GITLAB = YAML(typ="safe").load(ROOT / ".gitlab-ci.yml")
GITLAB_JOBS = {name: job for name, job in GITLAB.items() if isinstance(job, dict) and "script" in job}
SECRET = re.compile(r"secrets\.|github\.token")
NO_FORK = "github.event.pull_request.head.repo.full_name == github.repository"


def test_every_action_is_pinned_by_a_commit_with_its_version_beside_it():
    lines = [line.strip() for path in FILES for line in path.read_text().splitlines() if "uses:" in line]
    assert len(lines) >= 9
    for line in lines:
        assert re.fullmatch(r"- uses: [\w/.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    assert len(set(lines)) == len({line.partition("@")[0] for line in lines})  # one version of each action


def test_no_workflow_has_a_permission_and_each_job_has_its_own():
    assert all(flow["permissions"] == {} for flow in WORKFLOWS.values())
    may_write = {
        name: {key for key, value in job["permissions"].items() if value == "write"} for name, job in JOBS.items()
    }
    assert {name: keys for name, keys in may_write.items() if keys} == {
        "report/comment": {"pull-requests"},
        "retrain/propose": {"contents", "pull-requests"},
    }


def test_no_checkout_leaves_a_token_on_the_disk():
    checkouts = [step for job in JOBS.values() for step in job["steps"] if "checkout@" in step.get("uses", "")]
    assert len(checkouts) == len(JOBS)
    assert all(step["with"]["persist-credentials"] is False and "token" not in step["with"] for step in checkouts)


def test_what_a_fork_can_start_sees_no_secret():
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & {
        key for flow in WORKFLOWS.values() for key in on(flow)
    }
    of_strangers = {name: JOBS[name] for name in JOBS if "pull_request" in on(WORKFLOWS[name.partition("/")[0]])}
    assert set(of_strangers) == {"check/test", "report/report", "report/comment"}
    seeing = {name for name, job in of_strangers.items() if SECRET.search(str(job))}
    assert seeing == {"report/comment"} and NO_FORK in of_strangers["report/comment"]["if"]


def on(flow):
    return [flow["on"]] if isinstance(flow["on"], str) else list(flow["on"])


def test_the_job_with_the_token_runs_no_code_of_the_pull_request():
    checkout, download, script = JOBS["report/comment"]["steps"]
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert not (ROOT / download["with"]["path"]).exists()  # a folder of its own, where it replaces no script
    assert script["run"] == ".ci/comment"


def test_secrets_are_those_of_a_protected_environment():
    found = {name: set(re.findall(r"secrets\.(\w+)", str(job))) for name, job in JOBS.items()}
    assert {name: secrets for name, secrets in found.items() if secrets} == {
        "retrain/retrain": {"IDENTIFIER_KEY"},
        "retrain/propose": {"RETRAIN_TOKEN"},
    }
    assert {name: job["environment"] for name, job in JOBS.items() if "environment" in job} == {
        "retrain/retrain": "retrain",
        "retrain/propose": "propose",
    }


def test_on_gitlab_the_jobs_with_secrets_start_on_the_default_branch_alone():
    scopes = {name: job["environment"]["name"] for name, job in GITLAB_JOBS.items() if "environment" in job}
    assert scopes == {"comment": "comment", "retrain": "retrain", "propose": "propose"}
    for name in ("retrain", "propose"):
        for rule in GITLAB_JOBS[name]["rules"]:
            assert rule["if"].endswith("&& $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH")
            assert "merge_request" not in rule["if"]


def test_on_gitlab_a_fork_gets_no_comment_and_no_secret_is_named_in_the_file():
    (rule,) = GITLAB_JOBS["comment"]["rules"]
    assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID" in rule["if"]
    assert not re.search(r"\$\{?\w*(TOKEN|KEY|SECRET|PASSWORD)", (ROOT / ".gitlab-ci.yml").read_text())


def test_every_secret_of_the_workflows_is_explained():
    page = (ROOT / "docs" / "reviewing.md").read_text()
    named = set(re.findall(r"secrets\.(\w+)", " ".join(map(str, JOBS.values())))) | {"GITLAB_TOKEN"}
    assert [name for name in sorted(named) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("name", "old", "new", "finding"),
    [
        ("check.yml", r"@[0-9a-f]{40} # v.*", "@v4", "unpinned-uses"),
        ("check.yml", r"\n        with:\n          persist-credentials: false", "", "artipacked"),
        ("check.yml", "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        ("retrain.yml", "run: .ci/retrain", "run: .ci/retrain ${{ inputs.set }}", "template-injection"),
    ],
)
def test_lint_finds_what_gives_away_a_secret(tmp_path, name, old, new, finding):
    assert re.search(r"^\tzizmor --offline --quiet \.github$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    assert zizmor(tmp_path).returncode == 0, zizmor(tmp_path).stdout
    broken = tmp_path / ".github" / "workflows" / name
    broken.write_text(re.sub(old, new, broken.read_text()))
    done = zizmor(tmp_path)
    assert done.returncode > 0 and finding in done.stdout


def zizmor(folder):
    command = [Path(sys.executable).parent / "zizmor", "--offline", "--quiet", "--no-progress", ".github"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
