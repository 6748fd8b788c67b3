import json

import numpy as np
import pandas as pd
import pytest

from stages import statistics
from stages.lib import splits
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


def target_section(folder, columns, weight=None):
    """The section of 20 cases of which 12 are in training, 4 in validation and 4 in test."""
    write_cases(folder, [np.zeros((1, 4, 4), np.uint8)] * 20)
    table = pd.read_csv(folder / "split.csv", dtype=str)
    first = next(iter(columns))
    if first.startswith(("target.multilabel", "target.regression", "target.log_regression")):
        table["label"] = "multilabel" if "multilabel" in first else "size"
    table = table.assign(**columns) if weight is None else table.assign(**columns, weight=weight)
    table.to_csv(folder / "split.csv", index=False)
    statistics.main(folder / "cases", folder / "split.csv", folder / "s.json", StatisticsParams())
    train = (table["split"] == "train").to_numpy()
    return json.loads((folder / "s.json").read_text())["target"], train


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["regression", "log_regression"])
def test_a_number_has_its_mean_deviation_and_quartiles_of_each_split(tmp_path, kind, weighted):
    values = np.random.default_rng(0).lognormal(2, 1, 20).astype(np.float32).round(2)
    weight = np.arange(20) % 3 if weighted else np.ones(20)
    found, train = target_section(tmp_path, {f"target.{kind}.size [mm]": values}, weight if weighted else None)
    assert list(found) == ["train", "validation", "test"]
    repeated = np.repeat(values[train], weight[train].astype(int))
    assert found["train"]["weight"] == len(repeated)
    assert found["train"]["size"]["mean"] == pytest.approx(repeated.mean(), rel=1e-5)
    assert found["train"]["size"]["deviation"] == pytest.approx(repeated.std(), rel=1e-5)
    quartiles = np.quantile(values[train], [0, 0.25, 0.5, 0.75, 1])
    assert found["train"]["size"]["quartiles"] == pytest.approx(quartiles.tolist(), rel=1e-5)


def test_labels_have_their_share_of_the_answers_that_are_known_and_none_where_nobody_knows(tmp_path):
    held = np.arange(20) % 4 == 0
    edema = np.where(np.arange(20) % 5 == 1, np.nan, held)
    mass = np.where(np.arange(20) % 10 >= 8, np.nan, held)  # of no test case
    weight = 1.0 + np.arange(20) % 2
    columns = {"target.multilabel.edema": edema, "target.multilabel.mass": mass}
    found, train = target_section(tmp_path, columns, weight)
    known = train & ~np.isnan(edema)
    share = np.average(edema[known], weights=weight[known])
    assert found["train"]["edema"] == {"share": pytest.approx(share, rel=1e-5), "known": int(known.sum())}
    assert found["test"]["mass"] == {"share": None, "known": 0}
    assert found["train"]["weight"] == weight[train].sum()


@pytest.mark.parametrize("kind", ["classes", "ordinal"])
def test_classes_have_their_shares_and_what_a_case_weighs(tmp_path, kind):
    a = np.where(np.arange(20) % 2, 0.75, 0.125)  # as the labels of `write_cases` alternate
    found, train = target_section(tmp_path, {f"target.{kind}.a": a, f"target.{kind}.b": 1 - a}, np.arange(20) / 4)
    share = np.average(a[train], weights=np.arange(20)[train])
    assert found["train"]["a"] == {"share": pytest.approx(share, rel=1e-5), "known": 12}
    assert found["train"]["b"]["share"] == pytest.approx(1 - share, rel=1e-5)


def test_weights_alone_are_summed_and_a_class_alone_has_no_section(tmp_path):
    write_cases(tmp_path, [np.zeros((1, 4, 4), np.uint8)] * 20)
    assert statistics.of_target(splits.read(tmp_path / "split.csv")) is None
    found, _ = target_section(tmp_path, {"weight": np.full(20, 0.5)})
    assert found == {"train": {"weight": 6.0}, "validation": {"weight": 2.0}, "test": {"weight": 2.0}}
