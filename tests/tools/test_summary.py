"""The summary of a run, from the metrics that the stages leave."""

import json
import shutil

import pytest

from stages.lib import command
from tests import ROOT
from tests.demos import needs_demos
from tools import summary

pytestmark = needs_demos


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The shipped metrics of the demo datasets."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "metrics", "metrics")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, name)
    return tmp_path


def printed(capsys, *names: str) -> list[str]:
    summary.main(list(names))
    return capsys.readouterr().out.splitlines()


def test_each_dataset_has_its_scores_with_intervals_and_what_to_do_next(project, capsys):
    lines = printed(capsys)
    validate = json.loads((project / "metrics/digits/validate.json").read_text())
    low, high = validate["test_interval"]["accuracy"]
    accuracy = next(line for line in lines if line.startswith("  accuracy "))
    assert f"{validate['test']['accuracy']:.4f}   ({low:.4f} to {high:.4f} in 95 of 100)" in accuracy
    assert lines[0].startswith("digits: 1,797 cases, 0 rejected")
    assert any("training was sound: try nothing" in line for line in lines)
    assert any("models/phantoms/model.onnx" in line for line in lines)


def test_what_has_not_run_is_said(project, capsys):
    shutil.rmtree("metrics/digits")
    assert printed(capsys, "digits") == [
        "digits: not ingested yet",
        "  not validated yet: dvc repro export@digits validate@digits",
    ]
    shutil.copytree(ROOT / "metrics" / "digits", "metrics/digits", ignore=shutil.ignore_patterns("validate.json"))
    assert printed(capsys, "digits")[0] == "digits: 1,797 cases, 0 rejected"


def test_a_name_that_is_unknown_is_answered_with_the_nearest(project, capsys):
    with pytest.raises(SystemExit, match="did you mean digits"):
        summary.main(["digit"])


def test_how_long_a_stage_took_is_kept_beside_its_data_and_told(project, capsys):
    assert command.read_seconds("digits") == {}
    command.note_seconds("train", "digits", 3.0)  # there is no data yet
    (project / "data/digits").mkdir(parents=True)
    command.note_seconds("train", "digits", 300.0)
    command.note_seconds("ingest", "digits", 1.25)
    assert command.read_seconds("digits") == {"train": 300.0, "ingest": 1.25}
    assert any(line.endswith("ingest 1.2 s, train 5 min") for line in printed(capsys, "digits"))
    (project / "data/digits/.seconds.json").write_text("{")
    assert command.read_seconds("digits") == {}


def test_how_long_the_rest_takes_is_told_when_a_stage_begins_and_it_is_known(project):
    assert command.expectation("train", {}) == ""
    assert command.expectation("train", {"train": 3.0, "ingest": 500.0}) == ""  # soon over
    said = command.expectation("train", {"ingest": 500.0, "train": 240.0, "validate": 8.0, "export": 12.25})
    assert said == "it took 4 min the last time, and the stages behind it 20 s, where they have to run"
    assert command.expectation("export", {"train": 240.0, "export": 7200.0}) == "it took 2.0 h the last time"
