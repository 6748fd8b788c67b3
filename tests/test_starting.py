"""What each stage imports to begin with: a package that it does not use would be seconds, at every start."""

import subprocess
import sys

import pytest

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
