import io
import pickle

import pytest
import torch

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint


@pytest.fixture
def recipe(images_h5):
    about = tensors.read_description(images_h5)
    normalise = {"low": [0], "high": [255], "shift": [0], "scale": [1 / 255], "dims": 2}
    return checkpoint.Recipe("fully_connected", {"widths": [4]}, normalise, vars(about))


def test_a_checkpoint_rebuilds_the_model_it_was_saved_from(tmp_path, recipe):
    model = checkpoint.build(recipe)
    checkpoint.save(tmp_path / "model.pt", recipe, model)
    loaded, again = checkpoint.load(tmp_path / "model.pt")
    x = torch.randint(0, 255, (5, 1, 8, 8), dtype=torch.uint8)
    assert again == recipe
    assert not loaded.training
    assert torch.equal(loaded(x), model.eval()(x))


def test_a_checkpoint_has_the_same_bytes_under_any_name(tmp_path, recipe):
    model = checkpoint.build(recipe)
    checkpoint.save(tmp_path / "a.pt", recipe, model)
    checkpoint.save(tmp_path / "elsewhere" / "b.pt", recipe, model)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "elsewhere" / "b.pt").read_bytes()


def test_a_file_with_pickled_code_is_refused_and_the_code_does_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    content = io.BytesIO()
    torch.save({"recipe": Harm()}, content, pickle_module=pickle)
    (tmp_path / "model.pt").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()
