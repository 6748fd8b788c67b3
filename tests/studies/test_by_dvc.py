"""A study by dvc, from one block of params.yaml: each training is a stage of its own.

The block is the largest that docs/studies.md has: a split of the raw data's own, two sites of which one is the test
split, five folds, three seeds, an ensemble, and another dataset that it is tried on.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest

from stages.lib.core import machine
from tools.tiny_project import TINY, commit, copy_files, environment, run, write_params

pytestmark = pytest.mark.slow
STUDY = {
    "folds": 5,
    "seeds": [0, 1, 2],
    "export": "ensemble",
    "external": {"other": {"classes": {"night": "dark"}}},
}
BLOCK = TINY | {"ingest": TINY["ingest"] | {"columns": ["site"]}, "split": {"by": "site"}, "study": STUDY}
MEMBERS = [f"fold{fold}-seed{seed}" for fold in range(5) for seed in range(3)]
STUDY_STAGES = ["study@tiny", "export_study@tiny", "external@tiny-other"]
IN_ONE_PROCESS = """
import runpy, sys
for line in sys.stdin:
    sys.argv = line.split()
    runpy.run_module("stages." + sys.argv[0], run_name="__main__")
"""


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def make_project(folder: Path) -> Path:
    """Two datasets: `tiny` of two sites, of which the raw data put one into the test split, and `other`."""
    copy_files(folder, {"tiny": BLOCK, "other": TINY})
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        label, low = ("dark", 20) if i % 2 else ("bright", 150)
        site, split = ("south", "test") if i >= 36 else ("north", "")
        rows.append({"path": f"{i:02d}.png", "label": label, "group": f"p{i // 2}", "site": site, "split": split})
        write_picture(folder / "data/raw/tiny" / rows[-1]["path"], rng, low, i)
    pd.DataFrame(rows).to_csv(folder / "data/raw/tiny/labels.csv", index=False)
    for i in range(20):
        label, low = ("night", 30) if i % 2 else ("bright", 110)
        write_picture(folder / "data/raw/other" / label / f"{i:02d}.png", rng, low, i)
    commit(folder)
    return folder


def write_picture(path: Path, rng: np.random.Generator, low: int, i: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, rng.integers(low, low + 90, (9 + i % 3, 10, 3)).astype(np.uint8))


def would_run(folder: Path, study: dict) -> list[str]:
    """What dvc would begin with, with another section `study`."""
    write_params(folder, {"tiny": BLOCK | {"study": study}, "other": TINY})
    run(folder, sys.executable, "-m", "tools.studies")
    return stages_run(run(folder, "dvc", "repro", "--dry", *STUDY_STAGES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The project after a first run that was killed between two trainings, or in one, and a second."""
    folder = make_project(tmp_path_factory.mktemp("one") / "project")
    run(folder, sys.executable, "-m", "tools.studies")
    command = ["dvc", "repro", *STUDY_STAGES]
    started = subprocess.Popen(
        command, cwd=folder, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL
    )
    waited = time.monotonic() + 300
    while not list(folder.glob("models/tiny/members/*/model.pt")) and time.monotonic() < waited:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (folder / "metrics/tiny/study/study.json").exists()
    run(folder, sys.executable, "-m", "tools.mend_lock")
    run(folder, *command)
    return folder


def test_one_block_makes_a_stage_of_each_training_and_says_what_they_answer_together(folder):
    assert sorted(path.name for path in (folder / "models/tiny/members").iterdir()) == MEMBERS
    lock = (folder / "dvc.lock").read_text()
    assert all(f"member@tiny-{name}:" in lock for name in MEMBERS)
    assert "train@tiny" not in lock and "split@other" not in lock  # nobody asked for these
    report = json.loads((folder / "metrics/tiny/study/study.json").read_text())
    assert report["trainings"] == 15 and report["cases"] == {"out_of_fold": 36, "test": 12}
    said = pd.read_csv(folder / "metrics/tiny/study/predictions.csv", dtype=str)
    held = said[said["split"] != "test"]
    assert held["case"].is_unique and set(held["split"]) == {f"fold{i}" for i in range(5)}
    assert held.groupby("group")["split"].nunique().max() == 1
    assert not set(held["group"]) & set(said["group"][said["split"] == "test"])
    kept = run(folder, "git", "ls-files", "-o", "--exclude-standard").splitlines()
    assert "metrics/tiny/members/fold0-seed0/history.csv" in kept
    assert not [name for name in kept if name.startswith(("models/", "data/"))]


