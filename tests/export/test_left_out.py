"""Transformers, and formats that a network can't have: what is written, and what says so."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from stages import export
from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.export import formats
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats import torchscript
from stages.lib.export.formats.program import Program
from stages.lib.export.formats.runner import Unsupported
from stages.lib.geometry import Geometry
from stages.lib.model import archive, checkpoint, left_out, networks, script_check
from stages.lib.model.networks.adapting import adapt
from stages.lib.params.export import ExportParams
from tests.conftest import write_model_pt
from tests.export.test_export import run

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")

TRANSFORMERS = {
    "tiny_vit": partial(
        VisionTransformer, image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    ),
    "tiny_swin": partial(  # of more than a window, so that the second layer's are shifted and masked
        SwinTransformer, patch_size=[1, 1], embed_dim=4, depths=[2], num_heads=[2], window_size=[4, 4]
    ),
}


def named(model):
    """A transformer as a network of this project, which takes (channels, classes, size)."""

    def made(channels, classes, size):
        network = model()
        adapt(network, channels, classes)
        return network

    return made


class Choosing(nn.Module):
    """A network whose branch depends on the numbers of its samples: TorchScript alone can express it."""

    def __init__(self, channels: int, classes: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x.float().flatten(1))
        if float(x.sum()) > 0:
            return y
        return -y


@pytest.fixture
def known(monkeypatch):
    for name, model in TRANSFORMERS.items():
        monkeypatch.setitem(networks.NETWORKS, name, named(model))
    monkeypatch.setitem(networks.NETWORKS, "choosing", Choosing)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_leaves_in_every_format_for_batches_of_any_size(known, tmp_path, images_h5, name):
    write_model_pt(tmp_path / "model.pt", images_h5, name)
    assert "left_out" not in run(tmp_path, images_h5, tmp_path / "model.pt")
    classifier, _ = checkpoint.load(tmp_path / "model.pt")
    x = np.array(tensors.read_split(images_h5, "test").x)
    views = [classifier(torch.from_numpy(x)), classifier(torch.from_numpy(x).flip(-1))]
    wanted = torch.stack([(logits / 2.0).softmax(1) for logits in views]).mean(0).detach().numpy()
    for suffix in formats.FORMATS:  # as strangers would open them: no operator that is not known to be harmless
        runner = formats.file_format(suffix).load(tmp_path / f"model{suffix}")
        for size in (1, 2, 3, 24):
            assert np.abs(runner(x[:size])[0] - wanted[:size]).max() < 1e-6, suffix


@pytest.mark.slow
def test_a_format_that_a_network_cannot_have_is_left_out_and_every_file_says_so(known, tmp_path, images_h5):
    write_model_pt(tmp_path / "model.pt", images_h5, "choosing")
    report = run(tmp_path, images_h5, tmp_path / "model.pt")
    assert report["left_out"].keys() == {"model.onnx", "model.pt2"} and "model.onnx" not in report
    assert "Could not guard on data-dependent" in report["left_out"]["model.onnx"]
    noted = torchscript.read_metadata(tmp_path / "model.torchscript")["left_out"]
    assert noted == {name[6:]: reason for name, reason in report["left_out"].items()}
    card = (tmp_path / "card.md").read_text()
    assert "There is no model.onnx: torch.export can't export" in card and "torch.jit.load" in card
    assert "InferenceSession" not in card and "torch.export.load" not in card and "- onnx" not in card
    for suffix in (".onnx", ".pt2"):
        assert json.loads((tmp_path / f"model{suffix}").read_text())["left_out"] == suffix[1:]
        for opening in (
            formats.open_model,
            formats.file_format(suffix).load,
            formats.file_format(suffix).read_metadata,
        ):
            with pytest.raises(UserError, match="holds no model, as this format was left out: torch.export can't"):
                opening(tmp_path / f"model{suffix}")
    assert (tmp_path / "variants" / "accuracy.csv").read_text() == "file,bytes,difference_below\n"
    x = np.array(tensors.read_split(images_h5, "test").x)
    assert formats.open_model(tmp_path / "model.torchscript")[0](x)[0].shape == (24, 3)


def program(network, size=(4, 4)):
    """A network behind a geometry, with the metadata that writing needs."""
    facts = {"classes": ["a", "b"], "input": {"inputs": ["input"], "channels": [1], "dtype": "uint8"}}
    module = Native(Geometry("keep", None, None, size, 0.0, "uint8"), network).eval()
    return Program(module, (1, *size), "uint8", facts)


def paths_in(folder):
    return {suffix: folder / f"model{suffix}" for suffix in formats.FORMATS}


@pytest.mark.slow
def test_formats_that_are_not_asked_for_are_not_made(tmp_path):
    paths = paths_in(tmp_path)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    said = export.convert(program(module), paths, params.check(ExportParams, {"formats": ["torchscript"]}))
    assert said == {suffix: "not in export.formats" for suffix in (".onnx", ".pt2")}
    metadata = torchscript.read_metadata(paths[".torchscript"])
    assert metadata["left_out"] == {"onnx": "not in export.formats", "pt2": "not in export.formats"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"formats": ["torchscript", "pt2"]},
            r"export\.formats asks for pt2, which this network can't have: torch.export",
        ),
        ({"variants": ["half"]}, "export.variants are made from model.onnx, which this network can't have"),
    ],
)
def test_what_is_asked_for_by_name_and_can_not_be_had_is_an_error(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        export.convert(program(Choosing(1, 2, (4, 4))), paths_in(tmp_path), params.check(ExportParams, given))


class DependsOnTheBatch(nn.Module):
    """Neither a trace nor torch.export holds for any batch, and TorchScript has no such Python."""

    def forward(self, x, **options):
        return x.float().mean((2, 3)) * (2 if len(x) > 3 else 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [("DependsOnTheBatch", "torch.export can't .*"), ("ReadsANumber", "it computes with numbers .*")],
)
def test_a_network_that_depends_on_the_batch_or_on_numbers_is_not_traced(tmp_path, name, message):
    with pytest.raises(Unsupported, match=rf"it can't be traced \({message}\), nor scripted"):
        torchscript.write(tmp_path / "model.torchscript", program(globals()[name]()))


def test_a_network_whose_layers_have_hyphens_in_their_names_leaves_in_pt2(tmp_path):
    layers = nn.Sequential(nn.Flatten())
    layers.add_module("block1-0", nn.Linear(16, 2))  # as RegNet's are called
    made = Program(layers.eval(), (1, 4, 4), "float32", {"classes": ["a", "b"], "input": {"dtype": "float32"}})
    formats.file_format(".pt2").write(tmp_path / "model.pt2", made)
    x = np.random.default_rng(0).random((3, 1, 4, 4), np.float32)
    said = formats.file_format(".pt2").load(tmp_path / "model.pt2")(x)[0]
    assert np.abs(said - layers(torch.from_numpy(x)).detach().numpy()).max() < 1e-6


class ReadsANumber(nn.Module):
    """torch.export follows the number, a trace makes it a constant, and TorchScript has no such Python."""

    def forward(self, x, **options):
        x = x.float()
        return x.mean((2, 3)) * x.max().item()


class FixesTheBatch(nn.Module):
    """A trace makes the number a constant, and TorchScript has no such Python."""

    def forward(self, x, **options):
        return x.float().mean((2, 3)).reshape(int(x.shape[0]), 1)


@pytest.mark.parametrize(
    ("network", "message"),
    [(FixesTheBatch, "fails on a batch of 1"), (DependsOnTheBatch, "gives other answers for a batch of 5")],
)
def test_a_trace_that_holds_for_one_size_of_batch_alone_is_found_out(tmp_path, monkeypatch, network, message):
    monkeypatch.setattr(torchscript, "_why_not_traced", lambda program: "")  # as if torch.export had taken it
    with pytest.raises(Unsupported, match=rf"it can't be traced \(a trace of it {message}.*\), nor scripted"):
        torchscript.write(tmp_path / "model.torchscript", program(network()))


@pytest.mark.slow
def test_a_network_that_no_format_can_hold_is_one_message(tmp_path):
    with pytest.raises(
        UserError, match="can be exported to no format .*torchscript: .*: nothing was exported"
    ) as refused:
        export.convert(program(DependsOnTheBatch()), paths_in(tmp_path), ExportParams())
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_weights_beyond_what_onnx_holds_are_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.file_format(".onnx"), "LARGEST", 100)
    of_weights = program(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    with pytest.raises(Unsupported, match="its weights are 0.0 GiB, and ONNX holds 2 GiB"):
        formats.file_format(".onnx").write(tmp_path / "model.onnx", of_weights)


def test_a_note_is_told_from_a_model_and_from_what_only_looks_like_one(tmp_path):
    assert left_out.why(left_out.note("onnx", 'its "Choice" can\'t')) == 'its "Choice" can\'t'
    for other in (b"PK\x03\x04", b'{"left_out": ', b'{"left_out": 1}', b'{"left_out": 1, "reason": 2}', b"[" * 9):
        assert left_out.why(other) is None
    (tmp_path / "m.onnx").write_bytes(left_out.note("onnx", "why"))
    with pytest.raises(UserError, match=r"m\.onnx holds no model, as this format was left out: why"):
        archive.read_file(tmp_path / "m.onnx")


@pytest.mark.parametrize("device", ["'cuda'", "'meta'", "'cpu', 0", "x"])
def test_code_may_name_the_cpu_and_no_other_device(device):
    code = "class Native(Module):\n  def forward(self: __torch__.Native, x: Tensor) -> Tensor:\n    return "
    assert "torch.device('cpu')" in script_check._checked(f'{code}torch.to(x, torch.device("cpu"))'.encode(), False)
    with pytest.raises(ValueError, match=r"calls torch\.device"):
        script_check._checked(f"{code}torch.to(x, torch.device({device}))".encode(), False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formats": []}, "formats"),
        ({"formats": ["onnx", "onnx"]}, "formats has one twice"),
        ({"formats": ["tflite"]}, "formats"),
        ({"formats": ["pt2"], "variants": ["half"]}, "variants are made from model.onnx"),
    ],
)
def test_formats_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        params.check(ExportParams, given)
