"""A second ingest: only what changed is decoded, a damaged store is noticed, and a kill costs nothing but time."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stages.lib import cases, workers
from stages.lib.core import opening
from stages.lib.core.errors import UserError
from stages.lib.ingest import pieces, raw_files
from stages.lib.ingest.archives import members
from stages.lib.ingest.identifiers import OPEN
from stages.lib.ingest.readers.contract import Options
from stages.lib.ingest.readers.pictures import pillow
from stages.lib.params.ingest import IngestParams
from tests import HANG_SECONDS, ROOT
from tests.raw_data import Ingested, bytes_below, ingest, scan, settle, write_pictures, write_series


def full(raw: Path, folder: Path, **params: object) -> Ingested:
    """An ingest that remembers nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    return ingest(raw, folder, **params)


def test_only_new_changed_and_renamed_files_are_worked_on_and_the_bytes_are_those_of_a_full_ingest(tmp_path, decoded):
    raw = tmp_path / "raw"
    write_pictures(raw, each=6)
    settle()
    ingest(raw, tmp_path / "out")
    assert len(decoded) == 12

    decoded.clear()
    ingest(raw, tmp_path / "out")
    assert decoded == []

    (raw / "cat" / "0.png").unlink()
    (raw / "cat" / "1.jpg").rename(raw / "cat" / "moved.jpg")
    shutil.copy(raw / "dog" / "2.png", raw / "dog" / "0.png")
    write_pictures(tmp_path / "more", each=1, seed=9)
    shutil.copy(tmp_path / "more" / "cat" / "0.png", raw / "cat" / "new.png")
    again = ingest(raw, tmp_path / "out")
    assert decoded == ["cat/new.png"]
    assert again.bytes() == full(raw, tmp_path / "full").bytes()


def test_a_file_that_changes_while_it_is_read_does_not_look_unchanged_afterwards(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    read = opening._read

    def read_and_change(*given):
        content = read(*given)
        path.write_bytes(b"afterwards")
        return content

    monkeypatch.setattr(opening, "_read", read_and_change)
    content, stamp = members.read_stamped(str(path), None, Options(IngestParams(), OPEN).max_file_bytes)
    assert content == b"before"
    assert stamp != raw_files.stamp(os.stat(path))


def test_params_that_matter_and_those_that_do_not(tmp_path, decoded):
    write_pictures(tmp_path / "raw")
    settle()
    ingest(tmp_path / "raw", tmp_path / "out")
    decoded.clear()
    ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.5, group=r"^(\w+)/")
    assert decoded == []
    ingest(tmp_path / "raw", tmp_path / "out", colour="grey_mean")
    assert len(decoded) == 8


def test_a_slice_added_to_a_series_makes_its_volume_new_and_leaves_the_others(tmp_path, decoded):
    pixels = scan(9)
    write_series(tmp_path / "raw" / "a", pixels[:8])
    write_series(tmp_path / "raw" / "b", scan(5, seed=3), series="two")
    settle()
    ingest(tmp_path / "raw", tmp_path / "out")
    decoded.clear()
    write_series(tmp_path / "raw" / "a", pixels)
    again = ingest(tmp_path / "raw", tmp_path / "out")
    assert {path.partition("/")[0] for path in decoded} == {"a"}
    assert any(np.array_equal(volume[0], pixels) for volume in again.pixels)


