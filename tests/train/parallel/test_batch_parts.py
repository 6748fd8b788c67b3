import pytest
import torch
from torch import nn

from stages.lib.train.batches import own_parts
from stages.lib.train.parallel import batch_parts, distributed
from stages.lib.train.parallel.distributed import World


def test_sums_of_powers_of_two_have_the_same_bits_whoever_sums_which_part():
    numbers = list(torch.randn(8, 1000).split(1))
    alone = batch_parts.pairwise(numbers, lambda x: [x.clone()])[0]
    for processes in (2, 4, 8):
        own = [numbers[i : i + 8 // processes] for i in range(0, 8, 8 // processes)]
        branches = [batch_parts.pairwise(branch, lambda x: [x.clone()])[0] for branch in own]
        assert torch.equal(batch_parts.pairwise(branches, lambda x: [x.clone()])[0], alone)


def test_whole_parts_are_dealt_out_where_they_can_be_and_every_part_is_cut_where_not():
    dealt = [own_parts(10, 4, World(rank, 2)) for rank in range(2)]
    assert [[list(part.rows) for part in own] for own in dealt] == [[[0, 1], [2, 3, 4]], [[5, 6], [7, 8, 9]]]
    assert [part.index for part in dealt[1]] == [2, 3]
    cut = [own_parts(10, 3, World(rank, 2)) for rank in range(2)]
    assert [[list(part.rows) for part in own] for own in cut] == [[[0], [3], [6, 7]], [[1, 2], [4, 5], [8, 9]]]
    assert [(part.start, part.total) for part in cut[1]] == [(1, 3), (1, 3), (2, 4)]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_move_by_one_part_after_the_other_as_batch_norm_moves_them_itself(momentum, monkeypatch):
    x = torch.randn(2, 6, 3, 5, 5)
    alone, dealt = nn.BatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
    for part in (*x, *x):
        alone(part)
    gathered = []
    for _ in range(2):  # two steps
        for part in x:  # two processes of one part each
            layer = nn.BatchNorm2d(3, momentum=momentum)
            layer.load_state_dict(dealt.state_dict())
            statistics = batch_parts.RunningStatistics(layer)
            layer(part)
            statistics.record()
            gathered.append(statistics._of_parts[0][None])
        monkeypatch.setattr(distributed, "gather", lambda world, own: gathered[-2:])
        statistics.update(World(1, 2))
        dealt.load_state_dict(layer.state_dict())
    assert layer.momentum == momentum
    torch.testing.assert_close(dealt.state_dict(), alone.state_dict())


def test_batch_norms_that_keep_still_are_left_alone():
    network = nn.Sequential(nn.BatchNorm1d(3).eval(), nn.BatchNorm1d(3, track_running_stats=False))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    statistics = batch_parts.RunningStatistics(network)
    network(torch.randn(4, 3))
    statistics.record()
    statistics.update(World())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
