"""The recipes: params that the pipeline accepts, and trainings that can begin."""

import pytest
import torch

from stages.lib import params
from stages.lib.model.networks import NETWORKS
from stages.lib.train import losses, optimizers
from stages.lib.train.schedules import Schedule
from tests import ROOT

pytestmark = pytest.mark.slow  # by torch.optim.Muon's imports
BLOCKS = {
    f"{path.stem}/{name}": block
    for path in sorted((ROOT / "recipes").glob("*.yaml"))
    for name, block in params.load(path).datasets.items()
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_network_learns_with_the_optimizer_the_schedule_and_the_loss(name):
    train = BLOCKS[name]["train"]
    torch.manual_seed(0)
    network = NETWORKS[train.network.name](3, 2, (32, 32), **train.network.arguments)
    optimizer = optimizers.make(train, network, 2)
    schedule = Schedule(train.schedule, optimizer, epochs=4, batches=2)
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    found = []
    for _ in range(8):
        loss = losses.cross_entropy(network(x), torch.nn.functional.one_hot(y).float()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.after_batch()
        found.append(loss.item())
    assert found[-1] < found[0]


def test_the_rate_of_cifar10_falls_in_a_line_to_zero_whatever_the_number_of_batches():
    train = BLOCKS["cifar10/cifar10"]["train"]
    network = NETWORKS[train.network.name](3, 10, (32, 32), **train.network.arguments)
    optimizer = optimizers.make(train, network, 10)
    schedule = Schedule(train.schedule, optimizer, epochs=8, batches=5)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after_batch()
    falls = [a - b for a, b in zip(rates, rates[1:], strict=False)]
    assert rates[0] == pytest.approx(train.lr, rel=0.03) and rates[-1] < 0.01 * train.lr
    assert max(falls) - min(falls) < 1e-6
