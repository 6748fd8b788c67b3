import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.lib import checkpoint, tensors
from stages.lib.deployed import Deployed, Settings
from stages.lib.exported import torchscript
from stages.lib.exported.program import Program
from tests.conftest import write_dataset_h5, write_model_pt

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++")), reason="cmake and a C++ compiler are not installed"
)


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """The built program."""
    build = tmp_path_factory.mktemp("cpp")
    package = Path(torch.__file__).parent
    subprocess.run(["cmake", "-S", ROOT / "examples/cpp", "-B", build, f"-DTORCH={package}"], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    return build / "classify"


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 8, 8)], ids=["images", "volumes"])
def test_the_program_prints_the_percentages_of_raw_samples_best_first(tmp_path, classify, shape):
    write_dataset_h5(tmp_path / "d.h5", shape)
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5")
    model = Deployed(checkpoint.load(tmp_path / "m.pt")[0], Settings()).eval()
    split = tensors.read_split(tmp_path / "d.h5", "test")
    classes = ["cat", "a dog", "üçé"]
    torchscript.write(tmp_path / "m.torchscript", Program(model, shape, str(split.x.dtype), {"classes": classes}))
    np.array(split.x).tofile(tmp_path / "samples.raw")

    command = [classify, tmp_path / "m.torchscript", tmp_path / "samples.raw"]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split("sample ")[1:]
    wanted = model(torch.from_numpy(np.array(split.x))).detach().numpy()
    assert len(printed) == len(wanted)
    for text, row in zip(printed, wanted, strict=True):
        lines = re.findall(r"^ *([\d.]+) %  (.*)$", text, re.MULTILINE)
        assert [name for _, name in lines] == [classes[k] for k in (-row).argsort()]
        assert [float(percent) / 100 for percent, _ in lines] == pytest.approx(sorted(row, reverse=True), abs=1e-6)

    (tmp_path / "samples.raw").write_bytes(b"too short")
    refused = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert refused.returncode == 1
    assert "has 9 bytes, expected a multiple of" in refused.stderr
