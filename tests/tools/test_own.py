"""A clone becomes somebody's own project, and takes a later version of the repository it came from."""

import json
import re
import shutil

import pytest
from ruamel.yaml import YAML

from stages.lib.core.errors import UserError
from tests import ROOT
from tests.demos import needs_demos
from tools import merge_upstream, tiny_project
from tools.init import __main__ as init
from tools.init import block
from tools.tiny_project import run

pytestmark = [pytest.mark.slow, needs_demos]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """This repository as its first version, with one commit."""
    folder = tmp_path_factory.mktemp("own") / "upstream"
    for name in tiny_project.project_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "One")
    return folder


@pytest.fixture
def upstream(first, tmp_path):
    """The repository, to be changed."""
    run(tmp_path, "git", "clone", "-q", str(first), "upstream")
    return tmp_path / "upstream"


@pytest.fixture
def clone(upstream, tmp_path, monkeypatch):
    """A clone of it, which the tests are in."""
    run(tmp_path, "git", "clone", "-q", str(upstream), "mine")
    monkeypatch.chdir(tmp_path / "mine")
    for name, value in tiny_project.environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path / "mine"


def change(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def commit(folder, message):
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", message)


def test_without_the_demos_a_clone_is_clean_committed_and_knows_upstream(clone, capsys):
    (clone / "data/digits").mkdir(parents=True)
    init.main(["--own"])
    assert "tools.merge_upstream upstream/main" in capsys.readouterr().out
    assert run(clone, "git", "status", "--porcelain") == ""
    assert run(clone, "git", "remote").split() == ["upstream"]
    assert not [name for name in ("dvc.lock", "metrics/digits", "data/digits") if (clone / name).exists()]
    changed = run(clone, "git", "show", "--name-only", "--format=").split()
    assert {name.partition("/")[0] for name in changed} == {"params.yaml", "dvc.yaml", "dvc.lock", "metrics"}
    shipped, now = ((folder / "params.yaml").read_text() for folder in (ROOT, clone))
    head, _, rest = shipped.partition("datasets:\n")
    assert now == f"{head}datasets: {{}}\n\n{rest[rest.index('machine:') :]}"
    assert "has no data set yet" in run(clone, "python", "-m", "stages.check")
    run(clone, "dvc", "repro", "-q")
    with pytest.raises(SystemExit, match="taken out already"):
        commit(clone, "The lock of the check")
        init.main(["--own"])


def test_ones_own_data_set_keeps_its_block_its_comments_and_its_lock(clone):
    change(clone, "params.yaml", "datasets:\n", "datasets:\n\n  mine:  # first\n    # what I chose\n    ingest: {}\n")
    change(clone, "params.yaml", "    ingest: {}\n", "    ingest: {}\n" + "".join(
        f"    {stage}: {{}}\n" for stage in ("split", "statistics", "dataset", "train", "validate", "export")
    ))  # fmt: skip
    lock = (clone / "dvc.lock").read_text()
    one = re.search(r"  split@digits:\n(?:    .*\n)+", lock)[0].replace("digits", "mine")
    (clone / "dvc.lock").write_text(lock + one)
    commit(clone, "Mine")
    init.main(["--own"])
    text = (clone / "params.yaml").read_text()
    assert "  mine:  # first\n    # what I chose\n    ingest: {}\n" in text and "digits:" not in text
    assert set(YAML(typ="safe").load(clone / "dvc.lock")["stages"]) == {"split@mine", "check"}


@pytest.mark.parametrize("spoil", ["dirty", "edited"])
def test_what_would_be_lost_ends_it_before_anything_is_changed(clone, spoil):
    if spoil == "dirty":
        (clone / "notes.txt").write_text("not committed")
        said = r"does not have all that is here \(notes.txt\)"
    else:
        change(clone, "dvc.yaml", "  digits: {path", "  digits:\n    {path")
        commit(clone, "Edited")
        said = "edited"
    before = run(clone, "git", "status", "--porcelain")
    with pytest.raises(SystemExit, match=said):
        init.main(["--own"])
    assert run(clone, "git", "status", "--porcelain") == before


def test_a_first_block_and_a_second_one_can_be_added_to_no_data_sets(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("# above\ndatasets: {}  # beside\n\nmachine: {workers: 0}\n")
    stages = ("ingest", "split", "statistics", "dataset", "train", "validate", "export")
    for name in ("one", "two"):
        block.insert(path, f"  {name}:  # pictures\n" + "".join(f"    {stage}: {{}}\n" for stage in stages))
    text = path.read_text()
    assert list(YAML(typ="safe").load(text)["datasets"]) == ["one", "two"]
    assert text.startswith("# above\ndatasets:  # beside\n  one:  # pictures\n")
    assert (
        block.without(block.without(text, ["two"]), ["one"])
        == "# above\ndatasets: {}  # beside\n\nmachine: {workers: 0}\n"
    )


def test_a_later_version_conflicts_in_nothing_of_ones_own_and_reruns_what_its_code_concerns(upstream, clone, capsys):
    init.main(["--own"])
    block_of_tiny = "  tiny:\n" + "".join(f"    {k}: {json.dumps(v)}\n" for k, v in tiny_project.TINY.items())
    change(clone, "params.yaml", "datasets: {}\n", f"datasets:\n{block_of_tiny}")
    tiny_project.write_pictures(clone)
    run(clone, "dvc", "repro", "-q")
    commit(clone, "Tiny")
    mine = {path: (clone / path).read_bytes() for path in ("params.yaml", "dvc.lock", "metrics/tiny/validate.json")}

    change(upstream, "stages/lib/validate/scores.py", '"""', '"""A new version of this docstring. ')
    change(upstream, "params.yaml", "epochs: 16", "epochs: 17")
    change(upstream, "params.yaml", "machine: {workers: 0", "machine: {workers: 2")
    change(upstream, "dvc.lock", "schema: '2.0'", "schema: '2.0'  # changed")
    (upstream / "metrics/digits/train.json").write_text("{}")
    (upstream / "metrics/new").mkdir()
    (upstream / "metrics/new/train.json").write_text("{}")
    commit(upstream, "Two")

    run(clone, "git", "fetch", "-q", "upstream")
    capsys.readouterr()
    assert merge_upstream.merge("upstream/main") == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("  ")] == ["  validate@tiny"]
    assert "stages/lib/validate (modified)" in said
    assert {path: (clone / path).read_bytes() for path in mine} == mine
    assert run(clone, "git", "status", "--porcelain") == ""
    assert run(clone, "git", "ls-files", "metrics").split("/")[1] == "tiny"
    assert "Two" in run(clone, "git", "log", "--format=%s")
    ran = run(clone, "dvc", "repro")
    assert re.findall(r"Running stage '(.*?)'", ran) == ["validate@tiny"]
    assert (clone / "metrics/tiny/validate.json").read_bytes() == mine["metrics/tiny/validate.json"]
    commit(clone, "Validated by the new version")
    assert merge_upstream.merge("upstream/main") == 0
    assert "merged already" in capsys.readouterr().out


def test_code_that_both_sides_changed_is_left_to_a_person_and_what_is_ones_own_is_settled(upstream, clone, capsys):
    init.main(["--own"])
    change(clone, "stages/lib/validate/scores.py", '"""', '"""Mine. ')
    commit(clone, "Mine")
    change(upstream, "stages/lib/validate/scores.py", '"""', '"""Theirs. ')
    change(upstream, "params.yaml", "epochs: 16", "epochs: 17")
    commit(upstream, "Two")
    run(clone, "git", "fetch", "-q", "upstream")
    assert merge_upstream.merge("upstream/main") == 1
    assert "the same lines of stages/lib/validate/scores.py" in capsys.readouterr().out
    assert run(clone, "git", "status", "--porcelain").split() == ["UU", "stages/lib/validate/scores.py"]
    run(clone, "git", "merge", "--abort")
    assert run(clone, "git", "status", "--porcelain") == ""


def test_a_key_that_a_later_version_does_not_know_is_named(upstream, clone, capsys):
    init.main(["--own"])
    change(clone, "params.yaml", "report:\n", "report:\n  confidence: 0.9\n")
    commit(clone, "A key of a later version")
    (upstream / "NEWS").write_text("nothing")
    commit(upstream, "Two")
    run(clone, "git", "fetch", "-q", "upstream")
    assert merge_upstream.merge("upstream/main") == 1
    assert "report.confidence" in capsys.readouterr().out


@pytest.mark.parametrize("revision", ["upstream/nothing", "--abort"])
def test_a_revision_that_is_not_there_is_named(clone, revision):
    with pytest.raises(UserError, match="is not known here"):
        merge_upstream.merge(revision)


def test_another_repository_is_not_merged(clone, tmp_path):
    run(tmp_path, "git", "init", "-q", "-b", "main", "other")
    (tmp_path / "other" / "a").write_text("a")
    commit(tmp_path / "other", "One")
    run(clone, "git", "fetch", "-q", str(tmp_path / "other"), "main:other")
    with pytest.raises(UserError, match="no commit in common"):
        merge_upstream.merge("other")
