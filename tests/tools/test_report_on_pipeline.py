"""The report on real trainings distinguishes a harmless change, an improvement and a regression."""

import importlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib import command, params
from tests import ROOT
from tests.made_project import Project
from tools.report import contents, page, revisions

STAGES = ("sample", "ingest", "split", "statistics", "dataset", "train", "validate", "export")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:_NoneStep.value:DeprecationWarning",  # inside dvc
        "ignore::FutureWarning:torch",  # torch.jit is deprecated and works
    ),
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of this project with the dataset digits alone."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    clone = object.__new__(Project)
    clone.root = tmp_path / "clone"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "tests/", "dvc.lock")):
            (clone.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone.root / name)
    clone.git("init", "-q", "-b", "main")
    monkeypatch.chdir(clone.root)
    clone.params = {"datasets": {"digits": {stage: {} for stage in STAGES}}}
    clone.params["datasets"]["digits"] |= {"sample": {"source": "digits"}, "ingest": {"identifiers": "open"}}
    clone.params["datasets"]["digits"]["validate"] = {"resamples": 0, "worst": 1}
    clone.params["report"] = {"gates": ["fresh", "test.accuracy no_worse"]}
    pipeline = YAML(typ="safe").load(Path("dvc.yaml"))
    pipeline["stages"]["sample"]["foreach"] = ["digits"]
    YAML().dump(pipeline, Path("dvc.yaml"))
    return clone


def rebuild(project, since, until="validate"):
    """Runs the stages from `since` to `until` in this process, and commits the results as `dvc repro` would."""
    YAML().dump(project.params, project.root / "params.yaml")
    checked = params.load(Path("params.yaml"))
    for stage in STAGES[STAGES.index(since) : STAGES.index(until) + 1]:
        main = importlib.import_module(f"stages.{stage}").main
        main(**command.arguments(main, stage, "digits", command.sections(checked, stage, "digits")))
    return project.commit(since)


def verdict(project, base, head):
    """The report's verdict in words, and whether the gates pass."""
    report = contents.gather(*revisions.resolve_pair(project.root, base, head))
    assert report["stale"] == {}
    return page.verdict(report), report["passed"]


def test_a_seed_an_improvement_and_a_regression_are_told_apart(project):
    optimizer = {"name": "SGD", "arguments": {"momentum": 0.9, "nesterov": True}}
    learning = {"lr": 0.05, "optimizer": optimizer, "schedule": {"name": None}, "batch_size": 32}
    learning |= {"network": {"name": "convolutional"}, "keep": "best_loss"}
    train = project.params["datasets"]["digits"]["train"]
    train.update(learning | {"epochs": 1})
    undertrained = rebuild(project, "sample", "export")  # the report needs export.json, though no verdict depends on it
    train["epochs"] = 12
    trained = rebuild(project, "train")
    train["seed"] = 1
    reseeded = rebuild(project, "train")
    train["seed"] = 0
    shuffle_a_tenth(project.root / "data/raw/digits/labels.csv")
    shuffled = rebuild(project, "ingest")

    text, passed = verdict(project, undertrained, trained)
    assert passed and "digits: better on 269 cases" in text
    text, passed = verdict(project, trained, reseeded)
    assert passed and "digits: no difference that 269 cases can show" in text
    text, passed = verdict(project, trained, shuffled)  # the split is stable: only 10 cases, at its borders, moved
    assert not passed and "digits: worse on 259 cases" in text


def shuffle_a_tenth(labels_csv):
    header, *rows = labels_csv.read_text().splitlines()
    chosen = random.Random(0).sample(range(len(rows)), len(rows) // 10)
    labels = [rows[i].split(",")[1] for i in chosen]
    random.Random(1).shuffle(labels)
    for i, label in zip(chosen, labels, strict=True):
        rows[i] = f"{rows[i].split(',')[0]},{label}"
    labels_csv.write_text("\n".join([header, *rows]) + "\n")
