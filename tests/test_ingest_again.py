"""A second ingest: only what changed is decoded, a damaged store is noticed, and a kill costs nothing but time."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.lib import filling
from stages.lib.errors import UserError
from stages.lib.store import alone
from tests.raw_data import Ingested, ingest, scan, write_pictures, write_series


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The files that were decoded so far."""
    files: list[str] = []
    decode = filling._decode

    def counted(part, target, work):
        files.extend(file.path for file in part.files)
        return decode(part, target, work)

    monkeypatch.setattr(filling, "_decode", counted)
    return files


def settle(raw: Path) -> None:
    """Makes the files old, as one changed within a tenth of a second is not taken for unchanged."""
    time.sleep(0.12)


def full(raw: Path, folder: Path, **params: object) -> Ingested:
    """An ingest that remembers nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    return ingest(raw, folder, **params)


def test_only_new_changed_and_renamed_files_are_worked_on_and_the_bytes_are_those_of_a_full_ingest(tmp_path, decoded):
    raw = tmp_path / "raw"
    write_pictures(raw, each=6)
    settle(raw)
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


def test_params_that_matter_and_those_that_do_not(tmp_path, decoded):
    write_pictures(tmp_path / "raw")
    settle(tmp_path / "raw")
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
    settle(tmp_path / "raw")
    ingest(tmp_path / "raw", tmp_path / "out")
    decoded.clear()
    write_series(tmp_path / "raw" / "a", pixels)
    again = ingest(tmp_path / "raw", tmp_path / "out")
    assert {path.partition("/")[0] for path in decoded} == {"a"}
    assert any(np.array_equal(volume[0], pixels) for volume in again.pixels)


@pytest.mark.parametrize("damage", ["pixels", "journal", "cut pixels", "cut journal", "no pixels", "junk"])
def test_a_damaged_store_is_noticed_and_not_used(damage, tmp_path):
    write_pictures(tmp_path / "raw", each=6)
    settle(tmp_path / "raw")
    before = ingest(tmp_path / "raw", tmp_path / "out").bytes()
    (folder,) = [path for path in (tmp_path / "out" / ".ingest").iterdir() if path.is_dir()]
    pixels, journal, files = folder / "cases.h5", folder / "cases.jsonl", folder / "files.jsonl"
    for path in (pixels, journal, files):
        content = bytearray(path.read_bytes())
        if damage == "no pixels":
            pixels.unlink(missing_ok=True)
        elif damage.startswith("cut") and damage.split()[1] in path.name.replace("cases.h5", "pixels").replace(
            "jsonl", "journal"
        ):
            path.write_bytes(content[: len(content) // 2])
        elif damage == "junk":
            path.write_bytes(os.urandom(500))
        elif (damage == "pixels") == (path == pixels):
            content[-20] ^= 0xFF
            path.write_bytes(content)
    assert ingest(tmp_path / "raw", tmp_path / "out").bytes() == before


def test_what_was_decoded_before_a_failure_is_not_decoded_again(tmp_path, decoded):
    write_pictures(tmp_path / "raw", each=6)
    (tmp_path / "raw" / "cat" / "bad.jpg").write_bytes(b"<html>")
    settle(tmp_path / "raw")
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
    assert done.cases_h5.read_bytes() == without.cases_h5.read_bytes()


def test_two_ingests_of_one_data_set_at_once_are_refused(tmp_path):
    write_pictures(tmp_path / "raw")
    with alone(tmp_path / "out" / ".ingest"), pytest.raises(UserError, match="another ingest works on"):
        ingest(tmp_path / "raw", tmp_path / "out")


SCRIPT = """
import sys
from pathlib import Path
from tests.raw_data import ingest
ingest(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, kind="images")
"""
OUTS = ("cases.h5", "cases.csv", "rejected.csv", "ingest.json")


def start(raw: Path, out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(raw), str(out)], cwd=Path(__file__).parent.parent, start_new_session=True
    )


def test_kills_at_random_moments_leave_no_partial_out_and_the_bytes_of_an_ingest_never_interrupted(tmp_path):
    kills = int(os.environ.get("KILLS", "4"))  # 20 and more by hand
    write_pictures(tmp_path / "raw", each=400)
    began = time.monotonic()
    assert start(tmp_path / "raw", tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - began
    whole = {name: (tmp_path / "whole" / name).read_bytes() for name in OUTS}
    rng = random.Random(0)
    for _ in range(kills):
        process = start(tmp_path / "raw", tmp_path / "out")
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
        process.wait()
        for name in OUTS:
            path = tmp_path / "out" / name
            assert not path.exists() or path.read_bytes() == whole[name]
    deadline = time.monotonic() + 20
    while start(tmp_path / "raw", tmp_path / "out").wait() != 0:  # a worker may hold the lock for a moment
        assert time.monotonic() < deadline
    assert {name: (tmp_path / "out" / name).read_bytes() for name in OUTS} == whole
    assert not list((tmp_path / "out").rglob("*.partial"))
