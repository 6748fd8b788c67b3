"""The summary of a run, from the metrics that the stages leave."""

import json
import re
import shutil

import pytest

from stages.lib import command
from stages.lib.core import durations
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
    place = command.seconds_file("digits")
    assert durations.read(place) == {}
    durations.note(place, "train", 3.0)  # there is no data yet
    (project / "data/digits").mkdir(parents=True)
    durations.note(place, "train", 300.0)
    durations.note(place, "ingest", 1.25)
    assert durations.read(place) == {"train": 300.0, "ingest": 1.25}
    assert any(line.endswith("ingest 1.2 s, train 5 min") for line in printed(capsys, "digits"))
    place.write_text("{")
    assert durations.read(place) == {}
    place.write_text('{"train": null}')
    assert durations.read(place) == {}


def told(project, stage, seconds):
    """What a stage of the digits says at its start, when their stages took these seconds."""
    (project / "data/digits").mkdir(parents=True, exist_ok=True)
    command.seconds_file("digits").write_text(json.dumps(seconds))
    return command.expectation(stage, "digits")


def test_how_long_the_rest_takes_is_told_when_a_stage_begins_and_it_is_known(project):
    assert told(project, "train", {}) == ""
    assert told(project, "train", {"train": 3.0, "ingest": 500.0}) == ""  # soon over
    said = told(project, "train", {"ingest": 500.0, "train": 240.0, "validate": 8.0, "export": 12.25})
    assert said == "it took 4 min the last time, and the stages behind it 20 s, where they have to run"
    assert told(project, "export", {"train": 240.0, "export": 7200.0}) == "it took 2.0 h the last time"


def test_in_a_first_run_it_is_reckoned_from_the_dataset_that_is_nearest_in_size(project):
    for name, size, train in (("large", 9_000, 900.0), ("near", 500, 62.0), ("gone", 0, 5.0)):
        (project / "data" / name).mkdir(parents=True)
        durations.note(command.seconds_file(name), "train", train)
        durations.note(command.seconds_file(name), "export", 1.0)
        if size:
            (project / "data/raw" / name / "a").mkdir(parents=True)
            (project / "data/raw" / name / "a/scan.dcm").write_bytes(bytes(size))
    assert command.expectation("train", "digits") == ""  # whose size is not known
    (project / "data/raw/digits").mkdir()
    (project / "data/raw/digits/a.png").write_bytes(bytes(1_000))
    said = command.expectation("train", "digits")
    assert said == "it may take 2 min, and the stages behind it 1.0 s: reckoned from near by the size of the raw data"
    # What has run for these data is taken from there.
    assert told(project, "train", {"train": 30.0}) == (
        "it took 30 s the last time, and the stages behind it 1.0 s, where they have to run"
    )


def with_study(project, **study):
    text = (project / "params.yaml").read_text()
    block = json.dumps(study)
    (project / "params.yaml").write_text(re.sub(r"(?m)^  digits:.*$", rf"\g<0>\n    study: {block}", text, count=1))


def test_a_study_and_other_hospitals_are_told_and_what_of_them_has_not_run(project, capsys):
    lacking = {name: None for name in map(str, range(10))}
    with_study(project, folds=5, export="ensemble", external={"phantoms": {"classes": lacking}})
    lines = printed(capsys, "digits")
    assert "  study not run yet: dvc repro study@digits" in lines
    assert "  on phantoms: not run yet: dvc repro external@digits-phantoms" in lines
    folder = project / "metrics/digits/study"
    folder.mkdir()
    told = {"trainings": 5, "cases": {"out_of_fold": 1528, "test": 269}, "out_of_fold": {"accuracy": 0.9928}}
    (folder / "study.json").write_text(json.dumps(told | {"test": {"accuracy": 0.9963}}))
    (folder / "export.json").write_text('{"test_cases": 269}')
    other = project / "metrics/digits/external/phantoms"
    other.mkdir(parents=True)
    (other / "external.json").write_text('{"cases": 40, "external": {"accuracy": 0.75}}')
    lines = printed(capsys, "digits")
    said = "accuracy 0.9928 of 1528 held-out cases, 0.9963 of the ensemble on 269 test cases"
    assert f"  study of 5 trainings: {said}" in lines
    assert "  model of the study          models/digits/study/model.onnx" in lines
    assert "  on phantoms: accuracy 0.75 of 40 cases" in lines


def test_numbers_labels_and_grades_have_their_own_scores(project, capsys):
    def lines(target, test):
        place = project / "metrics/digits/validate.json"
        interval = {name: [value, value + 0.5] for name, value in test.items()}
        place.write_text(json.dumps({"test": test, "test_interval": interval, "target": target}))
        return "\n".join(printed(capsys, "digits"))

    found = lines({"kind": "regression", "unit": "mm"}, {"mae": 12.25, "r2": 0.5, "coverage": 0.9, "accuracy": 1.0})
    assert "  mean absolute error           12.25 mm   (12.25 to 12.75 in 95 of 100)" in found
    assert "  R²                              0.5   (0.5 to 1 in 95 of 100)" in found and "accuracy" not in found
    found = lines({"kind": "multilabel", "unit": ""}, {"auroc": 0.8125, "average_precision": 0.25})
    assert "AUROC (mean over the labels)  0.8125" in found and "average precision            0.2500" in found
    found = lines({"kind": "ordinal", "unit": ""}, {"accuracy": 0.5, "quadratic_kappa": 0.75, "mae": 0.25})
    assert "quadratic kappa              0.7500" in found and "distance in grades           0.2500" in found
