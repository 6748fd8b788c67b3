"""studies.yaml: the stages that the sections `study` of params.yaml ask for."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.lib import command, params
from stages.lib.core.errors import UserError
from stages.lib.studies import listing
from tests import ROOT
from tools import studies

STAGES = ("ingest", "split", "statistics", "dataset", "train", "validate", "export")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes params.yaml of datasets with these sections `study`, in a folder with the project's dvc.yaml."""
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)

    def write(**given) -> params.Params:
        datasets = {name: {stage: {} for stage in STAGES} for name in given}
        for name, study in given.items():
            datasets[name] |= {} if study is None else {"study": study}
        with open("params.yaml", "w") as file:
            YAML().dump({"datasets": datasets}, file)
        return params.load(Path("params.yaml"))

    return write


def test_no_study_makes_nothing(project):
    given = project(mine=None, other={})
    assert listing.listed(given) == dict.fromkeys(command.LISTS, {})
    assert studies.text(listing.listed(given)) == (ROOT / "studies.yaml").read_text()


def test_a_fold_and_a_seed_is_a_training_each(project):
    members = listing.listed(project(mine={"folds": 2, "seeds": [3, 4]}))["members"]
    assert list(members) == ["mine-fold0-seed3", "mine-fold0-seed4", "mine-fold1-seed3", "mine-fold1-seed4"]
    assert members["mine-fold1-seed3"] == {"dataset": "mine", "name": "fold1-seed3", "fold": 1, "seed": 3}
    assert listing.listed(project(mine={"folds": 2}))["members"] == {
        "mine-fold0": {"dataset": "mine", "name": "fold0", "fold": 0},
        "mine-fold1": {"dataset": "mine", "name": "fold1", "fold": 1},
    }
    assert list(listing.listed(project(mine={"seeds": [0, 5]}))["members"]) == ["mine-seed0", "mine-seed5"]


