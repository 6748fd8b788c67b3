"""Cases are brought in runs that follow from the cases alone, each of one piece, and stacked where they are alike."""

import numpy as np
import pytest

from stages.lib import cases, runs
from stages.lib.cases import Cases
from stages.lib.core.errors import DamagedOut, UserError

RNG = np.random.default_rng(0)


def write(folder, number, shapes=((1, 4, 5), (3, 2, 2)), dtypes=("uint8", "int16"), files=3):
    """Cases of mixed shapes and dtypes in several pieces, in turn."""
    pixels = {}
    for i in range(number):
        name = f"{i * (16**15) // number * 16:016x}"
        pixels[name] = RNG.integers(0, 99, shapes[i % len(shapes)]).astype(dtypes[i // 2 % len(dtypes)])
    names = sorted(pixels)
    folder.mkdir()
    for k in range(files):
        theirs = names[k * number // files : (k + 1) * number // files]
        cases.write_cases(folder / "one", {name: pixels[name] for name in theirs}, "CHW")
        (folder / "one" / cases.piece_name(0, 0)).rename(folder / f"{k}.h5")
    (folder / "one").rmdir()
    return pixels


def test_every_case_is_in_one_run_with_its_own_pixels(tmp_path):
    pixels = write(tmp_path / "cases", 40)
    with Cases(tmp_path / "cases") as opened:
        rows = np.arange(0, 40, 3)
        found = {}
        for number, run in enumerate(runs.cut(opened, rows)):
            assert run.number == number
            for chosen, x in run.stacks():
                assert len(chosen) == len(x)
                for i, one in zip(chosen, x, strict=True):
                    found[opened.ids[run.rows[i]]] = one
    assert sorted(found) == sorted(pixels)[::3]
    for name, one in found.items():
        assert one.dtype == pixels[name].dtype
        assert np.array_equal(one, pixels[name])


def test_a_run_holds_no_more_than_its_bytes_unless_one_case_does(tmp_path, monkeypatch):
    write(tmp_path / "cases", 12, shapes=((1, 4, 5),), dtypes=("uint8",), files=1)
    monkeypatch.setattr(runs, "RUN_BYTES", 60)
    with Cases(tmp_path / "cases") as opened:
        assert [len(run.rows) for run in runs.cut(opened, np.arange(12))] == [3, 3, 3, 3]
        assert [len(run.rows) for run in runs.cut(opened, np.arange(12), sample_bytes=30)] == [2] * 6
        assert [len(run.rows) for run in runs.cut(opened, np.arange(12), sample_bytes=100)] == [1] * 12
        assert list(runs.cut(opened, np.arange(0))) == []


def test_a_stack_is_of_one_shape_and_one_spacing(tmp_path, monkeypatch):
    pixels = {f"{i:016x}": np.full((1, 2, 2, 2), i, np.int16) for i in range(6)}
    spacings = [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)] * 3
    cases.write_cases(tmp_path / "cases", pixels, "CDHW", "HU", spacings)
    monkeypatch.setattr(runs, "STACK_BYTES", 32)
    with Cases(tmp_path / "cases") as opened:
        (run,) = runs.cut(opened, np.arange(6))
        assert [chosen.tolist() for chosen, _ in run.stacks()] == [[0, 2], [4], [1, 3], [5]]


def test_results_are_given_in_the_order_of_the_runs():
    done = [(2, "c"), (0, "a"), (1, "b"), (4, "e"), (3, "d")]
    assert list(runs.in_order(iter(done))) == ["a", "b", "c", "d", "e"]


def test_little_work_starts_no_process(tmp_path, monkeypatch):
    write(tmp_path / "cases", 12, shapes=((1, 4, 5),), dtypes=("uint8",), files=3)
    with Cases(tmp_path / "cases") as opened:
        every = np.arange(12)
        assert runs.useful_workers(opened, every, 8) == 1
        monkeypatch.setattr(runs, "WORKER_BYTES", 100)
        assert runs.useful_workers(opened, every, 8) == 4
        assert runs.useful_workers(opened, every, 3) == 3
        assert runs.useful_workers(opened, every, 64, sample_bytes=100) == 12


def test_a_piece_that_is_gone_is_named(tmp_path):
    write(tmp_path / "cases", 4, files=1)
    with Cases(tmp_path / "cases") as opened:
        (run, *_) = runs.cut(opened, np.arange(4))
        (tmp_path / "cases" / "0.h5").unlink()
        with pytest.raises(DamagedOut, match=r"0\.h5"):
            list(run.stacks())


def test_a_worker_that_is_ended_twice_is_an_error_with_a_way_out():
    with pytest.raises(UserError, match="machine.workers"):
        runs.crashed(None)
