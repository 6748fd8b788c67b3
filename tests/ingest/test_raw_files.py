"""The walk below data/raw: whatever lies there, it ends, and nothing is left out in silence."""

import errno
import os
import subprocess

import imageio.v3 as imageio
import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.ingest import inspection, raw_files
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Options
from stages.lib.params.ingest import IngestParams
from tests.raw_data import ingest, scan, write_pictures, write_series

OPTIONS = Options(IngestParams(), OPEN)


@pytest.fixture
def raw(tmp_path):
    write_pictures(tmp_path / "raw", each=2)
    return tmp_path / "raw"


def refuse(monkeypatch, call: str, path: str, number: int) -> None:
    """Lets a call of os fail for one path: tests may run as root, whom permissions do not bind."""
    real = getattr(os, call)

    def refusing(where, *given, **named):
        if str(where) == path:
            raise OSError(number, os.strerror(number), path)
        return real(where, *given, **named)

    monkeypatch.setattr(os, call, refusing)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: os.mkfifo(path), "is a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        (lambda path: path.symlink_to(path.name), "is a link that leads nowhere .*symbolic links"),
        (lambda path: path.symlink_to("gone"), "is a broken link"),
        (lambda path: path.symlink_to("n" * 300), "is a link that leads nowhere .*too long"),
        (lambda path: path.symlink_to(path.parent), "is a link to a folder that it lies in"),
        (lambda path: path.symlink_to(path.parent.parent), "is a link to a folder that it lies in"),
    ],
)
def test_what_is_no_file_ends_ingest_with_its_name(raw, make, said):
    make(raw / "cat" / "odd.png")
    with pytest.raises(UserError, match=f"raw/cat/odd.png {said}"):
        raw_files.scan(raw)


def test_a_folder_that_can_not_be_listed_ends_ingest(raw, monkeypatch):
    refuse(monkeypatch, "scandir", str(raw / "dog"), errno.EACCES)
    with pytest.raises(UserError, match=r"raw/dog can't be listed \(Permission denied\)"):
        raw_files.scan(raw)


def test_a_link_to_a_folder_outside_is_followed(raw, tmp_path):
    (raw / "cat").rename(tmp_path / "elsewhere")
    (raw / "cat").symlink_to(tmp_path / "elsewhere")
    assert raw_files.scan(raw).paths == ["cat/0.png", "cat/1.jpg", "dog/0.png", "dog/1.jpg"]


def test_folders_that_link_to_each_other_are_not_walked_by_every_path(tmp_path):
    """Thirty folders, each with two links to the next, make a thousand million paths."""
    for i in range(30):
        (tmp_path / "raw" / f"{i:02}").mkdir(parents=True)
        for name in ("a", "b"):
            (tmp_path / "raw" / f"{i:02}" / name).symlink_to(f"../{i + 1:02}")
    (tmp_path / "raw" / "30").mkdir()
    with pytest.raises(UserError, match="is reached by more than 100 paths"):
        raw_files.scan(tmp_path / "raw")


@pytest.fixture
def deep(raw):
    """1,200 folders in each other, and in the innermost a picture."""
    before = os.getcwd()
    (raw / "cow").mkdir()
    os.chdir(raw / "cow")
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    imageio.imwrite("deep.png", np.full((5, 6), 7, np.uint8))
    os.chdir(before)
    yield raw
    subprocess.run(["rm", "-rf", raw], check=True)  # Python's rmtree calls itself once a folder


def test_a_picture_in_1200_folders_is_a_case(deep, tmp_path):
    assert ingest(deep, tmp_path / "out").counts["classes"] == {"cat": 2, "cow": 1, "dog": 2}


def test_litter_in_1200_folders_is_counted(deep):
    (deep / "cow").rename(deep / "__MACOSX")
    assert len(raw_files.scan(deep).litter) == 1


def test_litter_that_can_not_be_listed_is_litter_and_its_links_are_not_followed(raw, monkeypatch):
    (raw / ".git" / "private").mkdir(parents=True)
    (raw / ".git" / "loop").symlink_to("..")
    os.mkfifo(raw / ".git" / "fifo")
    refuse(monkeypatch, "scandir", str(raw / ".git" / "private"), errno.EACCES)
    assert raw_files.scan(raw).litter == [".git/fifo", ".git/loop", ".git/private"]


