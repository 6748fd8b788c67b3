import numpy as np
import pytest
import torch

from stages.lib import tensors
from stages.lib.model import checkpoint
from stages.lib.validate import gradcam
from tests.conftest import write_dataset_h5, write_model_pt


@pytest.mark.parametrize("shape", [(1, 9, 9), (1, 6, 9, 9)])
def test_the_map_is_as_large_as_the_sample_and_within_0_and_1(tmp_path, shape):
    write_dataset_h5(tmp_path / "d.h5", shape)
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5")
    classifier, _ = checkpoint.load(tmp_path / "m.pt")
    heat = gradcam.explain(classifier, tensors.read_split(tmp_path / "d.h5", "test").x[0], 1)
    assert heat.shape == shape[1:]
    assert heat.min() >= 0 and heat.max() <= 1


def test_the_map_is_hot_where_the_evidence_lies(tmp_path, images_h5):
    """A network whose only layer counts the light in the right half as evidence for class 1."""
    write_model_pt(tmp_path / "m.pt", images_h5)
    classifier, _ = checkpoint.load(tmp_path / "m.pt")
    classifier.network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()
    )
    with torch.no_grad():
        classifier.network[0].weight[:] = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
        classifier.network[0].bias.zero_()
    sample = np.zeros((1, 8, 8), np.uint8)
    sample[..., 6] = 255
    heat = gradcam.explain(classifier, sample, 1)
    assert heat[:, 6].min() == 1
    assert heat[:, :4].max() == 0


def test_explaining_leaves_the_model_as_it_was(tmp_path, images_h5):
    write_model_pt(tmp_path / "m.pt", images_h5)
    classifier, _ = checkpoint.load(tmp_path / "m.pt")
    x = torch.from_numpy(np.array(tensors.read_split(images_h5, "test").x))
    before = classifier(x)
    gradcam.explain(classifier, x[0].numpy(), 0)
    assert torch.equal(classifier(x), before)
    assert not any(module._forward_hooks for module in classifier.modules())
    assert all(weight.grad is None for weight in classifier.parameters())
