"""dvc.lock cut off at every place where a kill can leave it, in a real repository."""

import contextlib
import json

import pytest

from stages.lib.core.errors import UserError
from tests.made_project import Project
from tools import mend_lock


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A committed project of one dataset, and the text of its dvc.lock."""
    project = Project(tmp_path_factory.mktemp("mend") / "project")
    project.dataset("pets")
    project.commit("First")
    return project, (project.root / "dvc.lock").read_text()


@pytest.fixture
def project(made, monkeypatch):
    """The project as it was committed."""
    made[0].git("reset", "-q", "--hard")
    (made[0].root / "dvc.lock.broken").unlink(missing_ok=True)
    monkeypatch.chdir(made[0].root)
    return made[0]


def status() -> dict:
    """What dvc says is stale; it reads dvc.lock first."""
    from dvc.repo import Repo

    with Repo() as repo:
        return repo.status()


def test_a_whole_lock_is_left_as_it_is_without_a_word(project, made):
    assert mend_lock.mend() == ""
    assert (project.root / "dvc.lock").read_text() == made[1]
    assert not (project.root / "dvc.lock.broken").exists()


@pytest.mark.parametrize("end", [0, 5, 30, 200])
def test_a_first_lock_cut_off_that_git_does_not_know_is_made_anew(project, made, monkeypatch, end):
    monkeypatch.setattr(mend_lock, "committed", lambda: "")
    lock = project.root / "dvc.lock"
    lock.write_text(made[1][:end])
    assert "dvc.lock was incomplete" in mend_lock.mend()
    assert not lock.exists()
    assert status()


def test_a_lock_cut_off_anywhere_is_that_of_git_again(project, made):
    lock = project.root / "dvc.lock"
    text = made[1]
    lines = [at + 1 for at, letter in enumerate(text[:-1]) if letter == "\n"]
    for end in (0, 5, *lines[::7], *range(23, len(text) - 1, 307)):
        lock.write_text(text[:end])
        assert "was incomplete, as after a kill while dvc wrote it" in mend_lock.mend()
        assert lock.read_text() == text, f"cut off after {end} characters"
        assert (project.root / "dvc.lock.broken").read_text() == text[:end]
    assert status() == {}


def test_a_cut_between_two_stages_which_dvc_can_read_is_noticed_too(project, made):
    text = made[1]
    (project.root / "dvc.lock").write_text(text[: text.index("  train@pets:")])
    assert "0 stages are as it had them, 3 as of git's HEAD" in mend_lock.mend()
    assert (project.root / "dvc.lock").read_text() == text


def test_what_is_newer_than_git_and_whole_is_kept(project, made):
    text = made[1]
    newer = text.replace("cmd: 'true'", "cmd: 'false'", 1)
    assert newer != text
    (project.root / "dvc.lock").write_text(newer[: newer.index("  train@pets:") + 30])
    mend_lock.mend()
    assert (project.root / "dvc.lock").read_text() == newer


def test_stages_of_a_dataset_that_was_dropped_do_not_come_back(project, made):
    project.write("params.yaml", json.dumps({"datasets": {"other": {}}}))
    (project.root / "dvc.lock").write_text("schema: '2.0'\nstages:\n")
    mend_lock.mend()
    assert not (project.root / "dvc.lock").exists()  # dvc would refuse one without a stage


def test_without_a_commit_what_is_whole_is_kept(project, made, tmp_path, monkeypatch):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((project.root / name).read_text())
    (tmp_path / "dvc.lock").write_text(made[1][:-40])
    monkeypatch.chdir(tmp_path)
    mend_lock.mend()
    assert (tmp_path / "dvc.lock").read_text() == made[1][: made[1].index("  validate@pets:")]


def test_a_conflict_of_a_merge_is_for_people(project, made):
    conflict = "<<<<<<< HEAD\n" + made[1] + "=======\n>>>>>>> other\n"
    (project.root / "dvc.lock").write_text(conflict)
    with pytest.raises(UserError, match="dvc.lock has conflicts of a git merge"):
        mend_lock.mend()
    assert (project.root / "dvc.lock").read_text() == conflict


@pytest.mark.parametrize("content", ["", '{"write": {"data', '{"read": {}, "write": {}}'])
def test_a_half_written_list_of_dvcs_readers_and_writers_is_removed(project, content):
    project.write(".dvc/tmp/rwlock", content)
    broken = not content.endswith("}}")
    assert ("was half-written" in mend_lock.mend_rwlock()) == broken
    assert (project.root / ".dvc/tmp/rwlock").exists() != broken
    with contextlib.suppress(FileNotFoundError):
        (project.root / ".dvc/tmp/rwlock").unlink()
