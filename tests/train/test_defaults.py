"""A block without choices trains well, and what it leaves open follows from the data."""

import pytest

from stages.lib.params import check
from stages.lib.params.train import TrainParams
from stages.lib.train.setup import settled
from tests.train.test_train import train_on


def of(cases: int, shape: tuple[int, ...] = (3, 32, 32), **given: object) -> TrainParams:
    return settled(check(TrainParams, given), cases, shape)


@pytest.mark.parametrize(
    ("cases", "epochs", "batch_size"),
    [(1_000_000, 20, 64), (1258, 20, 64), (420, 29, 32), (60, 100, 16), (3, 100, 16)],
)
def test_few_cases_get_more_epochs_in_smaller_batches(cases, epochs, batch_size):
    params = of(cases)
    assert (params.epochs, params.batch_size) == (epochs, batch_size)


@pytest.mark.parametrize(
    ("shape", "batch_size", "shift"),
    [
        ((1, 8, 8), 64, (0, 0)),
        ((3, 224, 448), 4, (14, 28)),
        ((1, 64, 64, 64), 8, (4, 4, 4)),
        ((3, 128, 128), 32, (8, 8)),
    ],
)
def test_large_samples_come_in_smaller_batches_and_are_shifted_by_a_sixteenth(shape, batch_size, shift):
    params = of(10_000, shape)
    assert (params.batch_size, params.augment.shift) == (batch_size, shift)
    assert not params.augment.flip


def test_what_is_given_stays():
    given = {"epochs": 3, "batch_size": 10, "augment": {"shift": [2], "flip": "W"}, "preset": "best"}
    params = of(100, **given)
    assert (params.epochs, params.batch_size, params.augment.shift, params.augment.flip) == (3, 10, (2,), "W")
    assert of(100, accumulate=20).batch_size == 20
    assert of(100_000, preset="quick", progressive={"epochs": 30}).epochs == 31


@pytest.mark.parametrize(
    ("given", "keep"),
    [
        ({}, "last"),
        ({"patience": 3}, "best_loss"),
        ({"schedule": {"name": None}}, "best_loss"),
        ({"keep": "best_loss"}, "best_loss"),
    ],
)
def test_the_last_epoch_is_kept_where_the_rate_has_come_to_rest(given, keep):
    assert of(1000, **given).keep == keep


def test_presets_differ_in_epochs_and_the_best_in_its_network_unless_that_is_chosen():
    quick, good, best = (of(100_000, preset=preset) for preset in ("quick", "good", "best"))
    assert (quick.epochs, good.epochs, best.epochs) == (10, 20, 60)
    assert quick.network == good.network
    assert best.network.arguments == {"widths": [32, 64, 128], "pooling": "both"}
    assert best.loss.label_smoothing == 0.1 and best.average == 0.98
    own = of(100_000, preset="best", network={"name": "residual"}, average=None)
    assert (own.network.name, own.network.arguments, own.average) == ("residual", {}, None)
    narrow = of(100_000, preset="best", network={"name": "compact", "arguments": {"widths": [8]}}, keep="best_loss")
    assert narrow.network.arguments == {"widths": [8], "pooling": "both"} and narrow.keep == "best_loss"


@pytest.mark.slow
@pytest.mark.parametrize("data", ["images_h5", "volumes_h5"])
def test_training_without_a_choice_learns(data, request, tmp_path):
    _, _, history = train_on(request.getfixturevalue(data), tmp_path, {"threads": 1})
    assert history["validation_accuracy"].iloc[-1] > 0.9


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "Rprop", "LBFGS"])
def test_the_default_schedule_takes_any_optimizer(optimizer, images_h5, tmp_path):
    train_on(images_h5, tmp_path, {"threads": 1, "epochs": 1, "optimizer": {"name": optimizer}})


def test_a_scheduler_of_epochs_steps_every_epoch(images_h5, tmp_path):
    given = {"epochs": 3, "lr": 0.01, "schedule": {"name": "StepLR", "arguments": {"step_size": 1, "gamma": 0.5}}}
    _, _, history = train_on(images_h5, tmp_path, {"threads": 1} | given)
    assert history["lr"].tolist() == pytest.approx([0.01, 0.005, 0.0025])
