"""The store believes no piece that is not byte for byte what was written, and lets nobody else in."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from stages.lib import cases
from stages.lib.core.errors import UserError
from stages.lib.ingest import piece_jobs, store
from tests.raw_data import Ingested, bytes_below, ingest, settle, write_pictures


class Again:
    """A data set that was ingested once, in several pieces."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.out = folder / "raw", folder / "out"
        write_pictures(self.raw, each=20)
        settle()
        self.before = self.ingest().bytes()
        self.pieces = sorted((self.out / ".ingest").rglob("*.h5"))
        assert len(self.pieces) > 8

    def ingest(self) -> Ingested:
        return ingest(self.raw, self.out)


@pytest.fixture
def again(tmp_path, monkeypatch) -> Again:
    monkeypatch.setattr(cases, "MIN_PIECE_BYTES", 100)
    return Again(tmp_path)


def flip(path: Path, position: int) -> None:
    """Turns one bit over and leaves size, times and inode as they were, as a failing disk does."""
    status = path.stat()
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(position, os.SEEK_END if position < 0 else os.SEEK_SET)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    path.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (status.st_size, status.st_ino)


@pytest.mark.parametrize("position", [0, 100, 1000, -200, -1])
def test_a_flipped_bit_in_a_piece_is_made_again_and_said(position, again, capsys):
    flip(again.pieces[3], position)
    capsys.readouterr()
    assert again.ingest().bytes() == again.before
    assert f"damaged and made again: 1 of {len(again.pieces)} pieces" in capsys.readouterr().out
    assert again.ingest().bytes() == again.before
    assert "damaged" not in capsys.readouterr().out


def test_a_flipped_bit_in_an_out_that_shares_its_file_with_the_store_is_mended(again):
    out = sorted((again.out / "cases").iterdir())[2]
    assert out.stat().st_nlink == 2
    flip(out, -1)
    assert again.ingest().bytes() == again.before


def test_a_damaged_piece_costs_the_decoding_of_its_own_cases_alone(again, decoded):
    flip(again.pieces[0], -1)
    flip(again.pieces[5], 0)
    decoded.clear()
    again.ingest()
    assert 0 < len(decoded) <= 20 < 40


def test_damaged_pieces_are_counted_whatever_became_of_them(again, capsys, monkeypatch):
    cut, grown, unreadable, noteless = again.pieces[:4]
    content = cut.read_bytes()
    for path, changed in ((cut, content[:-1]), (grown, grown.read_bytes() + b"\0")):
        path.unlink()
        path.write_bytes(changed)
    noteless.with_suffix(".json").write_text("junk")
    checksum = store._checksum

    def failing(path):
        if path == unreadable:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return checksum(path)

    monkeypatch.setattr(store, "_checksum", failing)
    capsys.readouterr()
    assert again.ingest().bytes() == again.before
    assert f"damaged and made again: 4 of {len(again.pieces)} pieces" in capsys.readouterr().out


def test_a_piece_that_a_kill_left_out_is_not_called_damaged(again, capsys):
    again.pieces[1].unlink()  # its notes are written first
    capsys.readouterr()
    assert again.ingest().bytes() == again.before
    assert "damaged" not in capsys.readouterr().out


def test_a_store_that_was_copied_to_another_disk_is_taken_as_it_is(again, monkeypatch):
    shutil.copytree(again.out / ".ingest", again.out / "copy")
    shutil.rmtree(again.out / ".ingest")
    (again.out / "copy").rename(again.out / ".ingest")
    monkeypatch.setattr(piece_jobs, "keep", None)  # no piece is made
    assert bytes_below(again.ingest().folder) == again.before


def test_pieces_without_notes_do_not_stay_for_ever(again):
    lost = again.pieces[0].with_name("0" * 32 + ".h5")
    lost.write_bytes(b"of a run that was killed")
    again.ingest()
    assert not lost.exists()


def test_what_store_and_out_share_is_read_only(again):
    for piece in [*again.pieces, *(again.out / "cases").iterdir()]:
        assert piece.stat().st_mode & 0o222 == 0


def test_the_store_is_open_to_its_owner_alone_even_one_that_was_not(again):
    folders = [again.out / ".ingest", *(path for path in (again.out / ".ingest").rglob("*") if path.is_dir())]
    assert len(folders) == 3
    for mode in (None, 0o755, 0o500):
        for folder in folders if mode else ():
            folder.chmod(mode)
        assert again.ingest().bytes() == again.before
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_file_in_the_place_of_a_folder_of_the_store_is_named_and_loses_nothing(level, again):
    folder = [again.out / ".ingest", again.pieces[0].parents[1], again.pieces[0].parent][level]
    shutil.rmtree(folder)
    folder.write_text("no folder")
    with pytest.raises(UserError, match=f"{folder}: File exists: .*remove it"):
        again.ingest()
    assert bytes_below(again.out) == again.before
    folder.unlink()
    assert again.ingest().bytes() == again.before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM])
def test_a_store_that_may_not_be_written_is_one_message(number, again, monkeypatch):
    def refused(path, mode):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(UserError, match=f"{os.strerror(number)}: ingest keeps there"):
        again.ingest()
    assert bytes_below(again.out) == again.before
