import io
import pickle

import pytest
import torch

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from tests.conftest import write_model_pt


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


def other_recipe(recipe, **changes):
    return checkpoint.Recipe(**{**vars(recipe), **changes})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"arguments": {"widths": [60_000, 60_000]}}, "larger than the weights"),
        ({"arguments": {"widths": [1] * 5_000}}, "more layers than it holds weights for"),
        pytest.param({"arguments": {"widths": [[4]] * 100_000}}, "recipe is too long", marks=pytest.mark.slow),
        ({"network": "hub", "arguments": {"repo": "./here", "model": "x"}}, "run the code of others; give --trust"),
        ({"normalise": {"low": [0], "high": [1], "shift": [0], "scale": [1], "dims": 10**9}}, "dims is not 2"),
    ],
)
def test_a_recipe_for_more_than_the_file_holds_is_refused_before_it_is_built(tmp_path, recipe, changes, message):
    checkpoint.save(tmp_path / "model.pt", other_recipe(recipe, **changes), checkpoint.build(recipe))
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path / "model.pt")


def test_a_network_of_others_is_not_built_from_a_file_unless_it_is_trusted(tmp_path, recipe):
    (tmp_path / "hubconf.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'harm')!r}).touch()\n")
    hub = other_recipe(recipe, network="hub", arguments={"repo": str(tmp_path), "model": "x"})
    checkpoint.save(tmp_path / "model.pt", hub, checkpoint.build(recipe))
    for trusted, message in ((False, "give --trust"), (True, "x")):
        with pytest.raises(UserError, match=message):
            checkpoint.load(tmp_path / "model.pt", code_of_others=trusted)
        assert (tmp_path / "harm").exists() == trusted


def test_weights_that_are_one_number_repeated_are_refused(tmp_path, recipe):
    model = checkpoint.build(recipe)
    weights = {name: torch.zeros(1).expand(value.shape) for name, value in model.state_dict().items()}
    torch.save({"recipe": vars(recipe), "weights": weights}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="not contiguous"):
        checkpoint.load(tmp_path / "model.pt")


def test_code_of_torch_hub_runs_only_if_params_yaml_names_its_repository(tmp_path, images_h5):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nimport torch\ndef net(): return torch.nn.Linear(64, 3)\n"
    )
    write_model_pt(tmp_path / "model.pt", images_h5)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    content["recipe"] |= {"network": "hub", "arguments": {"repo": str(tmp_path / "hub"), "model": "net"}}
    torch.save(content, tmp_path / "model.pt")
    for chosen in ({"name": "compact", "arguments": {}}, {"name": "hub", "arguments": {"repo": "another/one"}}):
        with pytest.raises(UserError, match="would run the code of others"):
            checkpoint.load_for(images_h5, tmp_path / "model.pt", chosen)
    assert not (tmp_path / "ran").exists()
