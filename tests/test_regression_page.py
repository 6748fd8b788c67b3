"""docs/regression.md: its code runs as written, from a line fitted by hand to a checked model of a number."""

import json

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages.lib.params.sample import SampleParams
from stages.sample import main as sample
from tests import ROOT
from tests.test_docs import blocks
from tests.tools import test_agree
from tools import predict

PAGE = (ROOT / "docs" / "regression.md").read_text(encoding="utf-8")


def test_autograd_finds_the_line_that_was_fitted_by_hand():
    found: dict = {}
    for block in blocks(PAGE, "python")[:2]:
        exec(block, found)
    slope, offset = np.polyfit(found["x"].numpy(), found["true"].numpy(), 1)
    np.testing.assert_allclose(found["by_hand"], [slope, offset], rtol=1e-3)
    np.testing.assert_allclose(found["by_autograd"], found["by_hand"], rtol=1e-3)
    assert f"{found['by_hand'][0]:.2f} degrees a tenth, and {found['by_hand'][1]:.1f}" in PAGE


@pytest.mark.slow
def test_the_ink_of_digits_is_learnt_from_raw_files_to_the_exported_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sample(tmp_path / "data/raw/digits", SampleParams(source="digits"))
    exec(blocks(PAGE, "python")[2], {})
    (tmp_path / "data/raw/ink").rename(tmp_path / "data/raw/small")  # as the chain of the tests calls it
    block = YAML(typ="safe", pure=True).load(blocks(PAGE, "yaml")[0])["ink"]
    monkeypatch.setattr(test_agree, "SECTIONS", block)
    monkeypatch.chdir(ROOT)
    paths = test_agree.run_chain(tmp_path)
    measured = json.loads(paths["validate_json"].read_text())["test"]
    assert measured["r2"] > 0.97
    assert 0.8 < measured["coverage"] <= 1
    picture = sorted((tmp_path / "data/raw/small").glob("*.png"))[0]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        predict.main([str(paths["model_onnx"]), str(picture), "--output", "jsonl"])
    told = json.loads(capsys.readouterr().out)
    assert (told["number"], told["unit"]) == ("ink", "fraction")
    assert told["low"] < told["value"] < told["high"]
