import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from stages.lib import tensors
from stages.lib.export import metadata
from stages.lib.export.formats import torchscript
from stages.lib.export.formats.program import Program
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings, deployed
from tests import ROOT
from tests.conftest import write_dataset_h5, write_model_pt

KINDS = ("ordinal", "multilabel", "regression", "log_regression")


@pytest.fixture
def repository(tmp_path):
    """A copy of what torch.hub needs of the repository, with an exported model of a dataset called stripes."""
    for folder in ("stages/lib/model", "stages/lib/core"):
        copy = tmp_path / "repository" / folder
        shutil.copytree(ROOT / folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "hubconf.py", tmp_path / "repository")
    write_dataset_h5(tmp_path / "d.h5")
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5")
    model = Deployed(checkpoint.load(tmp_path / "m.pt")[0], Settings()).eval()
    (tmp_path / "repository/models/stripes").mkdir(parents=True)
    program = Program(model, (1, 8, 8), "uint8", {"classes": ["a", "b", "c"]})
    torchscript.write(tmp_path / "repository/models/stripes/model.torchscript", program)
    for kind in KINDS:
        write_dataset_h5(tmp_path / f"{kind}.h5", kind=kind)
        write_model_pt(tmp_path / f"{kind}.pt", tmp_path / f"{kind}.h5")
        asking = tensors.read_description(tmp_path / f"{kind}.h5")
        settings = Settings(half_width=0.5 if "regression" in kind else 0.0)
        of_kind = deployed(checkpoint.load(tmp_path / f"{kind}.pt")[0], asking.asked, settings).eval()
        (tmp_path / "repository/models" / kind).mkdir()
        facts = {"classes": asking.classes} | metadata.answer(asking.plain())
        program = Program(of_kind, (1, 8, 8), "uint8", facts)
        torchscript.write(tmp_path / "repository/models" / kind / "model.torchscript", program)
        samples = torch.from_numpy(np.array(tensors.read_split(tmp_path / f"{kind}.h5", "test").x))
        np.save(tmp_path / f"{kind}.npy", of_kind(samples).detach().numpy())
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "wanted.npy", model(torch.from_numpy(x)).detach().numpy())
    return tmp_path / "repository"


@pytest.mark.slow
def test_torch_hub_gives_networks_and_trained_models_by_name_with_torch_alone(repository, tmp_path):
    code = """
import sys
class Refuse:  # to import anything but torch
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pandas", "pydantic", "h5py", "onnx", "sklearn", "torchvision", "dvc"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy, torch
repository, folder = sys.argv[1:3]
x = torch.from_numpy(numpy.load(folder + "/x.npy"))
model, about = torch.hub.load(repository, "stripes", source="local", about=True)
assert about["classes"] == ["a", "b", "c"]
assert abs(model(x).numpy() - numpy.load(folder + "/wanted.npy")).max() < 1e-6
assert torch.equal(torch.hub.load(repository, "stripes", source="local")(x), model(x))
for kind in sys.argv[3:]:
    model, about = torch.hub.load(repository, kind, source="local", about=True)
    assert about["target"]["kind"] == kind and len(about["outputs"]) == 3
    wanted = numpy.load(f"{folder}/{kind}.npy")
    assert (abs(model(x).numpy() - wanted) <= 1e-5 * (1 + abs(wanted))).all()
network = torch.hub.load(repository, "residual", source="local", channels=1, classes=4, size=(16, 16))
assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 4)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, repository, tmp_path, *KINDS]
    subprocess.run(command, cwd=tmp_path, check=True)
