"""The key that hides names: refused where it hides nothing, and told of where others may read it."""

import os

import pytest

from stages.lib.core.errors import UserError
from stages.lib.ingest.identifiers import KEY_VARIABLE, load_key

GOOD = "0123456789abcdef"


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path / ".identifier_key"


@pytest.mark.parametrize("key", ["", "\n", "   " * 20, "too short"])
def test_an_empty_or_short_key_is_refused_wherever_it_comes_from(key_file, monkeypatch, key):
    key_file.write_text(key)
    with pytest.raises(UserError, match=r"\.identifier_key holds a key of \d characters, expected 16 or more"):
        load_key("keyed", key_file)
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(UserError, match=f"variable {KEY_VARIABLE} holds a key of"):
        load_key("keyed", key_file)
    assert key_file.read_text() == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_used_and_told_of(key_file, capsys, mode):
    key_file.write_text(GOOD)
    key_file.chmod(mode)
    assert load_key("keyed", key_file) == GOOD.encode()
    said = capsys.readouterr().err
    assert f"chmod 600 {key_file}" in said
    assert GOOD not in said


def test_a_made_key_is_its_owners_and_needs_no_warning(key_file, capsys):
    assert load_key("keyed", key_file) == load_key("keyed", key_file)
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().err == ""
    assert os.listdir(key_file.parent) == [key_file.name]


def test_what_is_no_file_is_neither_waited_for_nor_replaced(key_file):
    os.mkfifo(key_file)
    with pytest.raises(UserError, match=r"\.identifier_key can't be read .a pipe"):
        load_key("keyed", key_file)
    key_file.unlink()
    key_file.symlink_to("gone")
    with pytest.raises(UserError, match=r"\.identifier_key can't be read .No such file"):
        load_key("keyed", key_file)
    key_file.unlink()
    key_file.mkdir()
    with pytest.raises(UserError, match=r"\.identifier_key can't be read .a folder"):
        load_key("keyed", key_file)


def test_a_key_that_is_no_text_is_named(key_file):
    key_file.write_bytes(b"\xff" * 20)
    with pytest.raises(UserError, match="is not UTF-8"):
        load_key("keyed", key_file)


def test_a_folder_where_no_key_can_be_made_is_told_with_the_way_out(key_file):
    with pytest.raises(UserError, match=f"can't be made .No such file or directory.*{KEY_VARIABLE}"):
        load_key("keyed", key_file.parent / "gone" / "key")


def test_an_experiment_that_dvc_runs_apart_takes_the_key_of_its_project(key_file, monkeypatch):
    key_file.write_text(GOOD)
    key_file.chmod(0o600)
    apart = key_file.parent / ".dvc" / "tmp" / "exps" / "tmpabc"
    apart.mkdir(parents=True)
    monkeypatch.chdir(apart)
    assert load_key("keyed") == GOOD.encode()
    assert not (apart / ".identifier_key").exists()
    (apart / ".identifier_key").write_text(GOOD[::-1])  # one of its own comes first
    (apart / ".identifier_key").chmod(0o600)
    assert load_key("keyed") == GOOD[::-1].encode()


def test_in_another_clone_a_new_key_is_made_and_told(key_file, tmp_path, monkeypatch, capsys):
    clone = tmp_path / "clone" / "project"
    clone.mkdir(parents=True)
    monkeypatch.chdir(clone)
    key_file.write_text(GOOD)
    assert load_key("keyed") != GOOD.encode()
    assert ".identifier_key is new" in capsys.readouterr().out
