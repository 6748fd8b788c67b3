import numpy as np
import pytest
import torch

from stages.lib.core.errors import UserError
from tools.bench import export, export_peers
from tools.bench.export_peers import PEERS, Given, Peer

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Softmax(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(1)


def answering(offset: float):
    """Answers as the network does, but for an offset."""
    return lambda x: (Softmax()(torch.from_numpy(x)).numpy() + offset,)


@pytest.fixture
def given(tmp_path) -> Given:
    return Given(Softmax().eval(), tmp_path / "model.onnx", X, tmp_path)


@pytest.fixture
def race(monkeypatch):
    """One round of one file and, by PEERS, other runtimes, without pauses."""
    monkeypatch.setattr(export, "TURN_SECONDS", 0)
    monkeypatch.setattr(export, "PAUSE_SECONDS", 0)
    runners = {export.NETWORK: answering(0), export.ONNX: answering(0)}
    return lambda others: export.at(2, "pets", runners, X, 1, others)


def test_the_network_answers_as_arrays(given):
    np.testing.assert_allclose(export_peers.eager(given)(X)[0], answering(0)(X)[0])


def test_a_runtime_that_is_not_installed_says_what_it_needs(given):
    assert export_peers.made(Peer("x", "no_such_package", export_peers.eager, ""), given) == (
        "not installed: no_such_package"
    )


def test_a_runtime_that_cannot_take_the_network_says_why(given):
    def make(given: Given) -> export_peers.Run:
        raise RuntimeError("no such operator\nand pages more")

    assert export_peers.made(Peer("x", "json", make, ""), given) == "failed: no such operator"


def test_the_onnx_file_has_a_row_against_every_runtime_those_that_there_are_not_too(race):
    others = {peer.name: answering(0) if i else "not installed: it" for i, peer in enumerate(PEERS)}
    file, *rows = race(others)
    assert (file.work, file.peer) == ("pets, model.onnx, batch of 2", export.NETWORK)
    assert [of.peer for of in rows] == [peer.name for peer in PEERS]
    assert [(len(of.ours), len(of.theirs)) for of in rows] == [(1, 0), *[(1, 1)] * (len(PEERS) - 1)]
    assert rows[0].absent == "not installed: it" and not rows[1].absent


def test_a_runtime_that_answers_otherwise_is_refused_before_it_is_timed(race):
    with pytest.raises(UserError, match="gives another result than the network"):
        race({PEERS[0].name: answering(0.01)})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # they are the libraries' own
@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.name != "AOTInductor"], ids=lambda peer: peer.needs)
def test_every_runtime_answers_as_the_network(peer, given):
    torch.onnx.export(given.network, (torch.from_numpy(X),), given.onnx, dynamo=True, verbose=False)
    run = export_peers.made(peer, given)
    if isinstance(run, str):
        pytest.skip(run)
    np.testing.assert_allclose(run(X)[0], answering(0)(X)[0], atol=1e-6)
