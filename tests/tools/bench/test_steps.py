"""Steps of the train stage against steps of the network alone."""

import pytest

from tools.bench import loading, steps


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8, 8)])
def test_the_network_alone_has_the_loss_of_the_stages_first_step(shape, tmp_path, monkeypatch):
    kind = steps.Kind({"name": "fully_connected", "arguments": {"widths": [8]}}, shape, 64, 2)
    compared = []
    monkeypatch.setattr(steps, "agree", lambda *losses: compared.append(losses) or True)
    rows = steps.compare("fully_connected", kind, tmp_path, rounds=1)
    assert len(compared) == 1
    assert compared[0][0] == pytest.approx(compared[0][1], rel=1e-3)
    assert [(row.work, len(row.ours), len(row.theirs)) for row in rows] == [("a step of fully_connected", 1, 1)]


def test_losses_of_other_weights_do_not_agree():
    assert steps.agree(0.7, 0.7001)
    assert not steps.agree(0.7, 0.71)


def test_a_step_of_the_stage_learns(tmp_path):
    x = loading.make(8, 64)
    ours = loading.prepare(x, tmp_path, {"network": {"name": "fully_connected", "arguments": {"widths": [8]}}})
    losses = [loss for loss, _ in zip(steps.stage_steps(ours), range(30), strict=False)]
    assert losses[-1] < losses[0]
