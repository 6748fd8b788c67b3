"""A project in a real git repository with invented results, so that a test chooses what changes between commits."""

import contextlib
import json
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CLASSES = ["cat", "dog", "owl"]
WRITTEN = ("ingest.json", "statistics.json", "train.json", "validate.json", "export.json", "predictions.csv")
METRICS = json.dumps([{f"metrics/${{key}}/{name}": {"cache": False}} for name in WRITTEN])
"""Everything that `write_results` writes to metrics/, as the `metrics` of one stage in dvc.yaml."""
DVC_YAML = """
stages:
  ingest:
    foreach: ${datasets}
    do:
      cmd: "true"
      params: ["datasets.${key}.ingest"]
      deps: ["data/raw/${key}"]
      outs: ["data/${key}/cases"]
      metrics: [{"metrics/${key}/ingest.json": {cache: false}}, {"metrics/${key}/statistics.json": {cache: false}}]
  train:
    foreach: ${datasets}
    do:
      cmd: "true"
      params: ["datasets.${key}.train"]
      deps: [code.py, "data/${key}/cases"]
      metrics: [{"metrics/${key}/train.json": {cache: false}}]
  validate:
    foreach: ${datasets}
    do:
      cmd: "true"
      deps: ["metrics/${key}/train.json"]
      metrics: [{"metrics/${key}/validate.json": {cache: false}}, {"metrics/${key}/export.json": {cache: false}}]
      plots: [{"metrics/${key}/predictions.csv": {cache: false}}]
"""


class Project:
    """A repository at `root`: change something, then `commit`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        (root / ".dvc").mkdir()
        self.write(".dvc/config", "[core]\n    analytics = false\n")
        self.write(".dvc/.gitignore", "/cache\n/tmp\n")
        self.write(".gitignore", "/data\n")
        self.write("dvc.yaml", DVC_YAML)
        self.write("code.py", "version = 1\n")
        self.params: dict[str, Any] = {"datasets": {}}

    def dataset(self, name: str, *, wrong: Any = range(0, 300, 20), **changed: Any) -> None:
        """Writes a dataset's params, data and results, with wrong answers for the test cases `wrong`."""
        self.params["datasets"][name] = {"ingest": {}, "train": {"epochs": 10} | changed.pop("train", {})}
        write_results(self.root, name, wrong, **changed)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def commit(self, message: str = "Change", lock: bool = True) -> str:
        """Commits everything; with `lock`, dvc.lock first records the results as up to date."""
        self.write("params.yaml", json.dumps(self.params, indent=2))
        if lock:
            from dvc.repo import Repo  # here, as it takes 0.3 s, and scripts that never commit import this module

            with contextlib.chdir(self.root), warnings.catch_warnings(), Repo() as repo:
                warnings.simplefilter("ignore")
                repo.commit(force=True)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)


def git(folder: Path, *arguments: str) -> str:
    """Runs git as an invented author and without this machine's settings."""
    names = {f"GIT_{who}_{what}": "nobody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | names | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def write_results(
    root: Path,
    name: str,
    wrong: Any,
    cases: Any = range(300),
    groups_of: int = 1,
    relabelled: Any = (),
    shift: int = 0,
    rejected: int = 2,
    raw: str = "pictures",
) -> None:
    """Writes metrics/<name>/ and a little of data/ as the real stages do: 3 classes, 300 test and 90 validation cases.

    Args:
        wrong: Test cases that are answered wrongly.
        cases: Numbers of the test cases.
        groups_of: Cases per group.
        relabelled: Test cases whose label differs from the one that their number gives.
        shift: Added to every intensity.
    """
    for path, text in (("cases", raw), (f"../raw/{name}/a.png", raw)):
        (root / "data" / name / path).resolve().parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name / path).resolve().write_text(text)
    tables = [predictions("test", cases, wrong, groups_of, relabelled), predictions("validation", range(90), ())]
    right = [float((table["label"] == table["predicted"]).mean()) for table in tables]
    folder = root / "metrics" / name
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(tables).to_csv(folder / "predictions.csv", index=False, float_format="%.6g")
    counts = [1000 + 10 * i for i in range(16)]
    channel = {"mean": 100 + shift, "deviation": 30, "minimum": shift, "maximum": 160 + shift}
    files = {
        "ingest": {"cases": 2000, "rejected": {"unreadable": rejected} if rejected else {}},
        "statistics": {
            "groups": 1400,
            "classes": dict.fromkeys(CLASSES, 467),
            "channels": [channel | {"edges": [10 * i + shift for i in range(17)], "counts": counts}],
        },
        "train": {"best_epoch": 8, "diagnosis": {"verdict": "sound", "sentence": "sound: both losses fall"}},
        "validate": {"validation": {"accuracy": right[1]}, "test": {"accuracy": right[0], "calibration_error": 0.02}},
        "export": {"test_cases": len(tables[0]), "model.onnx": {"bytes": 12345, "difference_below": 1e-7}},
    }
    for file, tree in files.items():
        (folder / f"{file}.json").write_text(json.dumps(tree, indent=2) + "\n")


def predictions(split: str, cases: Any, wrong: Any, groups_of: int = 1, relabelled: Any = ()) -> pd.DataFrame:
    """One split of predictions.csv; a case number always gives the same label and nearly the same probabilities."""
    rows = []
    for i in cases:
        truth = i % len(CLASSES)
        answer = (truth + 1) % len(CLASSES) if i in wrong else truth
        label = (truth + 1) % len(CLASSES) if i in relabelled else truth
        sure = 0.7 + 0.2 * np.random.default_rng(i).random()
        chances = [sure if k == answer else (1 - sure) / 2 for k in range(len(CLASSES))]
        names = (f"{split[:2]}{i:05d}", f"{split[:2]}g{i // groups_of:05d}", split, CLASSES[label], CLASSES[answer])
        rows.append([*names, *chances])
    return pd.DataFrame(rows, columns=["case", "group", "split", "label", "predicted", *CLASSES])
