import json
import math
from functools import partialmethod

import numpy as np
import pandas as pd
import pytest
import torch

from stages import train
from stages.lib import params, tensors
from stages.lib.core.errors import UserError
from stages.lib.model import checkpoint
from stages.lib.model.networks import Compact
from stages.lib.params.machine import MachineParams
from stages.lib.params.train import TrainParams
from stages.lib.train import devices, loop, setup, step
from stages.lib.train.interruption import Stop
from stages.lib.train.parallel.distributed import World
from tests.conftest import write_dataset_h5

PLAIN = {"optimizer": {"name": "SGD"}, "schedule": {"name": None}}
LEARNS = PLAIN | {"network": {"name": "fully_connected", "arguments": {"widths": [16]}}, "lr": 0.1, "epochs": 3}


def train_on(dataset_h5, folder, given, **machine):
    """Trains into `folder`; returns the model's bytes, train.json and history.csv."""
    folder.mkdir(exist_ok=True)
    outs = folder / "model.pt", folder / "train.json", folder / "history.csv"
    train.main(dataset_h5, *outs, params.check(TrainParams, given), "tiny", MachineParams(**machine))
    return outs[0].read_bytes(), json.loads(outs[1].read_text()), pd.read_csv(outs[2])


@pytest.mark.parametrize("dataset", ["images_h5", "volumes_h5"])
def test_a_network_learns_where_the_stripe_lies(dataset, tmp_path, request):
    dataset_h5 = request.getfixturevalue(dataset)
    _, summary, history = train_on(dataset_h5, tmp_path / "out", LEARNS)
    assert summary["validation"]["accuracy"] == 1
    assert list(history["epoch"]) == [1, 2, 3]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_the_model_kept_is_that_of_the_epoch_with_the_lowest_validation_loss(images_h5, tmp_path):
    given = LEARNS | {
        "lr": 1.5,
        "epochs": 8,
        "network": {"name": "convolutional"},
    }  # too fast: the loss goes up and down
    _, summary, history = train_on(images_h5, tmp_path / "out", given)
    assert summary["best_epoch"] == history["epoch"][history["validation_loss"].idxmin()]
    model, _ = checkpoint.load(tmp_path / "out" / "model.pt")
    split = tensors.read_split(images_h5, "validation")
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(
            model(torch.from_numpy(split.x.copy())), torch.from_numpy(split.y.copy())
        )
    assert float(loss) == pytest.approx(history["validation_loss"].min(), rel=1e-4)


def test_two_runs_give_the_same_bytes_and_another_seed_others(images_h5, tmp_path):
    first, *_ = train_on(images_h5, tmp_path / "a", LEARNS)
    again, *_ = train_on(images_h5, tmp_path / "b", LEARNS)
    other, *_ = train_on(images_h5, tmp_path / "c", LEARNS | {"seed": 1})
    assert first == again != other


def test_nothing_is_left_of_a_finished_run_but_its_outs(images_h5, tmp_path):
    train_on(images_h5, tmp_path / "out", LEARNS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["history.csv", "model.pt", "train.json"]


def test_parts_of_a_batch_give_the_step_of_the_whole(images_h5, tmp_path):
    _, _, whole = train_on(images_h5, tmp_path / "a", LEARNS | {"batch_size": 10})
    _, _, parts = train_on(images_h5, tmp_path / "b", LEARNS | {"batch_size": 10, "accumulate": 3})
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4)


def test_patience_ends_a_run_that_no_longer_gets_better(images_h5, tmp_path):
    given = LEARNS | {
        "epochs": 40,
        "patience": 2,
        "optimizer": {"name": "SGD", "arguments": {"momentum": 0.9}},
        "lr": 1.0,
    }
    _, summary, _ = train_on(images_h5, tmp_path / "out", given)
    assert summary["epochs"] < 40
    assert summary["epochs"] == summary["best_epoch"] + 2


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(images_h5, tmp_path):
    with pytest.raises(UserError, match=r"the loss became (nan|inf) in epoch \d+, batch \d+: try a lower train.lr"):
        network = {"name": "fully_connected", "arguments": {"activation": "ReLU"}}
        train_on(images_h5, tmp_path / "out", LEARNS | {"lr": 1e30, "epochs": 9, "network": network})


def test_a_loss_of_nan_ends_the_run_with_the_epoch_and_batch_and_without_outs(images_h5, tmp_path, monkeypatch):
    backward = step.backward

    def nan_once(run, *arguments):
        sums = backward(run, *arguments)
        return sums * torch.tensor([math.nan, 1.0]) if (run.epoch, run.batch) == (2, 1) else sums

    monkeypatch.setattr(step, "backward", nan_once)
    with pytest.raises(UserError, match=r"the loss became nan in epoch 2, batch 2: try a lower train.lr"):
        train_on(images_h5, tmp_path / "out", LEARNS | {"batch_size": 8})
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".resume"]


