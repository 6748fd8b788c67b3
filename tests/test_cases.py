import time

import numpy as np
import pytest

from stages.lib.cases import Cases, piece_bits, piece_name, write_cases
from stages.lib.core.errors import UserError


def test_cases_of_several_dtypes_and_shapes_read_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    pixels = {
        "a": rng.integers(0, 255, (3, 4, 5), np.uint8),
        "b": rng.integers(0, 65535, (1, 2, 3), np.uint16),
        "c": rng.integers(0, 255, (3, 6, 2), np.uint8),
    }
    write_cases(tmp_path / "cases", pixels, "CHW")
    with Cases(tmp_path / "cases") as cases:
        assert cases.ids == ["a", "b", "c"]
        assert cases.dtypes == ["uint16", "uint8"]
        for case, array in pixels.items():
            assert cases[case].dtype == array.dtype
            assert np.array_equal(cases[case], array)


def test_a_case_opened_for_reading_cannot_be_changed(tmp_path):
    write_cases(tmp_path / "cases", {"a": np.zeros((1, 2, 2), np.int16)}, "CHW")
    with Cases(tmp_path / "cases") as cases, pytest.raises(ValueError, match="read-only"):
        cases["a"][...] = 1


def test_the_same_cases_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        time.sleep(1.1 if name == "other" else 0)  # HDF5's clock has whole seconds
        write_cases(tmp_path / name, {"a": np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)}, "CDHW")
    assert (tmp_path / "one" / "0.h5").read_bytes() == (tmp_path / "other" / "0.h5").read_bytes()


def test_an_unknown_case_is_named(tmp_path):
    write_cases(tmp_path / "cases", {"a": np.zeros((1, 2, 2), np.uint8)}, "CHW")
    with Cases(tmp_path / "cases") as cases, pytest.raises(UserError, match="case b is not in"):
        cases["b"]


def test_a_missing_folder_says_which_stage_makes_it(tmp_path):
    with pytest.raises(UserError, match="run the ingest stage first"):
        Cases(tmp_path / "cases")


@pytest.mark.parametrize(
    ("raw_bytes", "cases", "pieces"),
    [
        (10**9, 1, 1),
        (10**9, 2, 1),
        (10**9, 4, 2),
        (10**9, 1001, 256),
        (10 << 20, 50_000, 8),
        (1000, 50_000, 1),
        (0, 9, 1),
    ],
)
def test_there_are_as_many_pieces_as_have_a_mebibyte_of_files_and_two_cases_each(raw_bytes, cases, pieces):
    assert 1 << piece_bits(raw_bytes, cases) == pieces


def test_pieces_are_read_in_the_order_of_the_identifiers(tmp_path):
    rng = np.random.default_rng(0)
    pixels = {f"{i:x}{i:015x}": rng.integers(0, 255, (1, 2 + i, 3), np.uint8) for i in range(16)}
    for piece in range(4):
        write_cases(tmp_path / "one", {k: v for k, v in pixels.items() if int(k[0], 16) >> 2 == piece}, "CHW")
        (tmp_path / "cases").mkdir(exist_ok=True)
        (tmp_path / "one" / piece_name(0, 0)).rename(tmp_path / "cases" / piece_name(piece, 2))
    with Cases(tmp_path / "cases") as cases:
        assert cases.ids == sorted(pixels)
        assert all(np.array_equal(cases[case], array) for case, array in pixels.items())
