"""A study by dvc, from one block of params.yaml: each training is a stage of its own."""

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

from tools.tiny_project import TINY, commit, copy_files, copy_project, environment, run, write_params, write_pictures

pytestmark = pytest.mark.slow
STUDY = TINY | {"study": {"folds": 3, "seeds": [0, 1]}}
TARGETS = ["study@tiny"]


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def repro(folder: Path, block: dict, *targets: str) -> list[str]:
    """Brings studies.yaml up to date and runs dvc; the stages that it ran."""
    write_params(folder, {"tiny": block})
    run(folder, sys.executable, "-m", "tools.studies")
    return stages_run(run(folder, "dvc", "repro", *(targets or TARGETS)))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, list[str]]:
    """A copy of the project with a study, and the stages that its first run ran."""
    folder = tmp_path_factory.mktemp("one") / "project"
    copy_project(folder, STUDY)
    return folder, repro(folder, STUDY)


@pytest.fixture
def folder(project) -> Path:
    return project[0]


def members_of(stages: list[str]) -> list[str]:
    return sorted(name.removeprefix("member@tiny-") for name in stages if name.startswith("member@"))


def test_one_block_makes_a_stage_of_each_fold_and_seed_and_one_that_gathers_them(project):
    folder, ran = project
    assert members_of(ran) == [f"fold{fold}-seed{seed}" for fold in range(3) for seed in (0, 1)]
    others = {name for name in ran if not name.startswith("member@")}
    assert others == {f"{stage}@tiny" for stage in ("ingest", "split", "statistics", "dataset", "folds", "study")}
    report = json.loads((folder / "metrics/tiny/study/study.json").read_text())
    assert report["trainings"] == 6 and report["cases"] == {"out_of_fold": 48, "test": 12}
    split = pd.read_csv(folder / "data/tiny/split.csv", dtype=str).set_index("case")
    said = pd.read_csv(folder / "metrics/tiny/study/predictions.csv", dtype=str)
    held = said[said["split"] != "test"]
    assert held["case"].is_unique and set(held["case"]) == set(split.index[split["split"] != "test"])
    assert held.groupby("group")["split"].nunique().max() == 1
    assert not set(held["group"]) & set(split["group"][split["split"] == "test"])
    kept = run(folder, "git", "ls-files", "-o", "--exclude-standard").splitlines()
    assert "metrics/tiny/members/fold0-seed0/history.csv" in kept
    assert not [name for name in kept if name.startswith(("models/", "data/"))]


def test_a_second_run_does_nothing_and_more_seeds_train_the_new_ones_alone(folder):
    assert repro(folder, STUDY) == []
    more = TINY | {"study": {"folds": 3, "seeds": [0, 1, 2]}}
    assert members_of(repro(folder, more)) == ["fold0-seed2", "fold1-seed2", "fold2-seed2"]
    back = repro(folder, STUDY)
    assert members_of(back) == [] and not (folder / "models/tiny/members/fold0-seed2").exists()


def test_another_seed_of_one_fold_trains_one_fold(folder):
    other = TINY | {"study": STUDY["study"] | {"seed_of": {"fold1-seed0": 7}}}
    assert repro(folder, other, "--dry", *TARGETS) == ["member@tiny-fold1-seed0"]
    assert repro(folder, STUDY, "--dry", *TARGETS) == []


def test_an_old_studies_yaml_ends_dvc_before_any_work(folder):
    write_params(folder, {"tiny": TINY | {"study": {"folds": 4}}})
    done = subprocess.run(["dvc", "repro"], cwd=folder, capture_output=True, text=True, env=environment())
    assert done.returncode != 0
    assert stages_run(done.stdout) == ["check"]
    assert "studies.yaml is not what the sections `study` of params.yaml ask for: run `python -m tools.s" in done.stderr


def test_side_by_side_after_a_kill_and_in_another_folder_the_bytes_are_the_same(folder, tmp_path):
    other = tmp_path / "longer" / "path"
    copy_project(other, STUDY)
    shipped = (other / "params.yaml").read_text()
    (other / "params.yaml").write_text(re.sub(r"(?s)  digits:.*?(?=  tiny:)", "", shipped))
    (other / "dvc.yaml").write_text(
        re.sub(r"(?s)foreach: \[digits, phantoms\]", "foreach: []", (other / "dvc.yaml").read_text())
    )
    command = [sys.executable, "-m", "tools.repro", "--jobs", "2"]
    started = subprocess.Popen(command, cwd=other, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL)
    waited = time.monotonic() + 300
    while not list(other.glob("models/tiny/members/*/model.pt")) and time.monotonic() < waited:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (other / "models/tiny/members/fold2-seed1/model.pt").exists()
    run(other, sys.executable, "-m", "tools.mend_lock")
    run(other, *command)
    for name in ("data/tiny", "models/tiny/members", "metrics/tiny/members", "metrics/tiny/study"):
        assert contents(other / name) == contents(folder / name), name
    shutil.rmtree(other)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    hidden = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in hidden.items() if not any(p.startswith(".") for p in Path(name).parts)}


def test_the_ensemble_and_another_dataset_follow_from_the_same_block(tmp_path):
    folder = tmp_path / "project"
    external = {"other": {"classes": {"night": "dark"}}}
    block = TINY | {"study": {"folds": 2, "export": "ensemble", "external": external}}
    copy_files(folder, {"tiny": block, "other": TINY})
    write_pictures(folder)
    rng = np.random.default_rng(5)
    for i in range(30):
        label, low = ("night", 30) if i % 2 else ("bright", 110)
        (folder / "data/raw/other" / label).mkdir(parents=True, exist_ok=True)
        picture = rng.integers(low, low + 90, (12 + i % 3, 11, 3)).astype(np.uint8)
        imageio.imwrite(folder / "data/raw/other" / label / f"{i:02d}.png", picture)
    commit(folder)
    run(folder, sys.executable, "-m", "tools.studies")
    ran = stages_run(run(folder, "dvc", "repro", "external@tiny-other"))
    assert {"export_study@tiny", "ingest@other", "external@tiny-other"} <= set(ran)
    assert not {"train@tiny", "split@other"} & set(ran)
    report = json.loads((folder / "metrics/tiny/external/other/external.json").read_text())
    assert report["model"] == "tiny/study" and report["cases"] == 30
    said = pd.read_csv(folder / "metrics/tiny/external/other/predictions.csv")
    assert set(said["label"]) == {"bright", "dark"}
    right = float((said["label"] == said["predicted"]).mean())
    assert report["external"]["accuracy"] == pytest.approx(right, rel=1e-5)
    assert "2 trainings" in (folder / "models/tiny/study/card.md").read_text()
    one = ["models/tiny/study/model.pt2", "data/raw/other/bright/00.png"]
    asked = run(folder, sys.executable, "-m", "tools.predict", *one)
    assert "bright" in asked  # a .pt2 runs only where an export.json of this project vouches for it
