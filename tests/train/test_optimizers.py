import copy
import math
from typing import get_args

import pytest
import torch
from torch import nn

from stages.lib import params
from stages.lib.core.errors import UserError
from stages.lib.params.train import Optimizer, ScheduleParams, Scheduler, TrainParams
from stages.lib.train import optimizers
from stages.lib.train.schedules import Schedule
from tests.train.test_train import LEARNS, train_on

OPTIMIZERS = sorted(get_args(Optimizer))
SCHEDULERS = sorted(get_args(Scheduler))
NEEDED = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ExponentialLR": {"gamma": 0.9},
    "CyclicLR": {"base_lr": 0.01, "cycle_momentum": False},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "OneCycleLR": {"cycle_momentum": False},
}


def subclasses(module, kind):
    return {n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, kind) and n[0] != "_"}


def test_every_optimizer_and_scheduler_that_can_be_made_from_plain_values_is_a_choice():
    needs_sparse_gradients = {"SparseAdam"}
    need_functions_or_others = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}
    optimizers_, schedulers = torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler
    assert {*OPTIMIZERS, "Optimizer"} == subclasses(torch.optim, optimizers_) - needs_sparse_gradients
    assert {*SCHEDULERS, "LRScheduler"} == subclasses(torch.optim.lr_scheduler, schedulers) - need_functions_or_others


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_takes_a_step_by_its_name(name, images_h5, tmp_path):
    given = LEARNS | {"optimizer": {"name": name}, "lr": 0.01, "epochs": 1}
    _, _, history = train_on(images_h5, tmp_path / "out", given)
    assert history["validation_loss"].notna().all()


def schedule_of(lr=0.1, epochs=6, batches=5, **given):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    schedule = Schedule(params.check(ScheduleParams, given), optimizer, epochs, batches)
    rates = []
    for _ in range(epochs):
        for _ in range(batches):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_batch()
        schedule.after_epoch(1.0)
    return rates


@pytest.mark.filterwarnings("ignore:.*The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_of_torch_moves_the_rate_by_its_name(name):
    rates = schedule_of(name=name, arguments=NEEDED.get(name, {"patience": 1} if "Plateau" in name else {}))
    assert len(set(rates)) > 1 or name == "ConstantLR"
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates)


def test_warm_up_rises_to_the_rate_and_the_scheduler_begins_after_it():
    rates = schedule_of(name="StepLR", arguments={"step_size": 1, "gamma": 0.5}, warmup_epochs=2)
    assert rates[0] == pytest.approx(0.001)
    assert rates[:11] == sorted(rates[:11])
    assert [rates[10], rates[15], rates[20]] == pytest.approx([0.1, 0.05, 0.025])


def test_a_one_cycle_ends_with_the_last_batch():
    rates = schedule_of(name="OneCycleLR", every="batch", arguments={"cycle_momentum": False})
    assert max(rates) == pytest.approx(0.1, rel=0.01)
    assert rates[-1] < 1e-3


def test_the_l2_penalty_and_weight_decay_are_the_same_for_sgd(images_h5, tmp_path):
    network = {"name": "fully_connected", "arguments": {"widths": [8]}}
    plain = {"optimizer": {"name": "SGD"}, "schedule": {"name": None}}
    given = LEARNS | plain | {"network": network, "batch_size": 5, "keep": "last"}
    train_on(images_h5, tmp_path / "penalty", given | {"loss": {"l2": 0.05}})
    decay = {"optimizer": {"name": "SGD", "arguments": {"weight_decay": 0.1}}}
    train_on(images_h5, tmp_path / "decay", given | decay)
    train_on(images_h5, tmp_path / "neither", given)
    penalty, decay, neither = (
        torch.load(tmp_path / name / "model.pt", weights_only=True)["weights"]["network.layers.1.weight"]
        for name in ("penalty", "decay", "neither")
    )
    torch.testing.assert_close(penalty, decay, rtol=1e-4, atol=1e-6)
    assert (penalty - neither).abs().max() > 1e-2


def test_the_l1_penalty_pulls_weights_to_zero(images_h5, tmp_path):
    given = LEARNS | {"keep": "last", "epochs": 10}
    train_on(images_h5, tmp_path / "l1", given | {"loss": {"l1": 0.1}})
    train_on(images_h5, tmp_path / "none", given)
    sizes = [
        torch.load(tmp_path / name / "model.pt", weights_only=True)["weights"]["network.layers.1.weight"].abs().mean()
        for name in ("l1", "none")
    ]
    assert sizes[0] < 0.5 * sizes[1]


def test_the_body_and_the_last_layer_have_rates_of_their_own():
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    body, head = optimizers.groups(network, 3, 0.1, 0.5)
    assert (body["lr"], head["lr"]) == (0.05, 0.1)
    assert [p.shape for p in head["params"]] == [(3, 8), (3,)]
    optimizers.groups(network, 3, 0.1, 0)
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