def test_another_seed_for_one_fold_changes_one_entry(project):
    before = listing.listed(project(mine={"folds": 3}))["members"]
    after = listing.listed(project(mine={"folds": 3, "seed_of": {"fold1": 7}}))["members"]
    assert [name for name in after if after[name] != before[name]] == ["mine-fold1"]
    assert after["mine-fold1"]["seed"] == 7


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"folds": 1}, "datasets.mine.study.folds is 1: expected greater than or equal to 2"),
        ({"folds": 10**9}, "datasets.mine.study.folds is 1000000000: expected less than or equal to 1000"),
        ({"folds": 1000, "seeds": [*range(11)]}, "datasets.mine.study: 1000 folds and 11 seeds are 11000 trainings"),
        ({"seeds": [2**64]}, "datasets.mine.study.seeds"),
        ({"seeds": [1, 1]}, "datasets.mine.study: seeds has one twice: 1, 1"),
        (
            {"folds": 2, "seed_of": {"fold2": 1}},
            "seed_of names 'fold2', and no training is called so: did you",
        ),
        ({"export": "ensemble"}, "export is ensemble, and there is nothing to choose from: give folds or seeds"),
        ({"external": {"b": {"clases": {}}}}, "study.external.b.clases is unknown"),
        ({"fold": 2}, "datasets.mine.study.fold is unknown: did you mean folds?"),
    ],
)
def test_a_mistake_is_named(project, study, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        project(mine=study)


def test_a_key_that_one_looks_for_in_a_stages_section_is_told_where_it_is(tmp_path):
    block = {stage: {} for stage in STAGES} | {"split": {"folds": 5}, "train": {"seeds": [0, 1]}}
    with open(tmp_path / "params.yaml", "w") as file:
        YAML().dump({"datasets": {"mine": block}}, file)
    with pytest.raises(UserError) as caught:
        params.load(tmp_path / "params.yaml")
    assert "datasets.mine.split.folds is unknown: it is datasets.mine.study.folds" in str(caught.value)
    assert "datasets.mine.train.seeds is unknown: it is datasets.mine.study.seeds" in str(caught.value)


def test_an_external_dataset_is_an_entry_with_its_classes_and_asks_what_is_exported(project):
    external = {"clinic": {"classes": {"kitten": "cat"}, "lacks": ["owl"]}}
    entries = listing.listed(project(mine={"external": external}, clinic=None))
    assert entries["externals"] == {
        "mine-clinic": {
            "dataset": "mine",
            "other": "clinic",
            "model": "mine",
            "classes": {"kitten": "cat"},
            "lacks": ["owl"],
            "trained_on": "refuse",
        }
    }
    assert entries["members"] == entries["studies"] == {}
    study = {"external": {"clinic": {}}, "folds": 2, "export": "ensemble"}
    entries = listing.listed(project(mine=study, clinic=None))
    assert entries["externals"]["mine-clinic"]["model"] == "mine/study"
    assert entries["exports"] == {"mine": {"dataset": "mine", "model": "ensemble"}}
    for name, said in (("clinc", r"did you mean clinic\?"), ("mine", "known are clinic")):
        with pytest.raises(UserError, match=f"study.external names '{name}', and there is no other dataset .*{said}"):
            listing.listed(project(mine={"external": {name: {}}}, clinic=None))


def test_two_trainings_of_one_name_are_refused(project):
    given = project(**{"a": {"folds": 2, "seeds": [0]}, "a-fold0": {"seeds": [0]}})
    with pytest.raises(UserError, match="a and a-fold0 would both have a stage a-fold0-seed0"):
        listing.listed(given)


def test_old_lists_are_an_error_that_names_the_command_which_mends_them(project):
    given = project(mine={"folds": 2})
    with pytest.raises(UserError, match="studies.yaml is missing.*python -m tools.studies"):
        listing.check(given, Path("dvc.yaml"))
    assert studies.update() == ["studies.yaml is new: commit it with params.yaml"]
    listing.check(given, Path("dvc.yaml"))
    assert studies.update() == []
    with pytest.raises(UserError, match="studies.yaml is not what the sections `study` of params.yaml ask for"):
        listing.check(project(mine={"folds": 3}), Path("dvc.yaml"))


def test_the_outs_of_trainings_that_are_gone_are_removed_and_no_others(project):
    project(mine={"folds": 2}, other=None)
    for name in ("models/mine/members/fold1", "models/mine/members/fold2", "metrics/mine/members/fold2"):
        Path(name).mkdir(parents=True)
    assert studies.update()[1:] == [
        "metrics/mine/members/fold2 is removed, as no study asks for it",
        "models/mine/members/fold2 is removed, as no study asks for it",
    ]
    assert [path.name for path in sorted(Path("models/mine/members").iterdir())] == ["fold1"]


def test_a_stage_of_a_study_finds_its_paths_and_an_unknown_one_is_named(project):
    project(mine={"folds": 2})
    studies.update()
    deps, outs = command.stage_paths("member", "mine-fold1")
    assert deps["dataset_h5"] == Path("data/mine/dataset.h5")
    assert outs["model_pt"] == Path("models/mine/members/fold1/model.pt")
    with pytest.raises(UserError, match=r"there is no member 'mine-fold7' in studies.yaml: did you mean mine-fold"):
        command.stage_paths("member", "mine-fold7")
    fault = command.DamagedOut("not found", outs["model_pt"])
    assert "`dvc repro --force --single-item member@mine-fold1` makes it anew" in command.in_full(fault)


@pytest.mark.parametrize("entry", ["3", "{dataset: mine, name: fold0}", "[]"])
def test_an_entry_that_was_changed_by_hand_is_an_error_that_names_the_command_which_mends_it(tmp_path, entry):
    path = tmp_path / "studies.yaml"
    path.write_text(f"studies: {{}}\nexports: {{}}\nexternals: {{}}\nmembers:\n  mine-fold0: {entry}\n")
    with pytest.raises(UserError, match="studies.yaml is missing, or is not as `python -m tools.studies` writes it"):
        command.read_lists(path)
