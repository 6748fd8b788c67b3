import numpy as np
import pytest

from stages.lib import tensors
from stages.lib.splits import SPLITS
from stages.lib.train.diagnosis import diagnose
from tests.train.test_train import train_on


def history(train, validation, accuracies=(0.9, 0.9), gradients=(0.01, 0.02)):
    return [
        {
            "epoch": i + 1,
            "train_loss": t,
            "validation_loss": v,
            "train_accuracy": accuracies[0],
            "validation_accuracy": accuracies[1],
            "gradient first": gradients[0],
            "gradient last": gradients[1],
        }
        for i, (t, v) in enumerate(zip(train, validation, strict=True))
    ]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (history([2, 1, 0.5], [2, 1, 0.6]), "sound"),
        (history([2, 1, 0.1], [2, 1, 1.5]), "overfitting"),
        (history([2, 1, 0.1], [2, 1, 0.9], (0.99, 0.8)), "overfitting"),
        (history([2, 1.9, 1.9], [2, 1.9, 1.9], (0.6, 0.6)), "too simple"),
        (history([2, 2], [2, 2], (0.3, 0.3)), "too short"),
        (history([0.48, 0.4], [0.42, 0.4], (0.87, 0.86)), "too short"),
        (history([2, 2, 2], [2, 2, 2], (0.3, 0.3), (1e-7, 0.1)), "vanishing gradients"),
        (history([2, 2, 2], [2, 2, 2], (0.3, 0.3), (100, 0.01)), "exploding gradients"),
        (history([0.5, 0.45, 0.44], [0.5, 0.45, 0.45], (0.99, 0.98)), "sound"),  # a smoothed loss has a floor
        (history([2, 1, 0.5], [np.nan] * 3, (0.9, np.nan)), "sound"),  # no validation split
    ],
)
def test_curves_and_gradients_give_the_verdict_of_the_rules_of_thumb(rows, verdict):
    diagnosis = diagnose(rows)
    assert diagnosis["verdict"] == verdict
    assert diagnosis["sentence"].startswith(f"{verdict}: training loss {rows[0]['train_loss']:.3g} -> ")


def test_shrunk_samples_losses_are_not_compared_with_whole_ones():
    rows = history([2, 1, 0.9, 0.8], [0.3, 0.5, 0.45, 0.4])
    assert diagnose(rows)["verdict"] == "overfitting"
    diagnosis = diagnose(rows, shrunk_epochs=1)
    assert (diagnosis["verdict"], diagnosis["lowest_validation_loss"], diagnosis["first_train_loss"]) == (
        "sound",
        0.4,
        2,
    )


@pytest.mark.slow
def test_a_deep_network_of_sigmoids_is_told_that_its_gradients_vanish(images_h5, tmp_path):
    deep = {"name": "fully_connected", "arguments": {"widths": [16] * 12, "activation": "Sigmoid"}}
    _, summary, _ = train_on(images_h5, tmp_path / "out", {"network": deep, "epochs": 4, "lr": 0.1})
    assert summary["diagnosis"]["verdict"] == "vanishing gradients"


@pytest.mark.slow
def test_a_network_that_learns_labels_by_heart_is_told_that_it_overfits(images_h5, tmp_path):
    about, splits = tensors.read_description(images_h5), [tensors.read_split(images_h5, n) for n in SPLITS]
    rng = np.random.default_rng(0)
    with tensors.writing(tmp_path / "noise.h5", (1, 8, 8), "uint8") as writer:
        for name, split in zip(SPLITS, splits, strict=True):
            writer.write_split(name, split.x, rng.integers(0, 3, len(split.y)), split.cases, split.groups)
        writer.describe(about)
    given = {"optimizer": {"name": "Adam"}, "lr": 0.01, "network": {"name": "fully_connected"}, "epochs": 25}
    _, summary, _ = train_on(tmp_path / "noise.h5", tmp_path / "out", given)
    assert summary["diagnosis"]["verdict"] == "overfitting"
