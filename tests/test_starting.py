"""What each stage, and tools.predict, imports: a package that it does not use would be seconds, at every start."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from stages.lib.export.formats import onnx
from stages.lib.export.formats.program import Program
from tests import ROOT

COSTLY = (
    "torch",
    "torchvision",
    "sklearn",
    "matplotlib",
    "scipy.stats",
    "pandas",
    "h5py",
    "onnx",
    "onnxruntime",
    "PIL",
)
IMPORTED = {
    "check": set(),
    "sample": {"sklearn", "scipy.stats", "pandas", "PIL"},  # scikit-learn's digits
    "ingest": {"h5py"},
    "split": {"pandas"},
    "statistics": {"pandas", "h5py"},
    "dataset": {"pandas", "h5py"},
    "train": {"torch", "pandas", "h5py"},
    "validate": {"torch", "matplotlib", "pandas", "h5py", "PIL"},
    "export": {"torch", "pandas", "h5py", "onnx"},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", IMPORTED)
def test_a_stage_begins_with_the_costly_packages_that_it_uses_and_no_other(stage):
    code = f"import sys, stages.{stage}; print(*(name for name in {COSTLY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == IMPORTED[stage]


@pytest.mark.slow
def test_predict_answers_with_an_onnx_file_without_torch_pandas_or_matplotlib(tmp_path):
    contract = {"inputs": ["input"], "axes": "NCHW", "channels": [1], "size": "any", "shape": [1, 8, 8]}
    contract |= {"dtype": "uint8", "units": "", "spacing_mm": None}
    geometry = {"colour": "keep", "resize": None, "spacing_mm": None, "shape": [8, 8], "fill": 0.0, "dtype": "uint8"}
    network = torch.nn.Sequential(Floats(), torch.nn.Flatten(), torch.nn.Linear(64, 2), torch.nn.Softmax(1)).eval()
    facts = {"classes": ["a", "b"], "input": contract, "geometry": geometry}
    onnx.write(tmp_path / "model.onnx", Program(network, (1, 8, 8), "uint8", facts))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    code = f"""import sys
from tools import predict
try:
    predict.main({[str(tmp_path / "model.onnx"), str(tmp_path / "x.png")]})
finally:
    print(*(name for name in {COSTLY} if name in sys.modules), file=sys.stderr)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "x.png   " in done.stdout
    assert set(done.stderr.split()) == {"onnx", "onnxruntime", "PIL"}


class Floats(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()