def test_a_path_longer_than_the_system_takes_is_named(raw):
    before = os.getcwd()
    os.chdir(raw / "cat")
    for _ in range(20):
        os.mkdir("n" * 250)
        os.chdir("n" * 250)
    os.chdir(before)
    with pytest.raises(UserError, match=r"can't be listed \(File name too long\): mend, move or remove it"):
        raw_files.scan(raw)


def test_an_unreadable_file_is_rejected_and_counted_and_read_when_it_can_be(raw, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        refuse(patch, "open", str(raw / "dog" / "0.png"), errno.EACCES)
        done = ingest(raw, tmp_path / "out")
    assert done.counts["rejected"] == {"io_error": 1}
    assert done.rejected["detail"].tolist() == ["Permission denied"]
    assert ingest(raw, tmp_path / "out").counts["cases"] == 4


def test_a_slice_that_can_not_be_read_rejects_its_series(tmp_path, monkeypatch):
    write_series(tmp_path / "raw" / "a")
    write_series(tmp_path / "raw" / "b", scan(seed=1), series="two")
    (tmp_path / "raw" / "b" / "003").rename(tmp_path / "raw" / "b" / "003.dcm")
    refuse(monkeypatch, "open", str(tmp_path / "raw" / "b" / "003.dcm"), errno.EIO)
    with pytest.raises(UserError, match="no case of class 'b'"):
        ingest(tmp_path / "raw", tmp_path / "out")


def test_a_file_that_became_a_pipe_after_the_walk_is_rejected_and_not_waited_for(raw):
    os.remove(raw / "dog" / "0.png")
    os.mkfifo(raw / "dog" / "0.png")
    found = inspection.inspect_file(str(raw / "dog" / "0.png"), OPTIONS)
    assert found.refused[:2] == ("io_error", "a pipe (FIFO), expected a file")


def test_a_small_file_is_opened_without_asking_first_what_it_is(raw, monkeypatch):
    asked = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    assert inspection.inspect_file(str(raw / "dog" / "0.png"), OPTIONS).refused is None
    assert str(raw / "dog" / "0.png") not in asked


def test_too_few_handles_are_told_and_no_file_is_rejected_for_them(raw, tmp_path, monkeypatch):
    refuse(monkeypatch, "open", str(raw / "dog" / "0.png"), errno.EMFILE)
    with pytest.raises(UserError, match="ulimit -n 1024"):
        ingest(raw, tmp_path / "out")


def test_a_sparse_file_of_a_tebibyte_is_not_read(raw):
    with open(raw / "dog" / "huge.png", "wb") as file:
        file.truncate(1 << 40)
    assert inspection.inspect_file(str(raw / "dog" / "huge.png"), OPTIONS).refused.reason == "too_large"


def test_names_that_are_no_utf_8_are_read_and_a_class_of_such_a_name_is_refused(raw, tmp_path):
    os.rename(raw / "dog" / "0.png", os.fsencode(raw / "dog") + b"/\xff.png")
    assert ingest(raw, tmp_path / "out").counts["cases"] == 4
    os.rename(raw / "dog", os.fsencode(raw) + b"/\xfe")
    with pytest.raises(UserError, match="no line of text in UTF-8: rename it"):
        ingest(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path,label\n" + b"a" * 200_000 + b",b\n", "row 2: field larger than field limit"),
        (b"path," + b"a" * 200_000 + b",label\n", "row 1: field larger than field limit"),
        (b"path,label\n" + b"a" * 5000 + b",b\n", "row 2: path has 5000 characters, expected 4096 at most"),
        (b"path,label\ncat," + b"b" * 5000 + b"\n", "row 2: label has 5000 characters"),
        (b"," * 1_000_000 + b"\n", "has no column label"),
    ],
)
def test_a_hostile_table_is_one_short_message(raw, tmp_path, content, said):
    (raw / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        ingest(raw, tmp_path / "out")
    assert len(str(error.value)) < 1000


def test_a_folder_and_a_file_out_of_reach_in_place_of_the_table_are_named(raw, tmp_path, monkeypatch):
    (raw / "labels.csv").mkdir()
    with pytest.raises(UserError, match="labels.csv can't be read .a folder, expected a file"):
        ingest(raw, tmp_path / "out")
    (raw / "labels.csv").rmdir()
    (raw / "labels.csv").write_text("path,label\ncat,a\n")
    refuse(monkeypatch, "open", str(raw / "labels.csv"), errno.EACCES)
    with pytest.raises(UserError, match="labels.csv can't be read .Permission denied"):
        ingest(raw, tmp_path / "out")