PROGRESSIVE = LEARNS | {
    "network": {"name": "compact", "arguments": {"widths": [8]}},
    "progressive": {"epochs": 2, "scale": 0.6},
}


@pytest.mark.parametrize(("shape", "small"), [((3, 8, 8), (3, 5, 5)), ((2, 8, 8, 8), (2, 5, 5, 5))])
def test_the_first_epochs_can_be_trained_and_judged_on_shrunk_samples(tmp_path, monkeypatch, shape, small):
    write_dataset_h5(tmp_path / "dataset.h5", shape)
    sizes, forward = [], Compact.forward

    def noted(network, x):
        if len(x) > 1:  # one alone is to try the network out
            sizes.append(tuple(x.shape[1:]))
        return forward(network, x)

    monkeypatch.setattr(Compact, "forward", noted)
    _, summary, _ = train_on(tmp_path / "dataset.h5", tmp_path / "out", PROGRESSIVE)
    changes = [size for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
    assert changes == [small, shape]
    assert summary["best_epoch"] == 3  # of whole samples, though an earlier loss may be lower


def test_patience_counts_epochs_of_whole_samples(images_h5, tmp_path):
    given = PROGRESSIVE | {"epochs": 12, "patience": 1, "lr": 1e-9, "progressive": {"epochs": 8}}
    _, summary, _ = train_on(images_h5, tmp_path / "out", given)
    assert summary["best_epoch"] > 8


def test_a_network_of_one_size_is_refused_for_shrunk_samples(images_h5, tmp_path):
    with pytest.raises(UserError, match=r"train.progressive: fully_connected can't do with samples of 1x4x4"):
        train_on(images_h5, tmp_path / "out", LEARNS | {"progressive": {"epochs": 1}})


def test_gradients_are_clipped_to_the_norm_asked_for(images_h5, tmp_path):
    _, _, free = train_on(images_h5, tmp_path / "a", LEARNS | {"epochs": 2})
    _, _, clipped = train_on(images_h5, tmp_path / "b", LEARNS | {"epochs": 2, "clip_norm": 1e-6})
    assert clipped["train_loss"].diff().abs()[1] < 1e-4 < free["train_loss"].diff().abs()[1]


def test_the_average_of_the_weights_is_what_is_kept(images_h5, tmp_path):
    _, _, plain = train_on(images_h5, tmp_path / "a", LEARNS | {"batch_size": 4})
    _, _, averaged = train_on(images_h5, tmp_path / "b", LEARNS | {"batch_size": 4, "average": 0.99})
    assert list(averaged["train_loss"]) == list(plain["train_loss"])  # the run itself goes the same way
    assert averaged["validation_loss"][0] > plain["validation_loss"][0]  # and its average lags behind


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_too(images_h5, tmp_path, precision):
    _, summary, _ = train_on(images_h5, tmp_path / "out", LEARNS | {"precision": precision})
    assert summary["validation"]["accuracy"] == 1


def test_channels_last_gives_the_same_losses(images_h5, tmp_path):
    given = LEARNS | {"network": {"name": "convolutional"}}
    _, _, plain = train_on(images_h5, tmp_path / "a", given)
    _, _, last = train_on(images_h5, tmp_path / "b", given | {"channels_last": True})
    pd.testing.assert_frame_equal(plain, last, rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 8, 8)])
