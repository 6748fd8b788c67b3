import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from stages import dataset, statistics
from stages.lib import cases, runs, splits, tensors
from stages.lib.core.errors import UserError
from stages.lib.params.dataset import DatasetParams
from stages.lib.params.machine import MachineParams
from stages.lib.params.statistics import StatisticsParams
from stages.lib.targets import Target
from tests import ROOT
from tests.conftest import write_cases

RNG = np.random.default_rng(0)


def make(folder, pixels, spacing=None, **params):
    write_cases(folder, pixels, spacing)
    inputs = (folder / "cases", folder / "split.csv", folder / "statistics.json")
    statistics.main(*inputs, StatisticsParams())
    dataset.main(*inputs, folder / "dataset.h5", DatasetParams(**params))
    return folder / "dataset.h5"


def noise(dtype, *shape):
    info = np.iinfo(dtype)
    return np.random.default_rng(sum(shape)).integers(info.min, info.max, shape, dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_images_of_one_size_arrive_as_they_were(tmp_path, dtype):
    pixels = [noise(dtype, 3, 6, 5) + i for i in range(20)]
    made = make(tmp_path, pixels)
    test = tensors.read_split(made, "test")
    assert test.cases == ["case0008", "case0009", "case0018", "case0019"]
    assert test.y.tolist() == [1, 0, 1, 0]
    assert np.array_equal(test.x, np.stack([pixels[i] for i in (8, 9, 18, 19)]))
    about = tensors.read_description(made)
    assert (about.classes, about.axes, about.shape, about.dtype) == (["a", "b"], "NCHW", [3, 6, 5], dtype)


def test_the_moments_are_those_of_the_training_tensors(tmp_path):
    pixels = [noise("uint8", 3, 9 + i, 12) for i in range(10)]
    made = make(tmp_path, pixels, shape=(8, 8), colour="grey_mean")
    train = tensors.read_split(made, "train").x
    assert train.shape == (6, 1, 8, 8)
    about = tensors.read_description(made)
    assert about.moments["mean"] == pytest.approx([train.mean()])
    assert about.moments["deviation"] == pytest.approx([train.std()])


def test_volumes_are_brought_to_the_median_spacing_and_shape(tmp_path):
    pixels = [noise("int16", 1, 7 + i % 3, 10, 10) for i in range(10)]
    made = make(tmp_path, pixels, (2.0, 1.0, 1.0))
    about = tensors.read_description(made)
    assert about.shape == [1, 8, 10, 10]
    assert about.spacing_mm == [2, 1, 1]
    train = tensors.read_split(made, "train").x
    assert train.dtype == np.int16
    assert np.array_equal(train[0, :, :7], pixels[0])
    assert (train[0, :, 7] == min(p.min() for p in pixels[:6])).all()  # padded with the least of the training split


def test_a_wanted_spacing_sets_the_shape_too(tmp_path):
    made = make(tmp_path, [noise("int16", 1, 8, 10, 10)] * 10, (2.0, 1.0, 1.0), spacing_mm=(4.0, 2.0, 2.0))
    assert tensors.read_description(made).shape == [1, 4, 5, 5]


def test_two_runs_give_the_same_bytes(tmp_path):
    pixels = [noise("uint8", 1, 9 + i % 2, 11) for i in range(10)]
    first = make(tmp_path, pixels, shape=(8, 8)).read_bytes()
    assert make(tmp_path, pixels, shape=(8, 8)).read_bytes() == first


def test_half_precision_by_choice(tmp_path):
    made = make(tmp_path, [noise("uint8", 1, 4, 4)] * 10, dtype="float16")
    assert tensors.read_split(made, "train").x.dtype == np.float16


@pytest.mark.parametrize("fill", [300, -5, 7.5])
def test_padding_that_pixels_can_not_have_is_refused(tmp_path, fill):
    with pytest.raises(UserError, match=f"dataset.fill is {fill:g}, but pixels are whole numbers from 0 to 255"):
        make(tmp_path, [noise("uint8", 1, 4, 4)] * 10, fill=fill)


def test_a_shape_of_the_wrong_number_of_axes_is_refused(tmp_path):
    with pytest.raises(UserError, match="dataset.shape has 3 numbers, but the cases have 2 axes"):
        make(tmp_path, [noise("uint8", 1, 4, 4)] * 10, shape=(4, 4, 4))


def test_a_case_that_can_not_be_recoloured_is_named_and_the_former_dataset_stays(tmp_path):
    made = make(tmp_path, [noise("uint8", 2, 4, 4)] * 10)
    before = made.read_bytes()
    with pytest.raises(UserError, match="case case0000: its 2 channels can't be made rgb"):
        make(tmp_path, [noise("uint8", 2, 4, 4)] * 10, colour="rgb")
    assert made.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_number_of_workers_changes_no_byte(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(runs, "RUN_BYTES", 3000)  # many jobs
    monkeypatch.setattr(runs, "WORKER_BYTES", 3000)
    pixels = [RNG.normal(100, 20, (3, 20 + i % 3, 17)).clip(0, 255).astype(dtype) for i in range(40)]
    write_cases(tmp_path, pixels)
    inputs = (tmp_path / "cases", tmp_path / "split.csv", tmp_path / "statistics.json")
    made = []
    for workers in (1, 3):
        machine = MachineParams(workers=workers)
        statistics.main(*inputs, StatisticsParams(), machine)
        dataset.main(*inputs, tmp_path / "dataset.h5", DatasetParams(shape=(9, 9)), machine)
        made.append((inputs[2].read_bytes(), (tmp_path / "dataset.h5").read_bytes()))
    assert made[0] == made[1]


@pytest.mark.slow
def test_more_pieces_than_files_may_be_open_are_read(tmp_path):
    """As of 1 GiB of raw files, at the usual `ulimit -n` of 1024."""
    script = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from tests.dataset.test_dataset import make_from_pieces
make_from_pieces(Path(sys.argv[1]), 200)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(tensors.read_split(tmp_path / "dataset.h5", "train").y) == 240


def make_from_pieces(folder, number):
    """statistics and dataset of two cases in each of many pieces, and a walk over all cases."""
    pixels = [noise("uint8", 1, 4, 4) for _ in range(2 * number)]
    write_cases(folder, pixels)
    ids = pd.read_csv(folder / "split.csv")["case"].tolist()
    (folder / "cases" / cases.piece_name(0, 0)).unlink()
    for k in range(number):
        theirs = {name: pixels[i] for i, name in enumerate(ids) if i // 2 == k}
        cases.write_cases(folder / "one", theirs, "CHW")
        (folder / "one" / cases.piece_name(0, 0)).rename(folder / "cases" / f"{k:04x}.h5")
    inputs = (folder / "cases", folder / "split.csv", folder / "statistics.json")
    statistics.main(*inputs, StatisticsParams(), MachineParams(workers=1))
    dataset.main(*inputs, folder / "dataset.h5", DatasetParams(), MachineParams(workers=1))
    with cases.Cases(folder / "cases") as opened:
        assert sum(1 for _ in opened) == 2 * number


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pixel_that_half_precision_can_not_hold_names_its_case(tmp_path, workers):
    pixels = [np.full((1, 4, 4), 70000 if i == 7 else 1, np.float32) for i in range(10)]
    write_cases(tmp_path, pixels)
    inputs = (tmp_path / "cases", tmp_path / "split.csv", tmp_path / "statistics.json")
    statistics.main(*inputs, StatisticsParams())
    with pytest.raises(UserError, match="case case0007: a pixel is nan, or too large for float16"):
        dataset.main(*inputs, tmp_path / "d.h5", DatasetParams(dtype="float16"), MachineParams(workers=workers))
    assert not (tmp_path / "d.h5").exists()


LONG = [(60, 20), (64, 24), (24, 60), (20, 66), (40, 40)] * 4


def test_long_pictures_are_padded_where_a_crop_would_cut_away_much_and_it_says_so(tmp_path, capsys):
    made = make(tmp_path, [noise("uint8", 1, *size) for size in LONG], shape=(32, 32))
    said = capsys.readouterr().out
    assert "a crop would cut away 5" in said and "they are padded instead; dataset.fit: crop or stretch" in said
    about = tensors.read_description(made)
    assert about.geometry["fit"] == "pad"
    train = tensors.read_split(made, "train").x
    assert (train[0, 0, :, :10] == about.geometry["fill"]).all()  # 60x20 -> 32x11, at the centre


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_what_was_chosen_for_long_pictures_is_done_with_a_warning_of_what_is_lost(tmp_path, capsys, fit):
    made = make(tmp_path, [noise("uint8", 1, *size) for size in LONG], shape=(32, 32), fit=fit)
    assert ("are cut away around the centre: dataset.fit: pad or stretch keeps all" in capsys.readouterr().out) == (
        fit == "crop"
    )
    assert tensors.read_description(made).geometry.get("fit", "crop") == fit


def test_pictures_of_nearly_one_proportion_are_cropped_without_a_word(tmp_path, capsys):
    made = make(tmp_path, [noise("uint8", 1, 30 + i % 3, 31) for i in range(20)], shape=(16, 16))
    assert "cut away" not in capsys.readouterr().out
    assert "fit" not in tensors.read_description(made).geometry


def test_a_wanted_size_of_the_shorter_side_is_followed_by_a_crop(tmp_path, capsys):
    make(tmp_path, [noise("uint8", 1, *size) for size in LONG], shape=(32, 32), resize=32)
    assert "are cut away around the centre" in capsys.readouterr().out


@pytest.mark.parametrize("given", [{"resize": 8, "fit": "pad"}, {"spacing_mm": (1.0, 1.0, 1.0), "fit": "stretch"}])
def test_ways_to_fit_that_contradict_each_other_are_refused(given):
    with pytest.raises(ValueError, match="leave"):
        DatasetParams(**given)


def numbers(values, kind="regression", weight=None):
    """split.csv's table of training cases with these numbers."""
    none = np.zeros(len(values), np.int32)
    case = np.array([f"c{i:08d}" for i in range(len(values))], splits.NAME)
    column = np.array(values, np.float32)[:, None]
    weight = None if weight is None else np.array(weight, np.float32)
    return splits.Table(case, case, ["d"], none, none.astype(np.int8), Target(kind, ("d",)), column, weight)


@pytest.mark.parametrize("unit", [1e-30, 1e-20, 1, 1e20, 2e29])
def test_mean_and_deviation_of_numbers_of_any_size_are_those_of_double_precision(unit):
    values = np.float32(np.array([1, 2, 4, 5]) * unit)
    found = dataset.asked(numbers(values))
    np.testing.assert_allclose([found.mean, found.deviation], [3 * unit, np.sqrt(2.5) * unit], rtol=1e-6)
    far = dataset.asked(numbers([1e7 + 1, 1e7 + 2, 1e7 + 2, 1e7 + 3]))
    assert (far.mean, far.deviation) == (1e7 + 2, pytest.approx(np.sqrt(0.5), rel=1e-12))


@pytest.mark.parametrize("kind", ["regression", "log_regression"])
def test_numbers_of_which_all_that_count_are_equal_are_nothing_to_learn(kind):
    for table in (numbers([5] * 12, kind), numbers([0.1] * 7, kind), numbers([1, 5, 5], kind, [0, 1, 2])):
        with pytest.raises(UserError, match="all training cases that count have the same d: there is nothing to learn"):
            dataset.asked(table)
