import json

import numpy as np
import pandas as pd
import pytest

from stages.lib.core import outs


def test_a_failure_leaves_the_former_out_and_no_partial(tmp_path):
    (tmp_path / "out").write_text("former")
    with pytest.raises(RuntimeError), outs.replacing(tmp_path / "out") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out": "former"}


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    for content in ("former", "new"):
        with outs.replacing(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / content).touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


def test_the_partial_of_a_killed_run_is_no_obstacle(tmp_path):
    (tmp_path / "out.partial").mkdir()
    with outs.replacing(tmp_path / "out") as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_json_has_six_significant_digits_and_null_for_what_is_no_number(tmp_path):
    content = {"b": 1 / 3, "a": [np.float32(123456.789), np.int64(7), float("nan")], "c": {"d": (True, "x", 1e-9 / 3)}}
    outs.write_json(tmp_path / "out.json", content)
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "b": 0.333333,
        "a": [123457.0, 7, None],
        "c": {"d": [True, "x", 3.33333e-10]},
    }


def test_csv_has_six_significant_digits(tmp_path):
    outs.write_csv(tmp_path / "out.csv", pd.DataFrame({"x": [1 / 3], "y": [2]}))
    assert (tmp_path / "out.csv").read_bytes() == b"x,y\n0.333333,2\n"
