import zipfile

import numpy as np
import pytest
from PIL import Image

from stages.lib import params
from stages.lib.core.errors import UserError
from tools import birds
from tools.bench.training import RECIPE


def test_the_recipe_is_made_of_valid_params_with_the_notes_own_choices():
    recipe = params.load(RECIPE).datasets
    notes = recipe["birds_notes"]["train"]
    assert (notes.network.name, notes.batch_size, notes.optimizer.name, notes.lr, notes.epochs) == (
        "convolutional",
        64,
        "SGD",
        0.01,
        100,
    )
    assert recipe["birds"]["train"].network.name == "compact"


def test_two_classes_are_taken_out_of_a_zip_file_of_class_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as packed:
        for name in ("airplane", "bird", "cat"):
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
            packed.write(tmp_path / "a.png", f"cifar/{name}/a.png")
    (tmp_path / "raw").mkdir()
    assert birds.copy(tmp_path / "images.zip", birds.CLASSES, tmp_path / "raw", tmp_path / "scratch") == 2
    assert sorted(str(p.relative_to(tmp_path / "raw")) for p in (tmp_path / "raw").rglob("*.png")) == [
        "airplane/a.png",
        "bird/a.png",
    ]


def test_a_folder_without_the_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no folder 'airplane'"):
        birds.copy(tmp_path, birds.CLASSES, tmp_path / "raw", tmp_path)
