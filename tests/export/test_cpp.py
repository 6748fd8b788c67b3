import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.lib import tensors
from stages.lib.core.terminal import shown
from stages.lib.export import metadata
from stages.lib.export.end_to_end import Native
from stages.lib.export.formats import torchscript
from stages.lib.export.formats.program import Program
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Deployed, Settings, deployed
from tests import ROOT
from tests.conftest import write_dataset_h5, write_model_pt
from tools import agree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("cmake") and shutil.which("c++")), reason="cmake and a C++ compiler are not installed"
    ),
]


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
    about = asdict(tensors.read_description(tmp_path / "d.h5"))
    classifying = Deployed(checkpoint.load(tmp_path / "m.pt")[0], Settings()).eval()
    model = Native(Geometry(**about["geometry"]), classifying).eval()
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x)
    samples = [*x, np.pad(x[0], [(0, 0), *[(3, 2)] * (x.ndim - 2)], "edge")]  # the last is larger
    spacing = " 1.5 1.0 0.5" if x.ndim == 5 else ""
    classes = ["cat", "a \x1b[2J\x9b dog\x7f", "üçé"]
    facts = {"classes": classes, "input": metadata.contract(about, "fitted")}
    torchscript.write(tmp_path / "m.torchscript", Program(model, shape, about["dtype"], facts))
    lines = [f"{x.dtype} {' '.join(map(str, sample.shape))}{spacing}\n".encode() for sample in samples]
    raw = b"".join(line + sample.tobytes() for line, sample in zip(lines, samples, strict=True))
    (tmp_path / "samples.raw").write_bytes(raw)

    command = [classify, tmp_path / "m.torchscript", tmp_path / "samples.raw"]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split("sample ")[1:]
    given = torch.tensor([1.5, 1.0, 0.5], dtype=torch.float64) if spacing else None
    wanted = np.concatenate([model(torch.from_numpy(one[None]), given).detach().numpy() for one in samples])
    assert len(printed) == len(wanted)
    for text, row in zip(printed, wanted, strict=True):
        lines = re.findall(r"^ *([\d.]+) %  (.*)$", text, re.MULTILINE)
        assert [name for _, name in lines] == [shown(classes[k]) for k in (-row).argsort()]
        assert [float(percent) / 100 for percent, _ in lines] == pytest.approx(sorted(row, reverse=True), abs=1e-6)

    spoilt = {raw[:-1]: "ends within a sample", b"float64" + raw: "has a line", b"": "is empty"}
    for content, message in spoilt.items():
        (tmp_path / "samples.raw").write_bytes(content)
        refused = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        assert refused.returncode == 1
        assert message in refused.stderr


@pytest.mark.parametrize("kind", ["log_regression", "multilabel"])
def test_the_program_prints_a_number_with_its_unit_and_interval_and_each_label_s_percentage(tmp_path, classify, kind):
    write_dataset_h5(tmp_path / "d.h5", kind=kind)
    write_model_pt(tmp_path / "m.pt", tmp_path / "d.h5", trained=True)
    about = tensors.read_description(tmp_path / "d.h5")
    settings = Settings(half_width=0.25 if kind == "log_regression" else 0.0)
    model = deployed(checkpoint.load(tmp_path / "m.pt")[0], about.asked, settings).eval()
    native = Native(Geometry(**about.geometry), model).eval()
    plain = about.plain()
    facts = {"classes": about.classes, "input": metadata.contract(plain, "fitted")} | metadata.answer(plain)
    torchscript.write(tmp_path / "m.torchscript", Program(native, (1, 8, 8), "uint8", facts))
    x = np.array(tensors.read_split(tmp_path / "d.h5", "test").x)
    (tmp_path / "x.raw").write_bytes(b"".join(b"uint8 1 8 8\n" + sample.tobytes() for sample in x))

    command = [classify, tmp_path / "m.torchscript", tmp_path / "x.raw"]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split("sample ")[1:]
    for text, row in zip(printed, model(torch.from_numpy(x)).detach().numpy(), strict=True):
        lines = agree.LINE.findall(text)
        if kind == "log_regression":
            assert [name for _, _, name in lines] == ["diameter [mm]", "diameter low [mm]", "diameter high [mm]"]
            assert [float(value) for value, _, _ in lines] == pytest.approx(row, rel=1e-5) and "%" not in text
        else:
            assert [name for _, _, name in lines] == [f"class{k}" for k in (-row).argsort()]
            assert [float(value) / 100 for value, _, _ in lines] == pytest.approx(sorted(row, reverse=True), abs=1e-6)
