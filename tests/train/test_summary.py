import torch

from stages.lib.model import checkpoint, networks
from stages.lib.model.classifier import Classifier, Normalise
from stages.lib.model.complexity import complexity
from tests.train.test_train import train_on

NORMALISE = {"low": [0.0] * 3, "high": [255.0] * 3, "shift": [0.0] * 3, "scale": [1 / 255] * 3, "dims": 2}


def test_a_fully_connected_net_has_one_multiply_add_per_weight():
    network = networks.build("fully_connected", 3, 2, (32, 32), {})
    assert [tuple(p.shape) for p in network.parameters()] == [(512, 3072), (512,), (2, 512), (2,)]
    about = complexity(Classifier(Normalise(**NORMALISE), network), torch.zeros(1, 3, 32, 32))
    weights = 512 * 3072 + 2 * 512
    assert about == {"parameters": weights + 514, "learning": weights + 514, "multiply_adds": weights}


def test_a_convolution_is_counted_at_every_place_and_frozen_weights_do_not_learn():
    network = networks.build("convolutional", 3, 2, (32, 32), {"depth": 1, "width": 4, "hidden": 8})
    network.body.requires_grad_(False)
    about = complexity(Classifier(Normalise(**NORMALISE), network), torch.zeros(1, 3, 32, 32))
    convolution, linear = 4 * 3 * 9, 8 * 4 * 16 * 16 + 2 * 8
    assert about["multiply_adds"] == convolution * 32 * 32 + linear
    assert about["parameters"] - about["learning"] == convolution + 4


def test_a_run_tells_its_networks_size_at_the_start_and_in_its_metrics(images_h5, tmp_path, capsys):
    _, summary, history = train_on(images_h5, tmp_path / "out", {"epochs": 1, "network": {"name": "convolutional"}})
    assert summary["network"] == "convolutional"
    assert summary["parameters"] == sum(p.numel() for p in checkpoint.load(tmp_path / "out/model.pt")[0].parameters())
    line = f"{summary['parameters']:,} parameters, {summary['multiply_adds']:,} multiply-adds per sample of 1x8x8"
    assert line in capsys.readouterr().err
    layers = ["body.0", "body.3", "head.1", "head.3"]
    assert [name for name in history if name.startswith("gradient")] == [f"gradient {layer}" for layer in layers]
    assert (history[[f"gradient {layer}" for layer in layers]] > 0).all(axis=None)
