import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages import split
from stages.lib import command
from stages.lib.core.errors import UserError
from tests import ROOT


def run_stage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the split stage in a copy of the project."""
    for name in ("stages", "dvc.yaml", "params.yaml"):
        if not (folder / name).exists():
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
    return subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True)


def test_a_stage_runs_without_dvc(tmp_path):
    cases = tmp_path / "data" / "digits"
    cases.mkdir(parents=True)
    rows = "".join(f"c{i:02d},g{i:02d},{'ab'[i % 2]}\n" for i in range(40))
    (cases / "cases.csv").write_text("case,group,label\n" + rows)
    done = run_stage(tmp_path, "stages.split", "digits")
    assert (done.returncode, done.stderr) == (0, "")
    assert (cases / "split.csv").read_text().startswith("case,group,label,split\nc00,g00,a,")


def test_a_users_mistake_is_one_message_without_a_traceback(tmp_path):
    run_stage(tmp_path, "stages.split", "digits")
    (tmp_path / "params.yaml").write_text("datasets: {digits: {split: {tset: 0.1}}}")
    done = run_stage(tmp_path, "stages.split", "digits")
    assert done.returncode == 1
    assert "params.yaml: datasets.digits.split.tset is unknown: did you mean test?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_that_is_not_for_a_dataset_says_for_which_it_is(tmp_path):
    with pytest.raises(UserError, match="the stage 'sample' is for digits, phantoms, not for 'mine'"):
        command.stage_paths("sample", "mine", ROOT / "dvc.yaml")


@pytest.mark.parametrize("name", ["../x", "Digits", "$(x)"])
def test_a_name_that_no_dataset_can_have_is_refused_before_a_path_is_made_of_it(name):
    with pytest.raises(UserError, match="a dataset's name is of lower-case letters"):
        command.stage_paths("statistics", name, ROOT / "dvc.yaml")


def test_a_listed_name_that_is_a_number_for_yaml_is_told_like_the_others(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {sample: {foreach: [2024, digits], do: {}}}")
    with pytest.raises(UserError, match="the stage 'sample' is for 2024, digits, not for 'mine'"):
        command.stage_paths("sample", "mine", tmp_path / "dvc.yaml")
    assert command.stage_paths("sample", "2024", tmp_path / "dvc.yaml") == ({}, {})


def test_paths_go_by_the_names_of_their_files():
    deps, outs = command.stage_paths("statistics", "mine", ROOT / "dvc.yaml")
    assert deps["cases"] == Path("data/mine/cases")
    assert outs == {"statistics_json": Path("metrics/mine/statistics.json")}
    assert command.stage_paths("ingest", "mine", ROOT / "dvc.yaml")[0]["raw"] == Path("data/raw/mine")


SPLIT = """
stages:
  split:
    foreach: ${datasets}
    do:
      cmd: python -m stages.split ${key}
      deps: ["data/${key}/cases.csv", stages/split.py, recipes/lock.txt, uv.lock]
      outs: [OUTS]
"""


def arguments(folder: Path, monkeypatch: pytest.MonkeyPatch, outs: str) -> dict[str, object]:
    monkeypatch.chdir(folder)
    Path("dvc.yaml").write_text(SPLIT.replace("OUTS", outs))
    return command.arguments(split.main, "split", "mine", {"params": None, "machine": None, "dataset": "mine"})


def test_a_dep_that_main_does_not_name_only_tells_dvc_when_to_run_the_stage_again(tmp_path, monkeypatch):
    assert arguments(tmp_path, monkeypatch, '"data/${key}/split.csv"') == {
        "cases_csv": Path("data/mine/cases.csv"),
        "split_csv": Path("data/mine/split.csv"),
        "params": None,
    }


def test_two_deps_of_the_name_that_main_takes_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SPLIT", SPLIT.replace("uv.lock", "locks/cases.csv"))
    with pytest.raises(TypeError, match=r"main takes \['cases_csv'\], which dvc.yaml does not name, or twice"):
        arguments(tmp_path, monkeypatch, '"data/${key}/split.csv"')


def test_an_out_that_main_does_not_take_or_dvc_yaml_does_not_name_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"has the outs \['more_csv'\], which its main does not take"):
        arguments(tmp_path, monkeypatch, '"data/${key}/split.csv", "data/${key}/more.csv"')
    with pytest.raises(TypeError, match=r"main takes \['split_csv'\], which dvc.yaml does not name"):
        arguments(tmp_path, monkeypatch, "")
