"""A training of a study: it sees all cases but those of its fold, as if dataset.h5 had been split so."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from stages import member
from stages.lib import params, tensors
from stages.lib.core.errors import DamagedOut
from stages.lib.model import checkpoint
from stages.lib.params.machine import MachineParams
from stages.lib.params.train import TrainParams
from stages.lib.studies import pool
from stages.lib.train.interruption import Stop
from tests.train.test_train import LEARNS, train_on


def write_folds(dataset_h5, path, folds: int = 3) -> None:
    """Deals the cases of training and validation in turn, three by three: these are of three classes."""
    names = sorted(name for split in ("train", "validation") for name in tensors.read_split(dataset_h5, split).cases)
    pd.DataFrame({"case": names, "fold": [i // 3 % folds for i in range(len(names))]}).to_csv(path, index=False)


def run(dataset_h5, folder, fold: int, seed: int | None = None, **given):
    """Trains a member into `folder`; model.pt's path and train.json."""
    folder.mkdir(exist_ok=True)
    if not (folder.parent / "folds.csv").exists():
        write_folds(dataset_h5, folder.parent / "folds.csv")
    item = {"dataset": "tiny", "name": folder.name, "fold": fold} | ({} if seed is None else {"seed": seed})
    outs = folder / "model.pt", folder / "train.json", folder / "history.csv"
    section = params.check(TrainParams, LEARNS | given)
    member.main(dataset_h5, folder.parent / "folds.csv", *outs, section, item, MachineParams())
    return outs[0], json.loads(outs[1].read_text())


@pytest.mark.parametrize("dataset", ["images_h5", "volumes_h5"])
def test_a_fold_and_its_others_are_all_cases_outside_of_the_test_split_once(dataset, tmp_path, request):
    dataset_h5 = request.getfixturevalue(dataset)
    write_folds(dataset_h5, tmp_path / "folds.csv")
    cases = pool.read(dataset_h5, tmp_path / "folds.csv")
    everything = [tensors.read_split(dataset_h5, name) for name in ("train", "validation")]
    x = {case: one for split in everything for case, one in zip(split.cases, split.x, strict=True)}
    for fold in range(3):
        held, others = cases.held(fold), cases.others(fold)
        assert sorted(held.cases + others.cases) == sorted(x)
        for split in (held, others):
            assert split.cases == sorted(split.cases)
            assert len(split.x) == len(split.y) and split.x.shape[1:] == everything[0].x.shape[1:]
            for i in (0, len(split.y) - 1):
                np.testing.assert_array_equal(split.x[i], x[split.cases[i]])
            rows = np.array([3, 0, 5, 1])
            np.testing.assert_array_equal(split.x[rows], np.stack([x[split.cases[i]] for i in rows]))
            np.testing.assert_array_equal(split.x[2:7], np.stack([x[case] for case in split.cases[2:7]]))


def test_a_member_is_the_model_that_training_on_such_a_split_gives(images_h5, tmp_path):
    """To the bit, as a dataset.h5 with that very split is trained on by the train stage."""
    window = {"normalise": {"window": [10, 200]}}
    model_pt, summary = run(images_h5, tmp_path / "fold1", 1, **window)
    cases = pool.read(images_h5, tmp_path / "folds.csv")
    about = tensors.read_description(images_h5)
    with tensors.writing(tmp_path / "other.h5", tuple(about.shape), about.dtype) as writer:
        parts = {"train": cases.others(1), "validation": cases.held(1), "test": tensors.read_split(images_h5, "test")}
        for name, part in parts.items():
            writer.write_split(name, list(part.x[: len(part.y)]), part.y, part.cases, part.groups)
        writer.describe(about)
    content, expected, _ = train_on(
        tmp_path / "other.h5", tmp_path / "whole", LEARNS | {"normalise": {"window": [10, 200]}}
    )
    assert model_pt.read_bytes() == content
    assert summary == expected


def test_the_first_layer_is_of_the_members_own_training_cases(images_h5, tmp_path):
    found = {}
    for fold in range(2):
        model_pt, _ = run(images_h5, tmp_path / f"fold{fold}", fold)
        x = pool.read(images_h5, tmp_path / "folds.csv").others(fold).x[:].astype(np.float64)
        _, recipe = checkpoint.load(model_pt)
        assert recipe.normalise["shift"] == pytest.approx([x.mean()])
        assert recipe.normalise["scale"] == pytest.approx([1 / x.std()])
        found[fold] = recipe.normalise["shift"]
        checkpoint.load_for(images_h5, model_pt)  # it is still a model of this dataset
    assert found[0] != found[1]


def test_a_seed_of_its_own_changes_a_member_and_no_seed_is_that_of_the_params(images_h5, tmp_path):
    plain, _ = run(images_h5, tmp_path / "a", 0)
    same, _ = run(images_h5, tmp_path / "b", 0, seed=0)
    other, _ = run(images_h5, tmp_path / "c", 0, seed=7)
    assert plain.read_bytes() == same.read_bytes() != other.read_bytes()


def test_a_killed_member_goes_on_to_the_same_bytes_and_takes_no_checkpoint_of_another(images_h5, tmp_path, monkeypatch):
    undisturbed, _ = run(images_h5, tmp_path / "a", 0)
    folder = tmp_path / "b"
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "__bool__", lambda stop: (folder / ".resume" / "state.pt").exists())
        with pytest.raises(SystemExit):
            run(images_h5, folder, 0)
    state = torch.load(folder / ".resume" / "state.pt", weights_only=True)
    assert state["state"]["epoch"] == 2
    other, _ = run(images_h5, tmp_path / "c", 1)
    (tmp_path / "d" / ".resume").mkdir(parents=True)
    (tmp_path / "d" / ".resume" / "state.pt").write_bytes((folder / ".resume" / "state.pt").read_bytes())
    assert run(images_h5, tmp_path / "d", 1)[0].read_bytes() == other.read_bytes()
    assert run(images_h5, folder, 0)[0].read_bytes() == undisturbed.read_bytes()


def test_folds_of_other_cases_are_refused(images_h5, tmp_path):
    pd.DataFrame({"case": ["tr0000"], "fold": [0]}).to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(DamagedOut, match="not of the same cases"):
        run(images_h5, tmp_path / "fold0", 0)
