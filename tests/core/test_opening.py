"""Opening what others made: nothing waits for a writer, and nothing but a regular file is read."""

import errno
import os
import socket

import pytest

from stages.lib.core import opening
from stages.lib.core.errors import UserError


@pytest.fixture
def odd(tmp_path):
    """What is no regular file, by name."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(tmp_path)  # a socket's whole path has 100 characters at most
        listening.bind("socket")
        os.chdir(here)
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fifo", "a pipe"),
        ("folder", "a folder"),
        ("device", "a device"),
        ("socket", "No such device"),
        ("loop", "symbolic links"),
        ("missing", "No such file"),
        ("n" * 300, "File name too long"),
    ],
)
def test_what_is_no_file_is_named_at_once_and_not_waited_for(odd, name, said):
    with pytest.raises(UserError, match=f"{name} can't be read .*{said}"):
        opening.read_text(odd / name)


def test_bytes_that_are_added_while_a_file_is_read_are_left_out(tmp_path, monkeypatch):
    """As else a file that somebody writes into for ever has no end."""
    (tmp_path / "log").write_bytes(b"before")
    read = os.read

    def growing(descriptor, size):
        with open(tmp_path / "log", "ab") as file:
            file.write(b"more")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", growing)
    assert opening.read(tmp_path / "log", 100)[0] == b"before"


def test_a_file_that_shrinks_while_it_is_read_is_what_is_left_of_it(tmp_path, monkeypatch):
    (tmp_path / "log").write_bytes(b"0123456789")
    read = os.read

    def shrinking(descriptor, size):
        content = read(descriptor, min(size, 4))
        os.truncate(tmp_path / "log", 4)
        return content

    monkeypatch.setattr(os, "read", shrinking)
    assert opening.read(tmp_path / "log", 100)[0] == b"0123"


def test_a_file_larger_than_any_may_be_is_not_read(tmp_path, monkeypatch):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(os, "read", lambda *given: pytest.fail("it was read"))
    with pytest.raises(OSError) as error:
        opening.read(tmp_path / "sparse", 1 << 30)
    assert error.value.errno == errno.EFBIG


def test_too_few_handles_are_no_fault_of_the_file(tmp_path, monkeypatch):
    def none_left(*given):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    (tmp_path / "a").write_text("a")
    monkeypatch.setattr(os, "open", none_left)
    with pytest.raises(UserError, match="ulimit -n 1024"):
        opening.read_text(tmp_path / "a")
