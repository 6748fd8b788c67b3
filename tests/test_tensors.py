import numpy as np
import pytest

from stages.lib import tensors
from stages.lib.core.errors import UserError


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