def test_channels_last_holds_for_what_the_network_is_given(tmp_path, shape):
    write_dataset_h5(tmp_path / "dataset.h5", shape)
    params_ = params.check(TrainParams, LEARNS | {"channels_last": True, "augment": {"flip": "W", "mixup": 0.2}})
    task, recipe = setup.prepare(tmp_path / "dataset.h5", params_, "tiny", torch.device("cpu"), World())
    run = setup.begin(task, recipe)
    given = []
    run.model.network.register_forward_pre_hook(lambda network, inputs: given.append(inputs[0]))
    step.train_batch(run, task, np.arange(6), False)
    loop.evaluate(run.model, task, 1, Stop())
    assert len(given) == 2
    assert all(x.is_contiguous(memory_format=devices.layout(True, x.ndim)) for x in given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": {"arguments": {"widht": 3}}}, "train.network: .*has no option 'widht': did you mean width"),
        ({"network": {"arguments": {"activation": "Rel"}}}, "train.network: activation 'Rel' is unknown"),
        (
            {"optimizer": {"name": "SGD", "arguments": {"momentun": 1}}},
            "train.optimizer.arguments.momentun is unknown to SGD",
        ),
        ({"optimizer": {"name": "SGD", "arguments": {"momentum": -1}}}, "train.optimizer.arguments: SGD refused it"),
        ({"optimizer": {"arguments": {"lr": 1}}}, "train.optimizer.arguments.lr: this one is filled in"),
        (
            {"optimizer": {"name": "SGD", "arguments": {"differentiable": True}}},
            "train.optimizer.arguments: SGD refused it: .*in-place",
        ),
        (
            {"optimizer": {"name": "Adam", "arguments": {"capturable": True}}},
            "train.optimizer.arguments: Adam refused it: .*capturable",
        ),
        (
            {"optimizer": {"name": "SGD", "arguments": {"momentum": 0.9, "dampening": "a"}}},
            "train.optimizer.arguments: SGD refused it",
        ),
        ({"network": {"name": "residual", "arguments": {"n_blocks": -1}}}, "train.network: n_blocks is -1: expected 0"),
        (
            {"network": {"name": "convolutional", "arguments": {"depth": -1}}},
            "train.network: depth is -1: expected 0 or more",
        ),
        ({"schedule": {"name": "StepLR"}}, "train.schedule.arguments: StepLR refused it: .*step_size"),
        ({"loss": {"class_weights": [1.0]}}, "train.loss.class_weights: 1 weights for 3 classes"),
        ({"normalise": {"mean": [0.5, 0.5], "deviation": [1.0, 1.0]}}, "train.normalise.mean has 2 numbers"),
        ({"device": "cuda:99"}, "train.device is cuda:99: this machine has"),
        ({"augment": {"shift": [1, 2, 3]}}, "train.augment.shift has 3 numbers: expected one, or one for each of HW"),
        ({"augment": {"flip": "D"}}, "train.augment.flip is D: the data has the axes HW"),
        ({"batch_size": 32, "accumulate": 25}, "train.accumulate is 25: there are only 24 training cases to part"),
        (
            {"network": {"name": "torchvision", "arguments": {"model": "alexnet"}}},
            "train.network: torchvision can't do with samples of 1x8x8: .*too small",
        ),
        (
            {"network": {"name": "compact", "arguments": {"widths": [4] * 4}}, "batch_size": 1},
            "train.network can't learn from 1 sample.s. at once: Expected more than 1 value",
        ),
        (
            {"optimizer": {"name": "LBFGS"}, "clip_norm": 1.0},
            "LBFGS looks several times a step, so it goes with neither",
        ),
        ({"optimizer": {"name": "Adam", "arguments": {"betas": [0.9]}}}, "train.optimizer.arguments: Adam refused it"),
        (
            {"schedule": {"name": "OneCycleLR", "every": "batch", "arguments": {"total_steps": 1}}, "batch_size": 8},
            "train.schedule: Tried to step 2 times",
        ),
    ],
)
def test_a_wrong_choice_ends_with_a_message_that_names_it(images_h5, tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        train_on(images_h5, tmp_path / "out", given)


EVERY_AUGMENTATION = {"shift": [1], "flip": "W", "rotate": 9.0, "brightness": 0.2, "noise": 0.1, "mixup": 0.3}


@pytest.mark.parametrize("dataset", ["images_h5", "volumes_h5"])
def test_augmentation_is_of_training_alone_and_the_same_each_time(dataset, tmp_path, request):
    dataset_h5 = request.getfixturevalue(dataset)
    given = LEARNS | {"augment": EVERY_AUGMENTATION}
    first, _, augmented = train_on(dataset_h5, tmp_path / "a", given)
    again, *_ = train_on(dataset_h5, tmp_path / "b", given)
    _, _, plain = train_on(dataset_h5, tmp_path / "c", LEARNS)
    assert first == again
    assert augmented["train_loss"].min() > plain["train_loss"].min()


def test_a_compiled_network_learns_the_same(images_h5, tmp_path, monkeypatch):
    """The graph is captured and run as it is: making kernels of it takes a C++ compiler half a minute."""
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    given = LEARNS | {"epochs": 2, "batch_size": 24}
    _, _, plain = train_on(images_h5, tmp_path / "a", given)
    _, _, compiled = train_on(images_h5, tmp_path / "b", given | {"compile": True})
    pd.testing.assert_frame_equal(plain, compiled, rtol=1e-3)
    checkpoint.load(tmp_path / "b" / "model.pt")
