"""tools.freeze writes down the test cases, and dvc repro keeps them, in this project and in a clone of it."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import split
from stages.lib.params.split import SplitParams
from tests import ROOT
from tests.split.test_split import cases
from tools import freeze
from tools.tiny_project import TINY, copy_project, run, write_params


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with cases.csv of a data set `mine`."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    write({})
    Path("data/mine").mkdir(parents=True)
    Path("frozen").mkdir()
    cases(200, 2).to_csv("data/mine/cases.csv", index=False)
    return tmp_path


def write(section: dict) -> None:
    names = ("ingest", "statistics", "dataset", "train", "validate", "export")
    block = {"split": section} | {name: {} for name in names}
    with open("params.yaml", "w") as file:
        YAML().dump({"datasets": {"mine": block}}, file)


def test_the_cases_that_the_stage_deals_to_the_test_are_written_once(project, capsys):
    write({"test": 0.2, "seed": 4})
    freeze.main(["mine"])
    printed = capsys.readouterr().out
    assert "Commit it: `git add frozen/mine.csv`" in printed and "datasets.mine.split.freeze: mine.csv" in printed
    split.main(Path("data/mine/cases.csv"), Path("split.csv"), SplitParams(test=0.2, seed=4))
    table = pd.read_csv("split.csv", dtype=str)
    test = table[table["split"] == "test"][["case", "group"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv("frozen/mine.csv", dtype=str), test)
    with pytest.raises(SystemExit, match="frozen/mine.csv is there already: .*--anew replaces them"):
        freeze.main(["mine"])


def test_the_list_that_params_yaml_names_is_written_and_anew_only_when_asked_to(project, capsys):
    write({"freeze": "shared.csv"})
    freeze.main(["mine"])
    assert "add to params.yaml" not in capsys.readouterr().out
    before = Path("frozen/shared.csv").read_text()
    write({"freeze": "shared.csv", "seed": 1})
    freeze.main(["mine", "--anew"])
    assert Path("frozen/shared.csv").read_text() != before


def test_without_test_cases_or_an_ingest_there_is_nothing_to_freeze(project):
    write({"test": 0.0})
    with pytest.raises(SystemExit, match="deals no test cases: there is nothing to freeze"):
        freeze.main(["mine"])
    shutil.rmtree("data")
    write({})
    with pytest.raises(SystemExit, match="data/mine/cases.csv.*dvc repro"):
        freeze.main(["mine"])
    assert not list(Path("frozen").iterdir())


def cases_of_the_test(folder: Path) -> set[str]:
    table = pd.read_csv(folder / "data/tiny/split.csv", dtype=str)
    return set(table["case"][table["split"] == "test"])


@pytest.mark.slow
def test_dvc_runs_the_split_again_for_its_list_and_nothing_behind_it_and_a_clone_has_the_same_test_cases(tmp_path):
    folder = tmp_path / "project"
    copy_project(folder, TINY)
    repro = ("dvc", "repro", "statistics@tiny")
    run(folder, *repro)
    before = cases_of_the_test(folder)
    assert run(folder, sys.executable, "-m", "tools.freeze", "tiny").startswith(f"frozen/tiny.csv: {len(before)} test")
    frozen = TINY | {"split": TINY["split"] | {"freeze": "tiny.csv"}}
    write_params(folder, {"tiny": frozen})
    assert re.findall("Running stage '([^']+)'", run(folder, *repro)) == ["split@tiny"]
    assert cases_of_the_test(folder) == before
    assert "Running stage" not in run(folder, *repro)  # what the stage reads is no out of its own

    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "Freeze the test cases")
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(folder), str(clone))
    shutil.copytree(folder / "data/raw/tiny", clone / "data/raw/tiny")
    rng = np.random.default_rng(9)
    for path in sorted((clone / "data/raw/tiny").rglob("*.png"))[:12]:  # data that were added
        changed = path.read_bytes()
        (path.parent / f"new{rng.integers(1 << 30)}.png").write_bytes(changed)
    for path in sorted((clone / "data/raw/tiny").rglob("*.jpg"))[:5]:  # and taken away
        path.unlink()
    write_params(clone, {"tiny": frozen | {"split": frozen["split"] | {"seed": 5}}})
    said = run(clone, *repro)
    there = set(pd.read_csv(clone / "data/tiny/cases.csv", dtype=str)["case"])
    assert f"{len(before & there)} frozen test cases" in said and "join them" in said
    assert before & there <= cases_of_the_test(clone)
    (clone / "frozen/tiny.csv").unlink()
    with pytest.raises(AssertionError, match=r"frozen/tiny.csv not found: .*git checkout"):
        run(clone, *repro)
