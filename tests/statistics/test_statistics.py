import json

import numpy as np
import pytest

from stages import statistics
from stages.lib.core.errors import UserError
from stages.lib.params.statistics import StatisticsParams
from tests.conftest import write_cases


def measure(folder, pixels, **params):
    write_cases(folder, pixels, params.pop("spacing_mm", None))
    main = (folder / "cases", folder / "split.csv", folder / "statistics.json")
    statistics.main(*main, StatisticsParams(**params))
    return json.loads((folder / "statistics.json").read_text())


def test_only_the_training_split_is_measured(tmp_path):
    pixels = [np.full((1, 4, 4), 200 if i % 10 >= 6 else i, np.uint8) for i in range(20)]
    found = measure(tmp_path, pixels)
    assert found["cases"] == 12
    assert found["channels"][0]["maximum"] == 15
    assert found["classes"] == {"a": 6, "b": 6}
    assert found["splits"]["test"] == {"a": 2, "b": 2}


def test_channels_are_measured_apart(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, [[[50]], [[100]], [[250]]], (3, 5, 6 + i)).astype(np.uint8) for i in range(10)]
    found = measure(tmp_path, pixels, percentiles=(50.0,))
    train = [np.concatenate([pixels[i][c].ravel() for i in range(6)]) for c in range(3)]
    assert [c["mean"] for c in found["channels"]] == pytest.approx([t.mean() for t in train], rel=1e-5)
    assert [c["deviation"] for c in found["channels"]] == pytest.approx([t.std() for t in train], rel=1e-5)
    assert [c["percentiles"]["50"] for c in found["channels"]] == [np.median(t) for t in train]
    assert found["shape"]["W"] == {"minimum": 6, "median": 8.5, "maximum": 11}
    assert found["spacing_mm"] == {"H": None, "W": None}


def test_volumes_report_their_spacing(tmp_path):
    found = measure(tmp_path, [np.zeros((1, 3, 4, 5), np.int16)] * 10, spacing_mm=(3.0, 0.5, 0.25))
    assert found["spacing_mm"]["D"]["median"] == 3
    assert found["units"] == "HU"
    assert list(found["shape"]) == ["C", "D", "H", "W"]


def test_a_mixture_of_depths_or_channels_is_refused_with_counts_and_cases(tmp_path):
    pixels = [np.zeros((1, 4, 4), np.uint8 if i else np.uint16) for i in range(9)] + [np.zeros((3, 4, 4), np.uint8)]
    said = (
        r"8 of uint8 with 1 channel\(s\) \(case0001, \.\.\.\), 1 of uint16 with 1 channel\(s\) \(case0000\), "
        r"1 of uint8 with 3 channel\(s\) \(case0009\); .*tools.which"
    )
    with pytest.raises(UserError, match=said):
        measure(tmp_path, pixels)


def test_of_cases_that_differ_a_file_is_named_where_ingest_has_left_its_name(tmp_path):
    pixels = [np.zeros((1, 4, 4), np.uint8 if i else np.uint16) for i in range(10)]
    rows = "".join(f'case000{i},"a/{i}\x1b, odd.png"\ncase000{i},a/second.png\n' for i in range(2))
    (tmp_path / "files.csv").write_text("case,path\n" + rows)
    with pytest.raises(UserError, match=r"\(a/1\\u001b, odd.png, \.\.\.\), 1 of uint16 .*\(a/0") as error:
        measure(tmp_path, pixels)
    assert "tools.which" not in str(error.value)