def small(layout=torch.contiguous_format, **given):
    """A network of convolutions (of one channel, of one pixel), norm and last layer, and the optimizer it is given."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 2, 3),
        nn.Conv2d(2, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    network = nn.Sequential(*layers).to(memory_format=layout)
    return network, optimizers.make(params.check(TrainParams, given), network, 3)


def learn(network, optimizer, x):
    optimizer.zero_grad()
    network(x).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_a_kernel_as_the_matrix_with_one_row_per_output(layout):
    network, optimizer = small(layout, optimizer={"name": "Muon", "arguments": {"weight_decay": 0.2}}, lr=0.02)
    kernels = [layer.weight for layer in network[:3]]
    matrices = [nn.Parameter(kernel.detach().reshape(len(kernel), -1).clone()) for kernel in kernels]
    plain = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.2)
    for _ in range(3):
        learn(network, optimizer, torch.randn(5, 1, 6, 6))
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = kernel.grad.reshape(matrix.shape)
        plain.step()
    for kernel, matrix in zip(kernels, matrices, strict=True):
        assert torch.equal(kernel.detach().reshape(matrix.shape), matrix)


def test_what_muon_does_not_move_has_an_optimizer_of_its_own():
    others = {"name": "SGD", "lr": 0.5, "arguments": {"momentum": 0.9}}
    network, optimizer = small(optimizer={"name": "Muon", "others": others}, lr=0.02, body_lr=0.1)
    last, bias = network[5].weight, network[0].bias
    copies = [p.detach().clone().requires_grad_() for p in (last, bias)]
    plain = torch.optim.SGD([{"params": copies[:1]}, {"params": copies[1:], "lr": 0.05}], 0.5, 0.9)
    for _ in range(3):
        learn(network, optimizer, torch.randn(5, 1, 6, 6))
        copies[0].grad, copies[1].grad = last.grad, bias.grad
        plain.step()
    torch.testing.assert_close([last.detach(), bias.detach()], [copy.detach() for copy in copies])
    assert optimizer.param_groups[-1]["lr"] == 0.02  # of the last layer: what the history shows is train.lr


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("OneCycleLR", {"max_lr": 0.04}),
        ("CyclicLR", {"base_lr": 0.002, "max_lr": 0.04, "step_size_up": 3}),
        ("CosineAnnealingLR", {"eta_min": 0.001}),
    ],
)
def test_a_schedule_of_absolute_rates_moves_the_other_rate_in_proportion(name, given):
    _, optimizer = small(optimizer={"name": "Muon", "others": {"name": "SGD", "lr": 0.2}}, lr=0.02)
    schedule = Schedule(
        params.check(ScheduleParams, {"name": name, "every": "batch", "arguments": given}), optimizer, 1, 6
    )
    seen = set()
    for _ in range(5):
        optimizer.step()
        muon, other = (part.param_groups[0]["lr"] for part in optimizer._two)
        assert (muon, other) == pytest.approx((optimizer.param_groups[-1]["lr"], 10 * muon))
        seen.add(muon)
        schedule.after_batch()
    assert len(seen) > 2


def test_muon_goes_on_from_its_state_to_the_bit_and_its_momentum_is_cycled():
    def make():
        network, optimizer = small(optimizer={"name": "Muon"}, lr=0.02)
        given = {"name": "OneCycleLR", "every": "batch"}
        return network, optimizer, Schedule(params.check(ScheduleParams, given), optimizer, 1, 6)

    x = torch.randn(6, 5, 1, 6, 6)
    network, optimizer, schedule = make()
    for i in range(6):
        if i == 3:
            network_, optimizer_, schedule_ = make()
            network_.load_state_dict(network.state_dict())
            optimizer_.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            schedule_.load_state_dict(schedule.state_dict())
            network, optimizer, schedule = network_, optimizer_, schedule_
        learn(network, optimizer, x[i])
        schedule.after_batch()
    straight, optimizer, schedule = make()
    momenta = set()
    for i in range(6):
        learn(straight, optimizer, x[i])
        momenta.add(optimizer._two[0].param_groups[0]["momentum"])
        schedule.after_batch()
    assert all(map(torch.equal, network.state_dict().values(), straight.state_dict().values()))
    assert len(momenta) > 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": {"name": "Muon", "arguments": {"momentun": 0.9}}}, r"arguments\.momentun is unknown to Muon"),
        ({"optimizer": {"name": "Muon", "arguments": {"ns_steps": 100}}}, r"train\.optimizer\.arguments: Muon refused"),
        (
            {"optimizer": {"name": "Muon", "others": {"arguments": {"betas": 1}}}},
            r"train\.optimizer\.others\.arguments: AdamW refused",
        ),
        (
            {"optimizer": {"name": "Muon", "others": {"arguments": {"lr": 0.1}}}},
            r"filled in; use train\.optimizer\.others\.lr instead",
        ),
        ({"optimizer": {"name": "AdamW", "arguments": {"betas": {"a": 1, "b": 2}}}}, r"AdamW refused it"),
        ({"optimizer": {"name": "ASGD", "arguments": {"alpha": 1e9}}}, r"ASGD refused it"),
        ({"optimizer": {"name": "Muon", "arguments": {"eps": "x"}}}, r"Muon refused it: [^\n]*$"),
        ({"optimizer": {"name": "Muon"}, "body_lr": 0}, r"none learns here"),
    ],
)
def test_what_an_optimizer_can_not_do_ends_with_a_message(given, message):
    with pytest.raises(UserError, match=message):
        small(**given)


def test_an_optimizer_that_moves_everything_takes_no_other():
    with pytest.raises(ValueError, match="others is for Muon"):
        params.check(TrainParams, {"optimizer": {"name": "SGD", "others": {"name": "AdamW"}}})


def test_a_plateau_is_not_seen_where_losses_do_not_compare():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    given = params.check(ScheduleParams, {"name": "ReduceLROnPlateau", "arguments": {"patience": 0}})
    schedule = Schedule(given, optimizer, 4, 1)
    for loss, comparable in ((0.1, False), (0.5, True), (0.4, True)):  # the first is of shrunk samples
        optimizer.step()
        schedule.after_batch()
        schedule.after_epoch(loss, comparable)
    assert optimizer.param_groups[0]["lr"] == 0.1
    schedule.after_epoch(0.45)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