@pytest.mark.parametrize("damage", ["pixels", "notes", "cut pixels", "cut notes", "no pixels", "no notes", "junk"])
def test_a_damaged_store_is_noticed_and_not_used(damage, tmp_path):
    write_pictures(tmp_path / "raw", each=6)
    settle()
    before = ingest(tmp_path / "raw", tmp_path / "out").bytes()
    (store,) = [path for path in (tmp_path / "out" / ".ingest").iterdir() if path.is_dir()]
    pixels = list(store.rglob("*.h5"))
    notes = [*store.rglob("*.json"), store / "files.jsonl"]
    assert pixels and len(notes) == len(pixels) + 1
    for path in [path for kind in ((pixels,), (notes,), (pixels, notes)) for paths in kind for path in paths]:
        if damage != "junk" and (damage.split()[-1] == "pixels") != (path in pixels):
            continue
        content = bytearray(path.read_bytes()) if path.exists() else bytearray(99)
        path.unlink(missing_ok=True)
        content[-20] ^= 0xFF
        changed = {"cut": content[: len(content) // 2], "junk": os.urandom(500)}.get(damage.split()[0], content)
        if not damage.startswith("no "):
            path.write_bytes(changed)
    assert ingest(tmp_path / "raw", tmp_path / "out").bytes() == before


def test_damage_in_place_reaches_the_out_by_its_other_name_and_is_mended(tmp_path):
    write_pictures(tmp_path / "raw", each=6)
    settle()
    before = ingest(tmp_path / "raw", tmp_path / "out").bytes()
    (piece,) = (tmp_path / "out" / "cases").iterdir()
    piece.chmod(0o644)
    with open(piece, "r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(b"damaged")
    assert ingest(tmp_path / "raw", tmp_path / "out").bytes() == before


def test_what_was_decoded_before_a_failure_is_not_decoded_again(tmp_path, decoded):
    write_pictures(tmp_path / "raw", each=6)
    (tmp_path / "raw" / "cat" / "bad.jpg").write_bytes(b"<html>")
    settle()
    with pytest.raises(UserError, match="not_an_image"):
        ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.01)
    decoded.clear()
    (tmp_path / "raw" / "cat" / "bad.jpg").unlink()
    again = ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.01)
    assert decoded == []
    assert again.bytes() == full(tmp_path / "raw", tmp_path / "full").bytes()


def test_a_picture_found_damaged_while_it_is_decoded_leaves_the_bytes_of_an_ingest_without_it(tmp_path):
    write_pictures(tmp_path / "raw", each=6)
    without = ingest(tmp_path / "raw", tmp_path / "without")
    whole = (tmp_path / "raw" / "cat" / "5.jpg").read_bytes()
    (tmp_path / "raw" / "cat" / "cut.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    done = ingest(tmp_path / "raw", tmp_path / "out")
    assert done.reason("cat/cut.jpg") == "truncated"
    assert bytes_below(done.folder / "cases") == bytes_below(without.folder / "cases")


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_picture_more_changes_the_piece_that_it_falls_into_and_no_other_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "MIN_PIECE_BYTES", 100)
    write_pictures(tmp_path / "raw", each=20)
    settle()
    ingest(tmp_path / "raw", tmp_path / "out")
    before = stamps(tmp_path / "out" / "cases")
    assert len(before) > 8
    write_pictures(tmp_path / "more", each=1, seed=9)
    shutil.copy(tmp_path / "more" / "cat" / "0.png", tmp_path / "raw" / "cat" / "new.png")
    again = ingest(tmp_path / "raw", tmp_path / "out")
    after = stamps(tmp_path / "out" / "cases")
    assert sum(after[name] != before[name] for name in before) == 1
    assert again.bytes() == full(tmp_path / "raw", tmp_path / "full").bytes()


def test_more_data_than_the_pieces_were_cut_for_are_cut_anew_without_decoding(tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(cases, "MIN_PIECE_BYTES", 100)
    write_pictures(tmp_path / "raw", each=7)
    settle()
    ingest(tmp_path / "raw", tmp_path / "out")
    assert len(list((tmp_path / "out" / "cases").iterdir())) <= 4
    decoded.clear()
    write_pictures(tmp_path / "more", each=4, seed=9)
    for path in sorted((tmp_path / "more" / "cat").iterdir()):
        shutil.copy(path, tmp_path / "raw" / "cat" / f"new{path.name}")
    again = ingest(tmp_path / "raw", tmp_path / "out")
    assert len(list((tmp_path / "out" / "cases").iterdir())) > 4
    assert len(decoded) == 4
    assert again.bytes() == full(tmp_path / "raw", tmp_path / "full").bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_a_large_piece_filled_by_several_workers_has_the_bytes_of_a_small_one(number, tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_series(tmp_path / "raw" / name, scan(9, seed=ord(name)), series=name)
    small = ingest(tmp_path / "raw", tmp_path / "small").bytes()
    monkeypatch.setattr(pieces, "SMALL_PIECE_BYTES", 0)
    monkeypatch.setattr(pieces, "RUN_BYTES", 200)
    assert ingest(tmp_path / "raw", tmp_path / "large", workers=number).bytes() == small
    write_series(tmp_path / "raw" / "a" / "more", scan(5, seed=4), series="more")
    again = ingest(tmp_path / "raw", tmp_path / "large", workers=number)  # copies of what is there, and a new volume
    assert again.bytes() == full(tmp_path / "raw", tmp_path / "full").bytes()


@pytest.mark.slow
@pytest.mark.parametrize("small_bytes", [0, pieces.SMALL_PIECE_BYTES])
def test_a_decoder_that_takes_its_process_down_costs_its_own_case_and_names_the_file(
    small_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr(pieces, "SMALL_PIECE_BYTES", small_bytes)
    write_pictures(tmp_path / "raw", each=6)
    without = ingest(tmp_path / "raw", tmp_path / "without").bytes()
    (tmp_path / "raw" / "cat" / "deadly.png").write_bytes((tmp_path / "raw" / "cat" / "0.png").read_bytes() + b"deadly")
    decode = pillow.decode

    def deadly(content, *given):
        if content.endswith(b"deadly"):
            os._exit(1)
        return decode(content, *given)

    monkeypatch.setattr(pillow, "decode", deadly)
    monkeypatch.setattr(workers, "_pool", forked)
    done = ingest(tmp_path / "raw", tmp_path / "out", workers=2)
    assert done.reason("cat/deadly.png") == "crashed"
    assert done.bytes()["cases/0.h5"] == without["cases/0.h5"]
    monkeypatch.setattr(pillow, "decode", decode)  # it may have been the machine's memory: the next ingest tries again
    assert ingest(tmp_path / "raw", tmp_path / "out").counts["rejected"] == {}


def forked(number: int) -> ProcessPoolExecutor:
    """Workers that know what this process has patched, though torch may be imported in it."""
    return ProcessPoolExecutor(number, multiprocessing.get_context("fork"))


SCRIPT = """
import sys
from pathlib import Path
from tests.raw_data import ingest
ingest(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, kind="images")
"""


def start(raw: Path, out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(raw), str(out)], cwd=ROOT, start_new_session=True)


@pytest.mark.slow
def test_kills_at_random_moments_leave_no_partial_out_and_the_bytes_of_an_ingest_never_interrupted(tmp_path):
    kills = int(os.environ.get("KILLS", "4"))  # 20 and more by hand
    write_pictures(tmp_path / "raw", each=400)
    began = time.monotonic()
    assert start(tmp_path / "raw", tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - began
    whole = bytes_below(tmp_path / "whole")
    rng = random.Random(0)
    for _ in range(kills):
        process = start(tmp_path / "raw", tmp_path / "out")
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
        process.wait()
        found = bytes_below(tmp_path / "out")
        assert all(content == whole[name] for name, content in found.items() if "partial" not in name)
        pieces = {name for name in whole if name.startswith("cases/")}
        assert pieces <= found.keys() or not pieces & found.keys()
    deadline = time.monotonic() + HANG_SECONDS
    while start(tmp_path / "raw", tmp_path / "out").wait() != 0:  # a worker may hold the lock for a moment
        assert time.monotonic() < deadline
    assert bytes_below(tmp_path / "out") == whole
    assert not list((tmp_path / "out").rglob("*.partial*"))


def test_a_file_that_asked_for_too_much_memory_is_inspected_again(tmp_path, monkeypatch):
    write_pictures(tmp_path / "raw")
    inspect = pillow.inspect
    monkeypatch.setattr(pillow, "inspect", lambda *given: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(UserError, match="no class|could be read|rejected"):
        ingest(tmp_path / "raw", tmp_path / "out", max_rejected=0.0)
    monkeypatch.setattr(pillow, "inspect", inspect)
    assert ingest(tmp_path / "raw", tmp_path / "out").bytes() == full(tmp_path / "raw", tmp_path / "full").bytes()
