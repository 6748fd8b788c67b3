from typing import get_args

import pytest
import torch
from torch import nn

from stages.lib.model import networks
from stages.lib.model.networks import layers
from stages.lib.params.train import Network

SIZES = {2: (9, 12), 3: (5, 9, 8)}
SMALL = {"fully_connected": {"widths": [8]}, "residual": {"n_blocks": 3}}
OWN = [name for name in networks.NETWORKS if name not in ("torchvision", "hub")]


def build(name, dims, **arguments):
    torch.manual_seed(0)
    return networks.build(name, 2, 3, SIZES[dims], SMALL.get(name, {}) | arguments)


def test_every_network_is_a_choice_of_the_params():
    assert list(networks.NETWORKS) == list(get_args(Network))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", OWN)
def test_every_network_gives_logits_and_every_parameter_a_gradient(name, dims):
    network = build(name, dims)
    logits = network(torch.randn(4, 2, *SIZES[dims]))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # TorchScript is deprecated in favour of torch.export
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", OWN)
def test_every_network_scripts_and_exports(name, dims):
    network = build(name, dims).eval()
    x = torch.randn(2, 2, *SIZES[dims])
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    torch.testing.assert_close(exported.module()(x), network(x))
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [1, 2, 40])
def test_the_convolutional_net_takes_any_size(dims, size):
    network = networks.build("convolutional", 1, 2, (size,) * dims, {"depth": 3})
    assert network(torch.randn(2, 1, *[size] * dims)).shape == (2, 2)


def test_the_default_convolutional_net_has_convolutions_of_16_and_8_channels():
    shapes = [tuple(p.shape) for p in networks.build("convolutional", 3, 2, (32, 32), {}).parameters() if p.ndim > 1]
    assert shapes == [(16, 3, 3, 3), (8, 16, 3, 3), (32, 512), (2, 32)]


@pytest.mark.parametrize("norm", ["BatchNorm", "InstanceNorm", "GroupNorm"])
def test_norm_activation_and_dropout_go_by_their_names_in_torch(norm):
    network = build("convolutional", 3, norm=norm, activation="GELU", dropout=0.4, dropout_name="Dropout")
    names = {type(module).__name__ for module in network.modules()}
    assert {"GELU", "Dropout", norm if norm == "GroupNorm" else f"{norm}3d"} <= names


def test_train_and_eval_modes_switch_dropout_and_the_running_statistics():
    network = build("convolutional", 2, norm="BatchNorm", dropout=0.4)
    x = torch.randn(8, 2, *SIZES[2])
    mean = dict(network.named_buffers())["body.1.running_mean"]
    before = mean.clone()
    network.eval()
    assert torch.equal(network(x), network(x))
    assert torch.equal(mean, before)
    network.train()
    assert not torch.equal(network(x), network(x))
    assert not torch.equal(mean, before)


def test_the_residual_net_has_blocks_of_their_own_initialised_to_add_little():
    network = build("residual", 2, n_blocks=4, width=16)
    kernels = [block.convolution.weight for block in network.blocks]
    assert len({kernel.data_ptr() for kernel in kernels}) == 4
    assert not torch.equal(kernels[0], kernels[1])
    assert all(block.convolution.bias is None for block in network.blocks)
    for block in network.blocks:
        assert torch.equal(block.norm.weight, torch.full((16,), 0.5))
        assert torch.equal(block.norm.bias, torch.zeros(16))
        assert float(block.convolution.weight.detach().std()) == pytest.approx(
            (2 / (16 * 9)) ** 0.5, rel=0.1
        )  # Kaiming, fan in


@pytest.mark.slow
def test_a_hundred_residual_blocks_train():
    network = build("residual", 2, n_blocks=100, width=4)
    optimizer = torch.optim.SGD(network.parameters(), 3e-3)
    x, y = torch.randn(32, 2, *SIZES[2]), torch.arange(32) % 3
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(x), y))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_an_unknown_norm_or_dropout_is_refused_by_name():
    with pytest.raises(ValueError, match="norm 'Batch' is unknown: known are BatchNorm"):
        build("convolutional", 2, norm="Batch")
    with pytest.raises(ValueError, match="dropout is 1.5: expected a fraction"):
        build("convolutional", 2, dropout=1.5)


def test_compact_whitens_the_patches_it_has_seen():
    torch.manual_seed(0)
    x = torch.randn(64, 2, 12, 12).cumsum(2).cumsum(3)  # neighbours alike, as in pictures
    network = networks.build("compact", 2, 3, (12, 12), {})
    network.see(x)
    whitened = network.body[0](x)[:, :8].movedim(1, -1).reshape(-1, 8)
    covariance = whitened.T @ whitened / len(whitened)
    torch.testing.assert_close(covariance, torch.eye(8), atol=0.02, rtol=0)
    assert torch.equal(network.body[0](x)[:, 8:], -network.body[0](x)[:, :8])


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dims", [2, 3])
def test_compact_answers_by_the_strongest_the_mean_or_both(dims):
    x = torch.randn(2, 2, *SIZES[dims])
    answers = {}
    for pooling, features in (("max", 8), ("mean", 8), ("both", 16)):
        torch.manual_seed(0)
        network = build("compact", dims, pooling=pooling, widths=(8,)).eval()
        assert network.head.in_features == features
        places = network.body(x).flatten(2)
        strongest, mean = places.amax(2), places.mean(2)
        pooled = {"max": strongest, "mean": mean, "both": torch.cat([strongest, mean], 1)}[pooling]
        torch.testing.assert_close(network(x), network.head(pooled) * 0.1)
        torch.testing.assert_close(torch.jit.script(network)(x), network(x))
        answers[pooling] = network(x)
    assert not torch.equal(answers["max"], answers["mean"])
    with pytest.raises(ValueError, match="pooling is 'avg': expected max, mean or both"):
        build("compact", dims, pooling="avg")


@pytest.mark.parametrize("name", layers.RISING)
def test_pooling_before_a_rising_activation_gives_what_pooling_after_it_gives(name):
    x = torch.randn(2, 3, 8, 8)
    active, pool = layers.activation(name), nn.MaxPool2d(2)
    torch.testing.assert_close(active(pool(x)), pool(active(x)), rtol=0, atol=0)
