"""torchvision's zoo and Torch Hub, without a network connection: weights are random, files are local."""

import pytest
import torch
import torchvision

from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint, networks
from stages.lib.model.networks.adapting import fill
from stages.lib.params.train import TrainParams
from tests.conftest import write_dataset_h5
from tests.train.test_train import PLAIN, train_on

MODELS = [
    ("alexnet", (63, 63)),
    ("resnet18", (16, 16)),
    ("squeezenet1_1", (32, 32)),
    ("mobilenet_v3_small", (16, 16)),
    ("googlenet", (32, 32)),
    ("densenet121", (32, 32)),
    ("r3d_18", (4, 16, 16)),
]


@pytest.mark.parametrize(("model", "size"), MODELS)
def test_a_model_of_the_zoo_takes_the_channels_and_classes_of_the_data(model, size):
    network = networks.build("torchvision", 1, 5, size, {"model": model})
    logits = network(torch.randn(2, 1, *size))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_small_pictures_can_be_resized_for_a_network_that_needs_larger_ones():
    network = networks.build("torchvision", 3, 2, (8, 8), {"model": "alexnet", "resize": 64})
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 2)


def test_a_model_for_images_is_none_for_volumes_and_a_typing_error_gets_the_nearest():
    with pytest.raises(ValueError, match="no model 'resnet18' for volumes: .*r3d_18"):
        networks.build("torchvision", 1, 2, (4, 8, 8), {"model": "resnet18"})
    with pytest.raises(ValueError, match="no model 'resnet81' for images: did you mean resnet18"):
        networks.build("torchvision", 1, 2, (8, 8), {"model": "resnet81"})


RESNET = {"network": {"name": "torchvision", "arguments": {"model": "resnet18"}}, "epochs": 1}


@pytest.mark.slow
def test_pretrained_weights_of_a_file_are_frozen_but_for_the_last_layer(images_h5, tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.resnet18()  # 3 channels, 1000 classes
    torch.save(published.state_dict(), tmp_path / "resnet18.pth")
    given = RESNET | {"pretrained": str(tmp_path / "resnet18.pth"), "body_lr": 0.0, "keep": "last"}
    train_on(images_h5, tmp_path / "out", given)
    model, _ = checkpoint.load(tmp_path / "out" / "model.pt")
    trained, own = model.network.model, published.state_dict()
    for name, value in trained.state_dict().items():
        if name == "conv1.weight":  # one channel for three: the same answer to grey
            torch.testing.assert_close(value, own[name].mean(1, keepdim=True) * 3)
        elif not name.startswith("fc."):
            assert torch.equal(value, own[name]), name


def test_a_gentle_rate_moves_the_body_less_than_the_head(images_h5, tmp_path):
    given = {"network": {"name": "convolutional"}, "epochs": 1, "keep": "last", "seed": 3}
    moved = {}
    for rate in (1.0, 0.1):
        train_on(images_h5, tmp_path / str(rate), given | {"body_lr": rate})
        model, recipe = checkpoint.load(tmp_path / str(rate) / "model.pt")
        torch.manual_seed(3)
        fresh = checkpoint.build(recipe)
        moved[rate] = [(model.network.get_parameter(n) - p).norm().item() for n, p in fresh.network.named_parameters()]
    assert moved[0.1][0] == pytest.approx(moved[1.0][0] / 10, rel=0.05)  # the first convolution, in one step
    assert moved[0.1][-1] == pytest.approx(moved[1.0][-1], rel=0.05)


def test_a_warm_start_goes_on_from_a_former_model_and_with_other_classes_but_for_the_last_layer(images_h5, tmp_path):
    given = PLAIN | {"network": {"name": "fully_connected"}, "epochs": 3, "lr": 0.1}
    _, first, _ = train_on(images_h5, tmp_path / "former", given)
    warm = given | {"warm_start": str(tmp_path / "former" / "model.pt")}
    _, _, again = train_on(images_h5, tmp_path / "again", warm)
    assert again["validation_loss"][0] < first["validation"]["loss"]
    write_dataset_h5(tmp_path / "grown.h5", classes=4)
    _, _, grown = train_on(tmp_path / "grown.h5", tmp_path / "grown", warm)
    assert grown["validation_accuracy"].iloc[-1] > 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (RESNET | {"pretrained": "IMAGENET"}, "train.pretrained is IMAGENET: known are DEFAULT, IMAGENET1K_V1"),
        (RESNET | {"pretrained": "nowhere.pth"}, "train.pretrained: nowhere.pth not found"),
        ({"pretrained": "DEFAULT"}, "a name is for torchvision's networks; give a file"),
        ({"warm_start": "nowhere.pt"}, "train.warm_start: nowhere.pt not found .*copy a former model.pt elsewhere"),
        ({"network": {"name": "hub"}}, "train.network: hub needs the options repo"),
    ],
)
def test_weights_that_can_not_be_had_end_with_a_message(images_h5, tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        train_on(images_h5, tmp_path / "out", given)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="they are of another network"):
        fill(networks.build("skip", 1, 2, (8, 8), {}), networks.build("compact", 1, 2, (8, 8), {}).state_dict())


def test_weights_for_pictures_of_another_size_are_refused():
    of_larger = networks.build("fully_connected", 1, 2, (9, 9), {}).state_dict()
    with pytest.raises(ValueError, match="or of other data: layers.1.weight can't be taken over"):
        fill(networks.build("fully_connected", 1, 2, (8, 8), {}), of_larger)


def test_two_places_to_begin_from_are_refused():
    with pytest.raises(ValueError, match="give one"):
        params.check(TrainParams, {"pretrained": "a.pth", "warm_start": "b.pt"})


def test_a_model_comes_from_a_local_hub_folder(images_h5, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(
        "from torch import nn\n\n\ndef tiny(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 9))\n"
    )
    options = {"repo": str(tmp_path / "hub"), "model": "tiny", "options": {"width": 6}}
    train_on(images_h5, tmp_path / "out", {"network": {"name": "hub", "arguments": options}, "epochs": 1})
    model, _ = checkpoint.load(tmp_path / "out" / "model.pt", code_of_others=True)
    assert model.network.model[0].in_channels == 1
    assert model.network.model[3].out_features == len(tensors.read_description(images_h5).classes)


def test_this_repository_is_a_hub_of_its_own_networks():
    network = torch.hub.load(".", "compact", source="local", channels=3, classes=2, size=(16, 16), widths=[4, 8])
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 2)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # TorchScript is deprecated in favour of torch.export
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("model", "size"), [("alexnet", (63, 63)), ("r3d_18", (4, 16, 16))])
def test_a_model_of_the_zoo_scripts_and_exports(model, size):
    network = networks.build("torchvision", 1, 5, size, {"model": model}).eval()
    x = torch.randn(2, 1, *size)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    torch.testing.assert_close(exported.module()(x), network(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x), atol=1e-4, rtol=1e-4)
