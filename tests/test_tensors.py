import json

import h5py
import numpy as np
import pytest

from stages.lib import tensors
from stages.lib.core.errors import DamagedOut, UserError
from stages.lib.targets import KINDS
from tests.conftest import target_of, write_dataset_h5


def test_a_split_is_mapped_as_it_was_written(volumes_h5):
    train = tensors.read_split(volumes_h5, "train")
    assert all(isinstance(array.base, np.memmap) for array in (train.x, train.y, train.case, train.group))
    assert train.x.shape == (24, 1, 6, 8, 8)
    assert train.x.dtype == np.int16
    assert train.y[:4].tolist() == [0, 1, 2, 0]
    assert train.cases[1] == "tr0001"


def test_the_description_comes_back(images_h5):
    about = tensors.read_description(images_h5)
    assert about.classes == ["class0", "class1", "class2"]
    assert about.axes == "NCHW"
    assert about.shape == [1, 8, 8]


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(UserError, match="dataset.h5: not found"):
        tensors.read_split(tmp_path / "dataset.h5", "train")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_asked_of_cases_and_how_much_they_count_come_back_as_they_were_written(tmp_path, kind, weighted):
    write_dataset_h5(tmp_path / "d.h5", kind=kind, weighted=weighted)
    names = ["class0", "class1", "class2"]
    y, target, asked = target_of(kind, np.arange(24) % 3, names)
    found, about = tensors.read_split(tmp_path / "d.h5", "validation"), tensors.read_description(tmp_path / "d.h5")
    np.testing.assert_array_equal(found.target, target.astype(np.float32))
    assert found.target.dtype == np.float32 and isinstance(found.target.base, np.memmap)
    assert found.y.tolist() == y.tolist()
    assert about.asked == tensors.Asked(**asked) and about.classes == asked["names"]
    assert (found.weight is not None) == weighted
    assert not weighted or found.weight.tolist() == [1.0, 2.0] * 12


def test_a_dataset_of_the_class_alone_has_no_answers_and_no_weights(images_h5):
    train, about = tensors.read_split(images_h5, "train"), tensors.read_description(images_h5)
    assert train.target is None and train.weight is None and "target" not in about.plain()
    assert about.asked == tensors.Asked("classes", ["class0", "class1", "class2"])


def damaged(path, kind, edit):
    """What is said of a file of such a kind after an edit."""
    write_dataset_h5(path, kind=kind, weighted=True)
    tensors.read_split(path, "test")
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(DamagedOut) as raised:
        tensors.read_split(path, "test")
    assert raised.value.paths == (path,)
    return raised.value.fault


def cell(name, value):
    def edit(file):
        file[name][(3,) + (0,) * (file[name].ndim - 1)] = value

    return edit


def instead(name, change):
    """Another array in the place of one."""

    def edit(file):
        array = np.asarray(change(file[name][()]))
        del file[name]
        file[name] = array

    return edit


NO_ANSWER = "a case of test is no answer to the target that is described"
NO_WEIGHT = "a case of test has a weight that is no number of 0 or more"


@pytest.mark.parametrize(
    ("kind", "edit", "said"),
    [
        ("classes", cell("test/target", 0.9), NO_ANSWER),
        ("classes", cell("test/target", np.nan), NO_ANSWER),
        ("ordinal", cell("test/target", -1), NO_ANSWER),
        ("multilabel", cell("test/target", 0.5), NO_ANSWER),
        ("multilabel", cell("test/target", np.inf), NO_ANSWER),
        ("regression", cell("test/target", np.nan), NO_ANSWER),
        ("log_regression", cell("test/target", 0), NO_ANSWER),
        ("regression", cell("test/weight", np.nan), NO_WEIGHT),
        ("multilabel", cell("test/weight", -1), NO_WEIGHT),
        ("classes", cell("test/weight", np.inf), NO_WEIGHT),
        ("multilabel", instead("test/target", lambda of: of[:, :2]), "/test/target has the shape (24, 2), not (24, 3)"),
        ("regression", instead("test/target", lambda of: of[:, 0]), "/test/target has the shape (24,), not (24, 1)"),
        ("ordinal", instead("test/target", lambda of: of[:-1]), "/test/target has the shape (23, 3), not (24, 3)"),
        ("regression", instead("test/target", lambda of: of.astype(float)), "/test/target is of float64, not of float"),
        ("regression", instead("test/weight", lambda of: of[1:]), "/test/weight has the shape (23,), not (24)"),
        ("multilabel", lambda file: file["test"].pop("target"), "target"),
    ],
)
def test_answers_and_weights_that_can_not_be_are_named(tmp_path, kind, edit, said):
    assert said in damaged(tmp_path / "d.h5", kind, edit)


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("multilabel", {"names": ["class0", "class1"]}, "the classes are not those of the target"),
        ("multilabel", {"names": []}, "multilabel of nothing is none"),
        ("multilabel", {"kind": "labels"}, "kind"),
        ("regression", {"names": ["diameter", "more"]}, "regression is of one number"),
        ("regression", {"deviation": 0.0}, "the target's deviation is 0"),
        ("log_regression", {"mean": float("nan")}, "mean"),
        ("ordinal", {"order": []}, "order"),
    ],
)
def test_a_description_of_a_target_that_can_not_be_is_refused(tmp_path, kind, changed, said):
    def edit(file):
        about = json.loads(file["description"][()])
        about["target"] |= changed
        del file["description"]
        file["description"] = np.bytes_(json.dumps(about))

    assert said in damaged(tmp_path / "d.h5", kind, edit)
