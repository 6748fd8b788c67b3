"""What holds for training whatever is asked: shares, grades, labels of which some are unknown, numbers, and weights."""

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from stages.lib.params.train import TrainParams
from stages.lib.targets import KINDS
from stages.lib.train import drawing, loop, losses, setup, step
from stages.lib.train.parallel import distributed
from stages.lib.train.parallel.distributed import World
from tests.conftest import write_dataset_h5, write_model_pt
from tests.train.test_train import LEARNS, train_on

MIXUP = {"augment": {"mixup": 0.3}}
NUMBERS = [kind for kind in KINDS if kind.endswith("regression")]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """By kind, a weighted dataset.h5 of 24 pictures in each split."""
    folder = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        write_dataset_h5(folder / f"{kind}.h5", kind=kind, weighted=True)
    return {kind: folder / f"{kind}.h5" for kind in KINDS}


def begun(dataset_h5, **given):
    """The task and a run at its beginning."""
    task, recipe = setup.prepare(
        dataset_h5, params.check(TrainParams, LEARNS | given), "tiny", torch.device("cpu"), World()
    )
    return task, setup.begin(task, recipe)


def rewritten(dataset_h5, path, name, change):
    """A copy in which an array is another."""
    path.write_bytes(dataset_h5.read_bytes())
    with h5py.File(path, "r+") as file:
        file[name][...] = change(file[name][()])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_learnt_from_where_the_stripe_lies(datasets, tmp_path, kind):
    _, summary, history = train_on(datasets[kind], tmp_path / "out", LEARNS | {"epochs": 12, "batch_size": 8})
    quality = "r2" if kind in NUMBERS else "accuracy"
    assert summary["validation"][quality] > 0.95
    assert history[f"train_{quality}"].iloc[-1] > 0.95 > history[f"train_{quality}"].iloc[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_batch_has_the_same_sums_and_gradients_whoever_computes_which_part_of_it(datasets, monkeypatch, kind, parts):
    """To the bit where each of two processes computes a whole part; their exchange is real in test_distributed.py."""
    task, run = begun(datasets[kind], batch_size=10, accumulate=parts, **MIXUP)
    rows = np.arange(10)

    def computed(task):
        return step.forward_backward(run, task, rows), [p.grad.clone() for p in run.model.parameters()]

    def kept(flat):
        sent.append(flat.clone())
        return [flat, flat]

    sent: list[torch.Tensor] = []
    alone = computed(task)
    monkeypatch.setattr(distributed, "gather", lambda world, flat: kept(flat))
    monkeypatch.setattr(distributed, "add_up", kept)
    for rank in range(2):
        computed(replace(task, world=World(rank, 2)))
    monkeypatch.setattr(distributed, "gather", lambda world, flat: [one.clone() for one in sent])
    monkeypatch.setattr(distributed, "add_up", lambda flat: flat.copy_(sent[0] + sent[1]))
    together = computed(replace(task, world=World(0, 2)))
    assert not torch.equal(sent[0], sent[1])
    exact = {"rtol": 0, "atol": 0} if parts == 2 else {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(together, alone, **exact)
    assert alone[0]["count"] != 10, "cases weigh, and some answers are unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_give_the_step_of_the_whole_where_answers_are_unknown_and_cases_weigh(
    datasets, tmp_path, kind
):
    given = LEARNS | {"batch_size": 10, "epochs": 2}
    _, _, whole = train_on(datasets[kind], tmp_path / "a", given)
    _, _, parts = train_on(datasets[kind], tmp_path / "b", given | {"accumulate": 3})
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ended_within_an_epoch_goes_on_to_the_bytes_of_one_that_did_not(
    datasets, tmp_path, monkeypatch, kind
):
    given = LEARNS | MIXUP | {"batch_size": 8, "average": 0.9, "keep": "best_accuracy"}
    whole, *_ = train_on(datasets[kind], tmp_path / "whole", given)
    train_batch, begun_batches = loop.train_batch, []

    def killed(run, *others):
        begun_batches.append((run.epoch, run.batch))
        if len(begun_batches) == 5:
            raise Killed
        return train_batch(run, *others)

    monkeypatch.setattr(loop, "train_batch", killed)
    with pytest.raises(Killed):
        train_on(datasets[kind], tmp_path / "broken", given, checkpoint_minutes=0.0)
    broken, *_ = train_on(datasets[kind], tmp_path / "broken", given)
    assert begun_batches[4:6] == [(2, 1), (2, 1)], "it went on where it was"
    assert broken == whole
    for out in ("history.csv", "train.json"):
        assert (tmp_path / "broken" / out).read_bytes() == (tmp_path / "whole" / out).read_bytes()


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_the_epoch_of_the_best_accuracy_is_that_of_the_best_answers_of_labels_and_of_the_highest_r2(
    datasets, tmp_path, kind
):
    """Of labels, the first epoch of all right, though losses fall on; of a number, at a rate that is too high."""
    loss = {"loss": {"name": "l1"}} if kind in NUMBERS else {}
    given = LEARNS | loss | {"lr": 0.4 if loss else 0.1, "epochs": 8, "keep": "best_accuracy", "batch_size": 8}
    _, summary, history = train_on(datasets[kind], tmp_path / "out", given)
    quality = history["validation_r2" if kind in NUMBERS else "validation_accuracy"]
    assert summary["best_epoch"] == history["epoch"][quality.idxmax()]
    assert summary["best_epoch"] < 8 and quality.nunique() > 1
    model, _ = checkpoint.load(tmp_path / "out" / "model.pt")
    split = tensors.read_split(datasets[kind], "validation")
    objective = losses.objective(
        params.check(TrainParams, given).loss,
        tensors.read_split(datasets[kind], "train"),
        tensors.read_description(datasets[kind]).asked,
    )
    rows = np.arange(len(split.y))
    with torch.no_grad():
        answers = model.answer(model.normalise(torch.from_numpy(np.array(split.x))))
    found = objective.sums(answers, objective.targets(split, rows), losses.weights_of(split, rows))[1]
    assert float(found) / objective.of_split(split)[1] == pytest.approx(quality.max(), rel=1e-4)


@pytest.mark.parametrize("kind", ["ordinal", "multilabel", "log_regression"])
def test_patience_ends_the_training_of_each_kind(datasets, tmp_path, kind):
    given = LEARNS | {"lr": 1e-9, "epochs": 9, "patience": 2}
    _, summary, history = train_on(datasets[kind], tmp_path / "out", given)
    assert summary["epochs"] == history["validation_loss"].idxmin() + 3 < 9


@pytest.mark.parametrize(
    ("kind", "array", "change"),
    [
        ("multilabel", "validation/target", lambda values: values * np.nan),
        ("regression", "validation/weight", lambda values: values * 0),
    ],
)
def test_a_validation_split_of_which_nothing_counts_chooses_no_epoch(datasets, tmp_path, kind, array, change):
    dataset_h5 = rewritten(datasets[kind], tmp_path / "d.h5", array, change)
    for given in ({"keep": "best_loss"}, {"keep": "last", "patience": 1}):
        with pytest.raises(UserError, match="no validation case to choose an epoch by.*set train.keep: last"):
            train_on(dataset_h5, tmp_path / "out", LEARNS | given)
    _, summary, history = train_on(dataset_h5, tmp_path / "out", LEARNS | {"keep": "last"})
    assert summary["best_epoch"] == 3 and history["validation_loss"].isna().all()


@pytest.mark.parametrize("kind", KINDS)
def test_mixup_blends_answers_and_weights_and_leaves_unknown_what_is_unknown_of_either(datasets, kind):
    task, run = begun(datasets[kind], **MIXUP)
    rows = np.arange(24)
    drawn = drawing.draw(run, task, rows)
    own, others = (task.objective.targets(task.train, of) for of in (rows, drawn.partners))
    fraction = torch.from_numpy(drawn.own_fractions)
    torch.testing.assert_close(
        drawn.targets, fraction[:, None] * own + (1 - fraction[:, None]) * others, equal_nan=True
    )
    weights = [torch.from_numpy(task.train.weight[of]) for of in (rows, drawn.partners)]
    torch.testing.assert_close(drawn.weights, fraction * weights[0] + (1 - fraction) * weights[1])
    unknown = torch.isnan(drawn.targets)
    assert torch.equal(unknown, torch.isnan(own) | torch.isnan(others))
    assert unknown.any() == (kind == "multilabel")
    answers = torch.zeros(24, own.shape[1])
    assert all(torch.isfinite(of) for of in task.objective.sums(answers, drawn.targets, drawn.weights))


OTHERS = {
    "the same": ("multilabel", 3, True),
    "classes": ("classes", 3, False),
    "a number": ("regression", 3, False),
    "more labels": ("multilabel", 4, False),
    "grades, of as many outputs": ("ordinal", 4, False),
}


@pytest.mark.parametrize("kind, names, same", OTHERS.values(), ids=list(OTHERS))
def test_a_warm_start_takes_the_last_layer_over_from_a_model_that_answers_the_same_alone(
    datasets, tmp_path, capsys, kind, names, same
):
    write_dataset_h5(tmp_path / "former.h5", kind=kind, classes=names)
    write_model_pt(tmp_path / "former.pt", tmp_path / "former.h5", arguments={"widths": [16]})
    former, _ = checkpoint.load(tmp_path / "former.pt")
    _, run = begun(datasets["multilabel"], warm_start=str(tmp_path / "former.pt"), seed=3)
    layers, of_former = (list(model.network.parameters()) for model in (run.model, former))
    assert torch.equal(layers[0], of_former[0])
    assert same == (layers[-2].shape == of_former[-2].shape and torch.equal(layers[-2], of_former[-2]))
    said = capsys.readouterr().err
    assert ("but for layers" in said) == (not same) and "train.warm_start: weights taken over" in said


def test_a_warm_start_from_classes_in_another_order_leaves_the_last_layer_out(datasets, tmp_path, capsys):
    write_model_pt(tmp_path / "former.pt", datasets["classes"], arguments={"widths": [16]})
    content = torch.load(tmp_path / "former.pt", weights_only=True)
    about = content["recipe"]["description"]
    about["classes"] = about["target"]["names"] = about["classes"][::-1]
    torch.save(content, tmp_path / "former.pt")
    begun(datasets["classes"], warm_start=str(tmp_path / "former.pt"))
    assert "weights taken over, but for layers" in capsys.readouterr().err


def test_a_training_split_of_which_nothing_counts_is_refused(datasets, tmp_path):
    dataset_h5 = rewritten(datasets["ordinal"], tmp_path / "d.h5", "train/weight", np.zeros_like)
    with pytest.raises(UserError, match="d.h5 has no training case that counts: .* unknown or of weight 0"):
        train_on(dataset_h5, tmp_path / "out", LEARNS)