def test_after_a_kill_the_bytes_are_those_of_a_run_without_dvc_in_another_folder(folder, tmp_path):
    other = make_project(tmp_path / "longer" / "path")
    run(other, sys.executable, "-m", "tools.studies")
    stages = ["ingest tiny", "ingest other", "split tiny", "statistics tiny", "dataset tiny", "folds tiny"]
    stages += [f"member tiny-{name}" for name in MEMBERS] + ["study tiny", "export_study tiny", "external tiny-other"]
    command = [sys.executable, "-c", IN_ONE_PROCESS]
    given = environment(**machine.PORTABLE)
    subprocess.run(command, cwd=other, env=given, input="\n".join(stages), text=True, check=True, capture_output=True)
    for name in ("data/tiny", "models/tiny", "metrics/tiny"):
        assert contents(other / name) == contents(folder / name), name
    shutil.rmtree(other)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    hidden = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in hidden.items() if not any(p.startswith(".") for p in Path(name).parts)}


def test_nothing_runs_again_but_what_is_new_or_was_changed(folder):
    assert would_run(folder, STUDY) == []
    assert would_run(folder, STUDY | {"seed_of": {"fold1-seed0": 7}}) == ["member@tiny-fold1-seed0"]
    more = would_run(folder, STUDY | {"seeds": [0, 1, 2, 3]})
    assert more == ["folds@tiny", *(f"member@tiny-fold{fold}-seed3" for fold in range(5)), "study@tiny"]
    assert would_run(folder, STUDY) == []


def test_a_training_that_no_study_asks_for_any_more_is_removed_and_its_stage_is_gone(folder):
    stray = folder / "models/tiny/members/fold0-seed3"
    shutil.copytree(folder / "models/tiny/members/fold0-seed2", stray)
    assert f"{stray.relative_to(folder)} is removed" in run(folder, sys.executable, "-m", "tools.studies")
    assert not stray.exists()


def test_an_old_studies_yaml_ends_dvc_before_any_work(folder):
    write_params(folder, {"tiny": BLOCK | {"study": {"folds": 4}}, "other": TINY})
    done = subprocess.run(["dvc", "repro"], cwd=folder, capture_output=True, text=True, env=environment())
    write_params(folder, {"tiny": BLOCK, "other": TINY})
    assert done.returncode != 0
    assert stages_run(done.stdout) == ["check"]
    assert "studies.yaml is not what the sections `study` of params.yaml ask for: run `python -m tools.s" in done.stderr


def test_the_ensemble_is_one_file_that_was_tried_on_the_other_dataset_and_answers_alone(folder):
    report = json.loads((folder / "metrics/tiny/external/other/external.json").read_text())
    assert report["model"] == "tiny/study" and report["cases"] == 20
    said = pd.read_csv(folder / "metrics/tiny/external/other/predictions.csv")
    assert set(said["label"]) == {"bright", "dark"}
    right = float((said["label"] == said["predicted"]).mean())
    assert report["external"]["accuracy"] == pytest.approx(right, rel=1e-5)
    assert "15 trainings" in (folder / "models/tiny/study/card.md").read_text()
    one = ["models/tiny/study/model.pt2", "data/raw/other/bright/00.png"]
    asked = run(folder, sys.executable, "-m", "tools.predict", *one)
    assert "bright" in asked  # a .pt2 runs only where an export.json of this project vouches for it
