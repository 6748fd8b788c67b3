import time
from pathlib import Path

import numpy as np
import pytest

from stages.lib.cases import Cases, Entry, allocate
from stages.lib.errors import UserError


def fill(path: Path, pixels: dict[str, np.ndarray], axes: str = "CHW") -> None:
    allocate(path, [Entry(case, array.dtype.name, array.shape) for case, array in pixels.items()], axes)
    with Cases(path, "r+") as cases:
        for case, array in pixels.items():
            cases[case][...] = array


def test_cases_of_several_dtypes_and_shapes_read_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    pixels = {
        "a": rng.integers(0, 255, (3, 4, 5), np.uint8),
        "b": rng.integers(0, 65535, (1, 2, 3), np.uint16),
        "c": rng.integers(0, 255, (3, 6, 2), np.uint8),
    }
    fill(tmp_path / "cases.h5", pixels)
    with Cases(tmp_path / "cases.h5") as cases:
        assert cases.ids == ["a", "b", "c"]
        assert cases.dtypes == ["uint16", "uint8"]
        for case, array in pixels.items():
            assert cases[case].dtype == array.dtype
            assert np.array_equal(cases[case], array)


def test_a_case_opened_for_reading_cannot_be_changed(tmp_path):
    fill(tmp_path / "cases.h5", {"a": np.zeros((1, 2, 2), np.int16)})
    with Cases(tmp_path / "cases.h5") as cases, pytest.raises(ValueError, match="read-only"):
        cases["a"][...] = 1


def test_the_same_cases_give_the_same_bytes(tmp_path):
    for name in ("one.h5", "other.h5"):
        time.sleep(1.1 if name == "other.h5" else 0)  # HDF5's clock has whole seconds
        fill(tmp_path / name, {"a": np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)}, "CDHW")
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_an_unknown_case_is_named(tmp_path):
    fill(tmp_path / "cases.h5", {"a": np.zeros((1, 2, 2), np.uint8)})
    with Cases(tmp_path / "cases.h5") as cases, pytest.raises(UserError, match="case b is not in"):
        cases["b"]


def test_a_missing_file_says_which_stage_makes_it(tmp_path):
    with pytest.raises(UserError, match="run the ingest stage first"):
        Cases(tmp_path / "cases.h5")
