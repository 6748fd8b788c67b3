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
        time.sleep(1.1 if name == "other" else 0)  # the times that HDF5 may store are in whole seconds
        write_cases(tmp_path / name, {"a": np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)}, "CDHW")
    assert (tmp_path / "one" / "0.h5").read_bytes() == (tmp_path / "other" / "0.h5").read_bytes()


def test_an_unknown_case_is_named(tmp_path):
    write_cases(tmp_path / "cases", {"a": np.zeros((1, 2, 2), np.uint8)}, "CHW")
    with Cases(tmp_path / "cases") as cases, pytest.raises(UserError, match="cases: it has no case b"):
        cases["b"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="cases: not found"):
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


def write_pieces(folder, pixels, bits, spacings_mm):
    """cases/ as ingest writes it: one piece for each value of the identifiers' first bits that occurs."""
    folder.mkdir()
    axes = "CHW" if next(iter(pixels.values())).ndim == 3 else "CDHW"
    for piece in range(1 << bits):
        part = {case: x for case, x in pixels.items() if int(case[:2], 16) >> (8 - bits) == piece}
        if part:
            write_cases(folder / "one", part, axes, "HU", [spacings_mm[case] for case in sorted(part)])
            (folder / "one" / piece_name(0, 0)).rename(folder / piece_name(piece, bits))
    (folder / "one").rmdir()


@pytest.mark.parametrize(("bits", "pieces"), [(0, 1), (2, 4), (4, 16), (6, 50)])
@pytest.mark.parametrize("axes", [2, 3])
def test_many_pieces_read_back_as_one_folder_in_the_order_of_the_identifiers(tmp_path, bits, pieces, axes):
    rng = np.random.default_rng(0)
    pixels, spacings = {}, {}
    for i in rng.permutation(50):  # of two dtypes and fifty shapes; a piece may lack a dtype
        case = f"{5 * i:02x}{i:014x}"
        dtype = np.uint16 if i % 3 else np.int16
        pixels[case] = rng.integers(0, 30000, (1, *[2] * (axes - 2), 2 + i, 3), dtype)
        spacings[case] = tuple(rng.uniform(0.5, 2, axes).tolist())
    write_pieces(tmp_path / "cases", pixels, bits, spacings)
    assert len(list((tmp_path / "cases").iterdir())) == pieces
    with Cases(tmp_path / "cases") as cases:
        assert cases.ids == sorted(pixels) and len(cases) == 50
        assert (cases.dtypes, cases.dims, cases.units) == (["int16", "uint16"], axes, "HU")
        for i, (case, read) in enumerate(zip(sorted(pixels), cases, strict=True)):
            for found in (read, cases[i], cases[case]):
                assert found.dtype == pixels[case].dtype and np.array_equal(found, pixels[case])
            assert cases.index(case) == i
            assert tuple(cases.shapes[i]) == pixels[case].shape
            assert tuple(cases.spacings_mm[i]) == spacings[case]
